"""Measures of reasoning that is left out, of confidence along it, and of regimes."""

from collections.abc import Sequence

from fr.diagnosis.trace_regimes import REGIMES, regime_of
from fr.errors import UserError
from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.store import Attempt
from fr.tasks.formats import format_of
from fr.tasks.steps import find_steps
from fr.types import Problem, is_failure


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
