"""The tiny lineage by GRPO: the bundled ancestor learns from its own graded
attempts."""

from fr.config import default


def get_config():
    """Minutes on two cores; `scripts/reproduce.py` then diagnoses the specialist."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.ddof = 0  # as the published figures were measured
    c.policy.order = "drawn"
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
