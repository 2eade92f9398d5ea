"""Checks of written arithmetic: is each left side right, given the results before it?

A plan can be right with a false result in it, and wrong with true results (see arXiv
2506.06941): what to calculate next is apart from calculating it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.countdown_solver import replay
from fr.tasks.steps import find_steps
from fr.types import Problem


class PlanCheck(NamedTuple):
    """Numbers of steps of one completion, by what is right in them."""

    steps: int  # steps `a op b = c` before the answer
    planned: int  # steps whose left side is right
    true: int  # steps whose result is the value of their left side
    whole: bool  # there is a step, all are planned, and the last leaves one number


def check_plan(problem: Problem, text: str) -> PlanCheck | None:
    """Follow the steps of a reasoning through the numbers that the problem has.

    Args:
        problem: A problem of `sums` or `countdown`.
        text: The reasoning; for `countdown` the completion, whose search goes back.

    Returns:
        The numbers of steps; None for other tasks.
    """
    if problem.task == "sums":
        return check_sum([int(n) for n in re.findall(r"\d+", problem.question)], text)
    if problem.task != "countdown":
        return None
    steps = replay(text, problem.meta["numbers"], problem.meta["target"])
    legal = [step.legal for step in steps]
    whole = bool(steps) and all(legal) and steps[-1].candidate
    return PlanCheck(len(steps), sum(legal), sum(step.true for step in steps), whole)


def check_sum(terms: Sequence[int], text: str) -> PlanCheck:
    """Follow the steps of a sum through the terms that are left.

    A left side is right if it only adds and each of its numbers is a term that no step
    has used yet, or an earlier result that no step has used yet, as it was stated. A
    step takes away what it used and adds its stated result, so that a false result
    counts against execution and not against the plan.

    Args:
        terms: Terms of the sum.
        text: The reasoning.

    Returns:
        The numbers of steps.
    """
    left = Counter(map(Fraction, terms))
    steps = find_steps(text)
    planned = 0
    for step in steps:
        needed = Counter(step.terms)
        adds = step.value == sum(step.terms)
        planned += adds and all(left[n] >= count for n, count in needed.items())
        left = left - needed  # keeps what is positive
        left[step.result] += 1
    whole = bool(steps) and planned == len(steps) and left.total() == 1
    return PlanCheck(len(steps), planned, sum(step.true for step in steps), whole)
