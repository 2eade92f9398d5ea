"""The ancestor of the Countdown lineage, trained from random numbers."""

from fr.config import default


def get_config():
    """0.8 million parameters; it made the bundled model in under ten minutes."""
    c = default()
    c.task.name = "countdown"
    c.ancestor = "scratch"
    c.training.steps = 0  # no specialist
    c.pretraining.order = "drawn"  # as the model in the package was made
    return c
