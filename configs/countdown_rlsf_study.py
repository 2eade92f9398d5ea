"""Study: RLSF (arXiv 2507.21931) against the calibration error that GRPO causes.

The steps of RLSF were chosen on validation problems, from the ancestor (seed 0) and
from a GRPO model of seed 1: the lowest calibration error of the answer's span at no
cost in accuracy.
"""

from fr.config import default

_RLSF = (
    ("algorithm", "dpo"),
    # As the published figures were measured; the source cuts the answer off and has no
    # margin in DPO.
    ("preference.dpo_margin", "1.0"),
    ("preference.answer", "keep"),
    ("preference.learning_rate", "1e-4"),
    ("preference.steps", "10"),
)


def get_config():
    """For scripts/study.py: GRPO of configs/countdown_grpo.py, RLSF of
    countdown_rlsf.py."""
    c = default()
    c.algorithm = "grpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 128
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.ddof = 0  # as the published figures were measured
    c.policy.order = "drawn"
    c.policy.microbatch = 16
    c.policy.length_buckets = 8
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.sampling.temperature = 1.0  # of RLSF's candidates
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 16
    c.study.arms = (
        ("grpo", ()),
        ("grpo_rlsf", (("from", "grpo"), *_RLSF)),
        ("rlsf", _RLSF),
    )
    c.study.seeds = (5, 6, 7)
    c.study.primary = ("grpo_rlsf", "grpo", "ece_span")
    return c
