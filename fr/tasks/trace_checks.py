"""Checks of traces: is the reasoning before an answer what the task's rules allow?

A trace can be invalid before a right answer, and valid before a wrong one (arXiv
2505.13775).
"""

from typing import NamedTuple

from fr.registry import Registry
from fr.tasks.countdown_solver import replay
from fr.types import Problem

# task -> (problem, completion) -> TraceCheck
TRACE_CHECKS = Registry("trace check")


class TraceCheck(NamedTuple):
    """Three parts of a valid trace. All are False of a completion without a trace."""

    legal: bool  # every step may be taken where it is taken
    true: bool  # every number that a step states is exact
    reaches: bool  # the steps come to what is sought

    @property
    def valid(self) -> bool:
        """True if all three parts hold."""
        return all(self)


NO_TRACE = TraceCheck(False, False, False)


@TRACE_CHECKS.register("countdown")
def countdown_trace(problem: Problem, completion: str) -> TraceCheck:
    """Check the steps of a Countdown trace by playing them.

    Args:
        problem: The problem that was attempted.
        completion: New text of the attempt.

    Returns:
        `legal`: all operands were there; `true`: all results are exact; `reaches`: a
        candidate of legal, true steps equals the target.
    """
    steps = replay(completion, problem.meta["numbers"], problem.meta["target"])
    if not steps:
        return NO_TRACE
    return TraceCheck(
        legal=all(step.legal for step in steps),
        true=all(step.true for step in steps),
        reaches=any(step.solves for step in steps),
    )
