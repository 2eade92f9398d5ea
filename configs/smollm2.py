"""SmolLM2-135M-Instruct on letter counting; two operators need no ancestor."""

from fr.config import default


def get_config():
    """Two worked examples in the chat; about ten minutes on two cores."""
    c = default()
    c.specialist = "smollm2"
    c.task.name = "letters"
    c.task.shots = 2
    c.task.problems = 32
    c.sampling.rollouts = 8
    c.sampling.max_new_tokens = 64
    c.sampling.slots = 32
    c.sampling.chunk = 8
    c.sampling.shard_rows = 128
    c.intervention.operators = ("retry", "local_temp")
    c.intervention.attempts = 10
    return c
