"""Study: searches that leave before the move that hits, and a penalty on leaving.

`hasty` learns searches that leave every second place at once, `abandons` such as leave
every second place whose next move would hit, `control` whole ones. In a pilot (120
steps, 64 validation problems, seed 0) a model of `abandons` left 14 % of the places one
move from the target, fewer than its traces: it does not see the hit when it writes the
word. So `hasty`, which needs no foresight, is the primary arm.

TIP (arXiv 2501.18585) lowers the logit of the word that leaves a thought while the
thought is young. Its control lowers as many random words in the same windows.
Predicted: TIP is ahead of its control where thoughts are abandoned, and not where they
are not. Penalty and window are chosen on validation problems and other seeds by the
form "choose".
"""

from fr.config import default

ARMS = ("hasty", "abandons", "control")
THOUGHT = 13  # median tokens of a thought in the traces of both arms
PENALTIES, WINDOWS = (1.0, 3.0, 6.0), (0.5, 1.0, 2.0)  # windows in median thoughts
PENALTY, WINDOW = 3.0, 0.5  # chosen: +7.9 points on validation, the largest of nine
MODELS = (
    ("r1_1b", "DeepSeek-R1-Distill-Qwen-1.5B"),
    ("r1_7b", "DeepSeek-R1-Distill-Qwen-7B"),
)


def get_config(form: str = ""):
    """Forms: "" (the tiny lineage), "choose", "short", and "pod" (MATH-500)."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 273  # all of the test split
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 12
    c.evaluation.cuts_at = "thoughts"
    c.evaluation.measures = ("underthinking", "wandering", "cost")
    c.study.ancestor = False
    c.study.seeds = (2, 3, 4)
    c.study.arms = tuple(
        (name, (("training.traces", f"(('{kind}', 1.0),)"),))
        for name, kind in zip(ARMS, ("hasty", "abandons", "natural"))
    )
    c.study.tests = (
        ("plain", ()),
        ("tip", _penalised("tip", PENALTY, WINDOW * THOUGHT)),
        ("random", _penalised("tip_random", PENALTY, WINDOW * THOUGHT)),
    )
    if form == "choose":
        return _choose(c)
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 8, 2, (0,)
        c.training.steps, c.training.batch, c.training.warmup_steps = 2, 4, 1
        c.sampling.slots = 16
        c.study.arms = c.study.arms[:1]
        c.study.contrasts = (
            ("tip_on_hasty", _less("hasty", "tip", "random", "accuracy")),
        )
        c.study.primary = ("contrast", "tip_on_hasty", "")
        return c
    names = ARMS
    if form == "pod":
        _r1(c)
        names = tuple(name for name, _ in MODELS)
    c.study.contrasts = (
        *((f"tip_on_{arm}", _less(arm, "tip", "random", "accuracy")) for arm in names),
        ("left_under_tip", _less(names[0], "tip", "plain", "underthinking")),
    )
    c.study.primary = ("contrast", f"tip_on_{names[0]}", "")
    c.study.declared = (
        *(("contrast", name, "") for name, _ in c.study.contrasts[1:]),
        (names[0], names[-1], "plain:underthinking"),
    )
    return c


def _choose(c):
    """Every penalty and window on validation problems; no penalty is `plain`."""
    c.task.split, c.task.problems, c.evaluation.samples = "validation", 288, 8
    c.study.seeds, c.study.arms = (0, 1), c.study.arms[:1]
    grid = [(alpha, beta) for alpha in PENALTIES for beta in WINDOWS]
    c.study.tests = (
        ("plain", ()),
        *(
            (f"alpha_{alpha:g}_beta_{beta:g}", _penalised("tip", alpha, beta * THOUGHT))
            for alpha, beta in grid
        ),
    )
    return c


def _r1(c):
    """R1-Distill-Qwen on MATH-500, with the penalty and window of the source, for a
    v5p-8 (v5p:2x2x1).

    For AIME: `--config.task.name=questions --config.task.path=FILE`.
    """
    c.ancestor, c.task.name, c.task.problems = "", "math500", 500
    c.evaluation.samples, c.evaluation.temperature, c.evaluation.top_p = 4, 0.6, 0.95
    c.evaluation.measures = ("underthinking", "cost")
    c.sampling.max_new_tokens, c.sampling.chunk = 16384, 64
    c.sampling.slots = 32  # of the 7B: 31 GB of keys and values, twice in a chunk
    c.study.seeds = (0,)
    c.study.arms = tuple(
        (name, (("model", f"deepseek-ai/{model}"),)) for name, model in MODELS
    )
    c.study.tests = (
        ("plain", ()),
        ("tip", _penalised("tip", 3.0, 600)),
        ("random", _penalised("tip_random", 3.0, 600)),
    )


def _penalised(operator, penalty, tokens):
    return (
        ("evaluation.operator", operator),
        ("intervention.switch_penalty", str(penalty)),
        ("intervention.switch_window", str(float(round(tokens)))),
    )


def _less(arm, test, other, metric):
    return ((1.0, arm, f"{test}:{metric}"), (-1.0, arm, f"{other}:{metric}"))
