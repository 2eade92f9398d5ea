"""Study: do long problems fail in the plan, or in carrying it out?

SmolLM2 adds 2 to 12 numbers with a worked chain, as text alone and with a calculator at
every equals sign (arXiv 2506.06941, 2507.17699). Controls: the same pauses with the
number that the model drew itself, and with a wrong number. `area` is the mean over the
numbers of terms of the difference of accuracies, the area between the two curves.
Execution is the cause only where `plan_validity` stays high while accuracy falls.
Predicted: `area` > 0, `area_own` = 0, `area_wrong` < 0, `plan_falls` < `text_falls`.

    --config=configs/studies/execution.py:PATH    another model by its path or name, too
"""

from fr.config import default

TERMS = (2, 3, 4, 6, 8, 12)
DISKS = tuple(range(3, 13))
CALCULATORS = {
    "area": "calculator",
    "area_own": "calculator_own",
    "area_wrong": "calculator_wrong",
}
KEEPERS = {"area": "state_keeper", "area_wrong": "state_keeper_wrong"}


def get_config(form: str = ""):
    """Forms: "" (SmolLM2), "short", "pod" (Qwen3-4B, Hanoi), or a further model."""
    c = default()
    c.task.name = "sums"
    c.task.term_counts = TERMS
    c.task.digits = 1  # SmolLM2 adds no two numbers of 2 digits (24 of validation)
    c.task.shots = 2
    c.task.problems = 96  # as many of each number
    c.sampling.max_new_tokens = 256
    c.sampling.slots = 48
    c.sampling.shard_rows = 96  # minutes of work that a kill loses
    c.evaluation.samples = 4
    c.evaluation.ks = (2, 4)
    c.evaluation.cuts = 2
    c.evaluation.measures = ("plan_validity",)
    c.evaluation.by = ("terms",)
    c.study.seeds = (0,)
    c.study.ancestor = False
    c.study.arms = (("smollm2", (("model", "smollm2"),)),)
    groups, plan, tests = [f"[terms={n}]" for n in TERMS], "plan_validity", CALCULATORS
    if form == "short":  # Countdown's numbers, which the small model can write
        c.task.name, c.task.shots, c.task.problems = "countdown", 0, 8
        c.sampling.max_new_tokens, c.sampling.slots = 64, 8
        c.evaluation.by = ("operands",)
        c.study.arms = (("tiny", (("model", "countdown"),)),)
        groups = ["[operands=3]"]
    elif form == "pod":
        _hanoi(c)
        groups, plan, tests = [f"[disks={n}]" for n in DISKS], "legal_moves", KEEPERS
    elif form:
        c.study.arms += (("other", (("model", form),)),)
    c.study.tests = (
        ("text", ()),
        *((name, (("evaluation.operator", name),)) for name in tests.values()),
    )
    c.study.contrasts = tuple(
        (f"{arm}_{name}", terms)
        for arm, _ in c.study.arms
        for name, terms in _contrasts(arm, groups, plan, tests).items()
    )
    (first, _), *others = c.study.contrasts
    c.study.primary = ("contrast", first, "")
    c.study.declared = tuple(("contrast", name, "") for name, _ in others)
    return c


def _contrasts(arm, groups, plan, tests):
    """Areas between curves over the groups, and falls from the first to the last."""
    area = lambda test: tuple(
        (weight / len(groups), arm, f"{name}:accuracy{group}")
        for group in groups
        for weight, name in ((1, test), (-1, "text"))
    )
    falls = lambda metric: (
        (1.0, arm, f"text:{metric}{groups[0]}"),
        (-1.0, arm, f"text:{metric}{groups[-1]}"),
    )
    areas = {name: area(test) for name, test in tests.items()}
    return areas | {"text_falls": falls("accuracy"), "plan_falls": falls(plan)}


def _hanoi(c):
    """Qwen3-4B on towers, as text and with states that are kept for it.

    A move has 8 tokens. Three times the moves of 12 disks fit, so that no limit on the
    length decides. The model reads 262,144 tokens. For a v5p-8 (v5p:2x2x1).
    """
    c.task.name = "hanoi"
    c.task.disks = DISKS
    c.task.shots = 0
    c.task.problems = 80  # 8 of each number of disks
    c.sampling.max_new_tokens = 3 * 8 * (2 ** DISKS[-1] - 1)
    c.sampling.slots = 8
    c.sampling.model_axis = 4
    c.evaluation.samples = 4
    c.evaluation.temperature = 0.6
    c.evaluation.top_p = 0.95
    c.evaluation.measures = ("legal_moves", "cost")
    c.evaluation.by = ("disks",)
    c.study.arms = (("qwen", (("model", "Qwen/Qwen3-4B-Thinking-2507"),)),)
