"""The ancestor of the Countdown lineage, from random numbers: the model in fr/assets/countdown."""

from fr.config import default


def get_config():
    """0.8 million parameters on genuine searches, a third of which fail; under ten minutes on two cores."""
    c = default()
    c.task.name = "countdown"
    c.ancestor = "scratch"
    c.training.steps = 0  # no specialist
    c.pretraining.order = "drawn"  # as the model in the package was made
    return c
