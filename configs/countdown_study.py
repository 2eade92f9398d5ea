"""Study: progressive confidence shaping added to GRPO on the tiny lineage."""

from fr.config import default


def get_config():
    """For scripts/study.py. Seeds 0 and 1 chose the recipe and are not used again."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 128
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    # This and the next two lines: as the published figures were measured.
    c.policy.ddof = 0
    c.policy.order = "drawn"
    c.policy.center_terms = "none"
    c.policy.microbatch = 32
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    # Held-out problems are measured once, after the last step.
    c.policy.eval_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 16
    c.study.arms = (
        ("grpo", ()),
        ("pcs", (("rewards.terms", "(('correctness', 1.0), ('pcs', 1.0))"),)),
    )
    c.study.seeds = (2, 3, 4)
    c.study.primary = ("pcs", "grpo", "accuracy")
    return c
