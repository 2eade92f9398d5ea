"""The atlas of the tiny lineage: 60 traces, 12 cuts, 6 operators, 64 branches."""

from fr.config import default


def get_config(form: str = ""):
    """Forms: "" (about 8 M forward tokens) and "short" (seconds)."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    c.sampling.rollouts = 4
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 256
    c.sampling.probe_cuts = 6
    c.sampling.shard_rows = 8192
    c.intervention.local_span = 4
    if form == "short":
        c.training.steps, c.training.warmup_steps = 10, 2
        c.task.problems, c.sampling.rollouts, c.sampling.slots = 16, 2, 32
        c.atlas.traces, c.atlas.cuts, c.atlas.branches = 4, 3, 4
        c.atlas.operators = ("retry", "hot", "steer_here")
        c.routing.bootstrap = 50
    return c
