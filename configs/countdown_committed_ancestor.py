"""An ancestor that commits early: in a third of its traces the answer comes first."""

from fr.config import default


def get_config():
    """The bundled model, trained on; configs/countdown_committed_study.py starts from
    it."""
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
