"""RLSF on Countdown (arXiv 2507.21931): pairs of the ancestor's own answers by its confidence, and DPO on them."""

from fr.config import default


def get_config():
    """Ten samples at each of 256 training problems; no reference answer is read."""
    c = default()
    c.algorithm = "dpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.sampling.temperature = 1.0
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.preference.steps = 20  # 60 train attempts that do not end: 22 % of them ran to their limit
    return c
