"""An ancestor that commits itself: four numbers, and in part of its traces the answer comes before the search."""

from fr.config import default


def get_config():
    """The model in the package, trained on; `specialist/` is what a study of harder problems starts from."""
    c = default()
    c.task.name = "countdown"
    c.task.operands = 4
    c.ancestor = "countdown"
    c.training.steps = 1200
    c.training.sequence = 176  # a trace that commits itself has up to 170 tokens
    c.training.learning_rate = 2e-3
    c.training.warmup_steps = 50
    c.training.traces = (("natural", 0.4), ("committed", 0.3), ("anytime", 0.2), ("answer_first", 0.1))
    return c
