"""The atlas of one specialist with several defects, drawn per trace, without a marker.

A router must read the trace, for the model is the same for all defects. The earlier set
(configs/planted.py) gave each defect a model of its own, and there one operator per
model did as well as a router.
"""

from fr.config import default

_DEFECTS = ("without_products", "false_results", "premature", "gives_up", "abandons")
_NATURAL = 0.25  # share of traces without a planted defect


def get_config(form: str = ""):
    """Forms: "" (about 8 M forward tokens) and "short" (a minute)."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    each = (1 - _NATURAL) / len(_DEFECTS)
    c.training.traces = (("natural", _NATURAL), *((name, each) for name in _DEFECTS))
    c.sampling.rollouts = 4
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 256
    c.sampling.probe_cuts = 6
    c.sampling.shard_rows = 8192
    c.intervention.local_span = 4
    c.intervention.keys = "own"  # the planner's table mixes operators of one place
    c.atlas.operators = (
        *("retry", "hot", "dense_sampled", "steer_here", "heat_here", "wait_here"),
        "calculator",
    )
    if form == "short":
        c.training.steps, c.training.warmup_steps = 10, 2
        c.task.problems, c.sampling.rollouts, c.sampling.slots = 16, 2, 32
        c.atlas.traces, c.atlas.cuts, c.atlas.branches = 4, 3, 4
        c.atlas.operators = ("retry", "dense_sampled", "calculator")
        c.routing.bootstrap = 50
    return c
