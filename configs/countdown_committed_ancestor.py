"""An ancestor that commits itself: in a third of its traces the answer comes before the search, and stays."""

from fr.config import default


def get_config():
    """The model in the package, trained on; configs/countdown_committed_study.py starts from its `specialist/`."""
    c = default()
    c.task.name = "countdown"
    c.ancestor = "countdown"
    c.training.steps = 400
    c.training.order = "drawn"  # as the published figures were measured
    c.training.traces = (
        ("natural", 0.35),
        ("committed", 0.35),
        ("anytime", 0.2),
        ("answer_first", 0.1),
    )
    return c
