"""The ancestor of the Countdown lineage, from random numbers: 0.8 million parameters on half-successful searches."""

from fr.config import default


def get_config():
    """The model in fr/assets/countdown; about ten minutes on two cores."""
    c = default()
    c.task.name = "countdown"
    c.ancestor = "scratch"
    c.training.steps = 0  # no specialist
    return c
