"""Wandering: how a Countdown search explores, and what its omissions predict."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fr.errors import UserError
from fr.evaluation.measures import (
    Asked,
    MeasureContext,
    Sums,
    register_group,
    register_measure,
)
from fr.store import Attempt
from fr.tasks.countdown_solver import solutions
from fr.tasks.countdown_visits import (
    MODES,
    Rates,
    Trace,
    failure_modes,
    hits_left,
    predicted_success,
    tried_children,
    visit_trace,
)
from fr.types import RIGHT, Problem

_MOST = 5  # solutions; problems with more are one group


@register_group("solutions")
def solution_count(problem: Problem) -> str:
    """Right expressions of a Countdown problem: `1` to `4`, or `5+`."""
    _check(problem)
    count = len(solutions(tuple(problem.meta["numbers"]), problem.meta["target"]))
    return str(count) if count < _MOST else f"{_MOST}+"


@register_group("operands")
def operand_count(problem: Problem) -> int:
    """Numbers of a Countdown problem: the levels of its search tree."""
    _check(problem)
    return len(problem.meta["numbers"])


class Tried(NamedTuple):
    """Shares of children that all searches together tried."""

    rates: Rates  # where a state was left, by its numbers: 1 - omission rate
    hit: float | None  # of moves to the target, where a state had one; None: none had


def tried_shares(asked: Asked) -> Tried:
    """Shares of children that searches tried, over all attempts.

    Args:
        asked: Problems and all attempts at them.

    Returns:
        The shares.
    """
    tried: collections.Counter[int] = collections.Counter()
    there: collections.Counter[int] = collections.Counter()
    left = met = 0
    for problem, attempts in asked:
        for trace, _ in _traces(problem, attempts):
            for size, some, every in tried_children(trace):
                tried[size] += some
                there[size] += every
            counts = hits_left(trace, problem.meta["target"])
            left, met = left + counts[0], met + counts[1]
    rates = {size: tried[size] / there[size] for size in there}
    return Tried(rates, 1 - left / met if met else None)


@register_measure("wandering", prepare=tried_shares)
def wandering(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Validity, needless visits, omissions and failure modes of Countdown searches.

    Definitions are in `fr.tasks.countdown_visits` (arXiv 2505.20296). All metrics are
    shares, `valid` to `systematic`, the failure modes and the predictions of the
    attempts with a step.

    - `valid`, `effective`, `necessary`, and `systematic`, which is all three
    - `omission`: children not tried over children, at states that were left; also by
      numbers of the state
    - `hits_left`: of the states one move from the target that were left or used, those
      that were left
    - each of `MODES`
    - `predicted`: the success that the omission rates alone predict for this problem,
      to be held against `effective` and the accuracy
    - `predicted_informed`: the same with 1 - `hits_left` for moves to the target, since
      a search that looks at the target is not blind

    Args:
        problem: The problem.
        attempts: All attempts at it.
        context: Its `prepared` has what `tried_shares` found in all attempts.

    Returns:
        Sums by metric.
    """
    known: Tried = context.prepared["wandering"]
    numbers, target = problem.meta["numbers"], problem.meta["target"]
    found: collections.Counter[str] = collections.Counter()
    tried: collections.Counter[str] = collections.Counter()
    there: collections.Counter[str] = collections.Counter()
    count = left = met = 0
    for trace, right in _traces(problem, attempts):
        count += 1
        kinds = {
            "valid": trace.valid,
            "effective": trace.effective,
            "necessary": trace.necessary,
        }
        found.update(kind for kind, is_so in kinds.items() if is_so)
        found["systematic"] += all(kinds.values())
        found.update(failure_modes(trace, target, right))
        hits = hits_left(trace, target)
        left, met = left + hits[0], met + hits[1]
        for size, some, every in tried_children(trace):
            for name in ("omission", f"omission[numbers={size}]"):
                tried[name] += some
                there[name] += every
    shares = ("valid", "effective", "necessary", "systematic", *MODES)
    sums: Sums = {name: (found[name], count) for name in shares}
    sums |= {name: (there[name] - tried[name], there[name]) for name in there}
    sums.setdefault("omission", (0.0, 0.0))
    sums["hits_left"] = (left, met)
    for name, hit in (("predicted", None), ("predicted_informed", known.hit)):
        success = predicted_success(numbers, target, known.rates, hit)
        sums[name] = (count * success, count)
    return sums


def _traces(
    problem: Problem, attempts: Sequence[Attempt]
) -> Iterable[tuple[Trace, bool]]:
    """Replays of the attempts with a step, and whether they are right."""
    _check(problem)
    numbers, target = problem.meta["numbers"], problem.meta["target"]
    for attempt in attempts:
        trace = visit_trace(attempt.text, numbers, target, attempt.truncated)
        if trace.steps:
            yield trace, attempt.grade == RIGHT


def _check(problem: Problem) -> None:
    if problem.task != "countdown":
        raise UserError(
            f"problem {problem.id} is of task {problem.task!r}, and the measure "
            "'wandering' and the groups 'solutions' and 'operands' are of countdown: "
            "leave them out of config.evaluation.measures and by"
        )
