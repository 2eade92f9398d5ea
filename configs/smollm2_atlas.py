"""The atlas of a real model: SmolLM2-135M-Instruct on sums; about 0.6 M forward tokens.

`--model=FILE.gguf` takes another one, `--config.task.name=letters` the second
task. There is no ancestor, so operators that mix are left out, with the reason.
"""

from fr.config import default


def get_config(form: str = ""):
    """Forms: "" (half an hour on two cores) and "short" (minutes)."""
    c = default()
    c.specialist = "smollm2"
    c.task.name = "sums"
    c.task.problems = 60
    c.task.terms = 3
    c.sampling.rollouts = 4
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 64
    c.atlas.traces = 20
    c.atlas.cuts = 8
    c.atlas.branches = 16
    c.atlas.operators = ("retry", "hot", "heat_here", "wait_here", "calculator")
    if form == "short":
        c.task.problems, c.sampling.rollouts, c.sampling.slots = 4, 2, 8
        c.sampling.max_new_tokens = 48
        c.atlas.traces, c.atlas.cuts, c.atlas.branches = 2, 3, 2
        c.routing.bootstrap = 50
    return c
