"""Planted causes: specialists of one ancestor with known defects, and a control."""

from fr.config import default


def get_config():
    """For benchmarks/planted.py: an arm is a cause, which its training data plants."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 40
    c.sampling.rollouts = 16
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.sampling.probe_cuts = 6
    # The constants of configs/quickstart.py, for the same reason.
    c.diagnosis.warmup = 0.1
    c.diagnosis.window = 0.05
    c.diagnosis.quantile = 0.95
    c.diagnosis.failures = (1, 2, 4)
    # No router reads them; they say whether the defect is there.
    c.diagnosis.outside = True
    c.intervention.operators = (
        "retry",
        "sparse_steer",
        "dense_sampled",
        "hot",
        "wait",
        "prefix_restart",
        "calculator",
        "repair",
    )
    c.intervention.attempts = 30
    c.training.order = "drawn"  # as the published figures were measured
    c.study.ancestor = False
    c.study.seeds = (0, 1, 2)
    # Three traces of four have the defect: what it hides is still there for the right
    # intervention to reach.
    c.study.arms = (
        ("control", _learns(("natural", 1.0))),
        ("without_products", _learns(("without_products", 0.75), ("natural", 0.25))),
        ("false_results", _learns(("false_results", 1.0))),
        ("premature", _learns(("premature", 0.75), ("natural", 0.25))),
        ("gives_up", _learns(("gives_up", 0.75), ("natural", 0.25))),
        ("mixed", _learns(("false_results", 0.5), ("gives_up", 0.5))),
    )
    return c


def _learns(*traces):
    return (("training.traces", repr(traces)),)
