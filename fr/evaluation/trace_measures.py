"""Measures of traces: valid, left out, their confidence, and regimes of failure."""

from collections.abc import Sequence

from fr.diagnosis.trace_regimes import REGIMES, regime_of
from fr.errors import UserError
from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.store import Attempt
from fr.tasks.formats import format_of
from fr.tasks.steps import find_steps
from fr.tasks.trace_checks import TRACE_CHECKS, TraceCheck
from fr.types import RIGHT, Problem, is_failure


@register_measure("traces")
def traces(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Right plans and valid traces, together and apart (arXiv 2505.13775).

    A plan is valid if the attempt is right, a trace if the task's check holds in all
    its parts (`fr.tasks.trace_checks`). `both`, `plan_only`, `trace_only` and `neither`
    are shares of the attempts and sum to 1.
    """
    if problem.task not in TRACE_CHECKS:
        raise UserError(
            f"config.evaluation.measures: 'traces' cannot check traces of "
            f"{problem.task!r}; there are checks for {', '.join(TRACE_CHECKS)}"
        )
    checks = [TRACE_CHECKS[problem.task](problem, a.text) for a in attempts]
    plans = [attempt.grade == RIGHT for attempt in attempts]
    pairs = [(plan, check.valid) for plan, check in zip(plans, checks)]
    counts = {
        "plan_valid": sum(plans),
        "trace_valid": sum(check.valid for check in checks),
        "both": pairs.count((True, True)),
        "plan_only": pairs.count((True, False)),
        "trace_only": pairs.count((False, True)),
        "neither": pairs.count((False, False)),
    }
    for part in TraceCheck._fields:
        counts[f"trace_{part}"] = sum(getattr(check, part) for check in checks)
    return {name: (float(n), float(len(attempts))) for name, n in counts.items()}


@register_measure("stepless")
def stepless(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Share of the stated answers that come without a step `a op b = c`.

    Among the attempts with an answer; in [0, 1].
    """
    answered = [attempt for attempt in attempts if attempt.answer is not None]
    without = sum(not find_steps(attempt.text) for attempt in answered)
    return {"stepless": (without, len(answered))}


@register_measure("confidence")
def confidence(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """`c_0`, `c_end`: confidence in the own answer before and after the reasoning.

    Probabilities, means over the attempts with an own answer, at the first and the last
    of `evaluation.cuts`. E[c_end - c_0] is their difference: where it is negative,
    reasoning lowers confidence (arXiv 2605.24396). Raises UserError where
    `evaluation.cuts_at` has no cut before the reasoning.
    """
    if context.config.evaluation.cuts_at != "shares":
        raise UserError(
            "config.evaluation.measures: 'confidence' needs a cut before the "
            "reasoning; set config.evaluation.cuts_at = 'shares'"
        )
    curves = [a.confidence["own_probability"] for a in attempts if _asked(a)]
    total = lambda at: float(sum(curve[at] for curve in curves))
    return {"c_0": (total(0), len(curves)), "c_end": (total(-1), len(curves))}


@register_measure("regimes")
def regimes(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Share of the failed attempts in each regime, as `policy.gate` tells them.

    Metrics `regime/NAME`, in [0, 1]; they add up to 1.
    """
    given = context.config.rewards.switch_words
    switches = given or format_of(problem.task).switches
    told = [
        regime_of(a.text, a.answer, a.truncated, switches)
        for a in attempts
        if is_failure(a.grade)
    ]
    return {f"regime/{name}": (told.count(name), len(told)) for name in REGIMES}


def _asked(attempt: Attempt) -> bool:
    """True if confidence in the attempt's own answer was measured."""
    return len(attempt.confidence.get("own_probability", ())) > 0
