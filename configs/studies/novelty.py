"""Study: is it the length of a search or its novelty that makes reasoning fail?

Three lineages from random numbers, for equal tokens. `family` never learns from
problems with two numbers above 6, `length` never from problems with long searches, and
`control` learns from all. One regression per model, right ~ length + distance + both,
on test problems: the lengths are candidates of a search, the distances numbers that
change to the nearest training problem of `family`. Predicted: distance lowers accuracy
where the family was left out, and length does not lower it within families that were
there. The primary contrast is the first half of it, by problems of the family and
others.
"""

from fr.config import default

FAMILY = "two 7 8 9 10"
LONG = "candidates 15"


def get_config(form: str = ""):
    """Forms: "" (0.8 million parameters), "short", and "pod" (85 million)."""
    c = default()
    c.task.name = "countdown"
    c.task.problems = 273  # all of the test split
    c.training.start = "scratch"
    c.training.steps = 1600
    c.training.learning_rate = 3e-3
    c.training.warmup_steps = 100
    # Half of the traces are short searches that hit, the others may give up.
    c.training.traces = (("correct", 0.5), ("natural", 0.5))
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.evaluation.samples = 8
    c.evaluation.ks = (2, 4, 8)
    c.evaluation.cuts = 2
    c.evaluation.measures = ("traces",)
    # In evaluations it only says which problems are of the family.
    c.task.hold_out = (FAMILY,)
    c.evaluation.by = ("held_out",)
    long = LONG
    if form == "short":
        c.task.problems, c.evaluation.samples, c.evaluation.ks = 12, 2, (2,)
        c.training.steps, c.training.batch, c.training.warmup_steps = 4, 4, 1
        c.sampling.slots = 8
        c.study.seeds = (0,)
    if form == "pod":  # for a v5p-8 (v5p:2x2x1)
        c.architecture.width, c.architecture.layers = 768, 12
        c.architecture.heads, c.architecture.ff = 12, 2048
        c.task.operands, c.task.problems, c.task.target = 4, 1024, 100
        c.training.steps, c.training.batch, c.training.sequence = 10_000, 256, 256
        c.training.microbatch = 64
        c.training.learning_rate = 6e-4
        c.sampling.max_new_tokens, c.evaluation.samples = 192, 16
        long = "candidates 100"
    c.study.ancestor = False
    c.study.arms = (
        ("family", ()),
        ("length", (("task.hold_out", repr((long,))),)),
        ("control", (("task.hold_out", "()"),)),
    )
    c.study.analyses = ("novelty",)
    c.study.contrasts = (
        (
            "loss_in_family_less_loss_elsewhere",
            (
                (1.0, "control", "accuracy[held_out=yes]"),
                (-1.0, "family", "accuracy[held_out=yes]"),
                (-1.0, "control", "accuracy[held_out=no]"),
                (1.0, "family", "accuracy[held_out=no]"),
            ),
        ),
    )
    c.study.primary = ("contrast", "loss_in_family_less_loss_elsewhere", "")
    c.study.declared = (("length", "control", "accuracy"),)
    return c
