"""Planted causes: specialists of one ancestor, each with a known defect, a mixed one and a control; several seeds."""

from fr.config import default


def get_config():
    """For scripts/planted.py; the arms are the causes, and what they change is what the specialist learns from."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 48
    c.sampling.rollouts = 16
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.sampling.probe_cuts = 6
    c.diagnosis.warmup = 0.1  # the constants of configs/quickstart.py, for the same reason
    c.diagnosis.window = 0.05
    c.diagnosis.quantile = 0.95
    c.diagnosis.outside = True  # no router reads them; they say whether the defect is there
    c.intervention.operators = (
        "retry",
        "sparse_steer",
        "sparse_steer_random",
        "dense_sampled",
        "local_temp",
        "hot",
        "tip",
        "wait",
        "prefix_restart",
        "calculator",
        "repair",
    )
    c.intervention.attempts = 30
    c.intervention.local_span = 4
    c.intervention.switch_window = 0.2
    c.study.ancestor = False
    c.study.seeds = (0, 1, 2)
    c.study.arms = (
        ("control", _learns(("natural", 1.0))),
        ("without_products", _learns(("without_products", 1.0))),
        ("false_results", _learns(("false_results", 1.0))),
        ("premature", _learns(("premature", 1.0))),
        ("gives_up", _learns(("gives_up", 1.0))),
        ("mixed", _learns(("false_results", 0.5), ("gives_up", 0.5))),
    )
    return c


def _learns(*traces):
    return (("training.traces", repr(traces)),)
