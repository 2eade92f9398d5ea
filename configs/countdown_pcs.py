"""GRPO on the tiny lineage with progressive confidence shaping (arXiv 2605.24396)."""

from fr.config import default


def get_config():
    """configs/countdown_grpo.py with one more term; `pcs_shuffled` is its control."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    c.rewards.terms = (("correctness", 1.0), ("pcs", 1.0))
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    # Uncentred, under a mean of rows, the term pays for length too.
    c.policy.center_terms = "group"
    c.policy.microbatch = 16  # what a layer makes of them stays in a core's cache
    c.policy.length_buckets = 8  # most of the padding goes, and half of the time
    c.policy.learning_rate = 3e-4
    # Kept up, the rate undoes after 20 steps what it has done.
    c.policy.schedule = "cosine"
    # It learns to search longer: of 96 a fifth of its attempts spent all.
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 8
    c.policy.eval_problems = 128
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    return c
