"""Checks of written arithmetic: is each left side right, given the results before it?

A plan can be right with a false result in it, and wrong with true results (see arXiv
2506.06941): what to calculate next is apart from calculating it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.steps import find_steps
from fr.types import Problem


class PlanCheck(NamedTuple):
    """Numbers of steps of one completion, by what is right in them."""

    steps: int  # steps `a op b = c` before the answer
    planned: int  # steps whose left side is right
    true: int  # steps whose result is the value of their left side
    whole: bool  # there is a step, all are planned, and one number is left


def check_plan(numbers: Sequence[int], text: str, sums: bool) -> PlanCheck:
    """Follow the steps of a text through the numbers that are left.

    A left side is right if each of its numbers is one of the problem that no step has
    used yet, or an earlier result that no step has used yet, as it was stated. A step
    takes away what it used and adds its stated result, so that a false result counts
    against execution and not against the plan.

    Args:
        numbers: Numbers of the problem.
        text: The reasoning.
        sums: Left sides may only add.

    Returns:
        The numbers of steps.
    """
    left = Counter(map(Fraction, numbers))
    steps = find_steps(text)
    planned = 0
    for step in steps:
        needed = Counter(step.terms)
        adds = not sums or step.value == sum(step.terms)
        planned += adds and all(left[n] >= count for n, count in needed.items())
        left = left - needed  # keeps what is positive
        left[step.result] += 1
    whole = bool(steps) and planned == len(steps) and left.total() == 1
    return PlanCheck(len(steps), planned, sum(step.true for step in steps), whole)


def numbers_of(problem: Problem) -> list[int] | None:
    """The numbers that a problem's plan may use, each once.

    Args:
        problem: A problem.

    Returns:
        The numbers of `sums` and `countdown`; None for other tasks.
    """
    if problem.task == "sums":
        return list(map(int, re.findall(r"\d+", problem.question)))
    return problem.meta["numbers"] if problem.task == "countdown" else None
