"""RLSF on Countdown (arXiv 2507.21931): DPO on pairs ranked by the model's
confidence."""

from fr.config import default


def get_config():
    """Ten samples at each of 256 training problems; no reference answer is read."""
    c = default()
    c.algorithm = "dpo"
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.sampling.temperature = 1.0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.preference.learning_rate = 1e-4
    c.preference.steps = 10  # 20 teach attempts that do not end, 40 wrong arithmetic
    return c
