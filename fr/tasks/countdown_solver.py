"""Countdown arithmetic: the moves of the game and every solution of a problem.

A state is the values that are left, largest first. A move takes two of them, the larger
one on the left, and puts their sum, product, difference or quotient back. Every
intermediate value is a positive integer.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fr.tasks.countdown_rules import trace_steps
from fr.tasks.steps import SIGNS, Step


def problem_id(numbers: Sequence[int], target: int) -> str:
    """Canonical id of a problem: `countdown-3-7-10-to-49`.

    Args:
        numbers: Numbers of the problem, in any order.
        target: The number to reach.

    Returns:
        The id.
    """
    return f"countdown-{'-'.join(map(str, sorted(numbers)))}-to-{target}"


class Move(NamedTuple):
    """One step `left op right = result` with `left` >= `right`."""

    left: int  # the larger operand
    op: str  # + - * or /
    right: int  # the smaller operand
    result: int  # a positive integer
    rest: tuple[int, ...]  # values that the move leaves alone, largest first


@functools.lru_cache(maxsize=65536)
def legal_moves(values: tuple[int, ...]) -> tuple[Move, ...]:
    """All different moves of a state.

    Args:
        values: The state, largest first.

    Returns:
        Moves in a fixed order.
    """
    found: dict[Move, None] = {}
    for i, left in enumerate(values):
        for j in range(i + 1, len(values)):
            right, rest = values[j], values[:i] + values[i + 1 : j] + values[j + 1 :]
            for op, result in _results(left, right):
                found[Move(left, op, right, result, rest)] = None
    return tuple(found)


def next_state(move: Move) -> tuple[int, ...]:
    """State after a move.

    Args:
        move: A move of the state before it.

    Returns:
        The values that are left, largest first.
    """
    return tuple(sorted((*move.rest, move.result), reverse=True))


@functools.lru_cache(maxsize=65536)
def reachable(values: tuple[int, ...]) -> frozenset[int]:
    """Totals that use every value of a state exactly once.

    Args:
        values: The state, largest first.

    Returns:
        The totals.
    """
    if len(values) == 1:
        return frozenset(values)
    return frozenset().union(
        *(reachable(next_state(move)) for move in legal_moves(values))
    )


@functools.lru_cache(maxsize=65536)
def solutions(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    """Every solution of a problem in canonical form: `( 10 - 3 ) * 7`.

    Words are separated by one space, brackets are around each composite operand and
    nowhere else, and the larger value is on the left. Equal values with different texts
    come in both orders.

    Args:
        numbers: Numbers of the problem, in any order.
        target: The number to reach.

    Returns:
        The expressions, sorted.
    """
    leaves = tuple(sorted(((n, str(n)) for n in numbers), reverse=True))
    return tuple(sorted(_expressions(leaves, target)))


def parenthesise(text: str) -> str:
    """Put brackets around a composite operand.

    Args:
        text: A number or a canonical expression.

    Returns:
        The operand of a canonical expression.
    """
    return f"( {text} )" if " " in text else text


def _results(left: int, right: int) -> Iterator[tuple[str, int]]:
    yield "+", left + right
    yield "*", left * right
    if left > right:
        yield "-", left - right
    if left % right == 0:
        yield "/", left // right


def _expressions(parts: tuple[tuple[int, str], ...], target: int) -> set[str]:
    if len(parts) == 1:
        return {parts[0][1]} if parts[0][0] == target else set()
    if target not in reachable(
        tuple(sorted((value for value, _ in parts), reverse=True))
    ):
        return set()
    found: set[str] = set()
    for i, first in enumerate(parts):
        for j, second in enumerate(parts):
            # the larger value is on the left, equal ones in both orders
            if i == j or first[0] < second[0]:
                continue
            rest = tuple(part for k, part in enumerate(parts) if k not in (i, j))
            for op, result in _results(first[0], second[0]):
                text = f"{parenthesise(first[1])} {op} {parenthesise(second[1])}"
                found |= _expressions((*rest, (result, text)), target)
    return found


_UPS = re.compile(r"(?: up\b)*")


class ReplayedStep(NamedTuple):
    """One step of a trace as played; a candidate ends when one number is left."""

    step: Step  # as the trace states it
    sign: str  # of its operation
    true: bool  # its result is the exact one
    legal: bool  # its operands were there, now or before the trace went back
    repeated: bool  # it leads to numbers that the trace has led to before
    candidate: bool  # it ends a candidate
    solves: bool  # it ends a candidate with only true and legal steps at the target
    words: int  # words of the completion up to its end
    level: int  # open level that it is played on, from 0; -1: illegal
    open: int  # levels that are open after it


def replay(
    completion: str, numbers: Sequence[int], target: int
) -> tuple[ReplayedStep, ...]:
    """Play the steps of a completion; false results count as they are stated.

    A step whose mark is `up` goes back one level, and one more for each further `up`.
    Each step is played on the last open level that has its operands. An illegal step
    changes nothing.

    Args:
        completion: New text of an attempt.
        numbers: Numbers of the problem.
        target: The number to reach.

    Returns:
        The steps in order.
    """
    # (numbers left, all steps that led there are true) of the open levels
    levels: list[tuple[Counter, bool]] = [(Counter(numbers), True)]
    seen: set[tuple] = set()
    played = []
    words, counted = 0, 0
    for step in trace_steps(completion):
        operands = Counter(step.terms)
        at = next(
            (i for i in reversed(range(len(levels))) if operands <= levels[i][0]), None
        )
        true, repeated, candidate, solves = step.true, False, False, False
        if at is not None:
            levels = levels[: at + 1]
            board, clean = levels[-1]
            left, clean = board - operands + Counter((step.result,)), clean and true
            state = tuple(sorted(left.elements()))
            repeated, candidate = state in seen, len(state) == 1
            seen.add(state)
            solves = candidate and clean and state == (target,)
            levels += [(left, clean)] * (not candidate)
            more = _UPS.match(completion, step.end)
            ups = (step.mark == "up") + (len(more[0].split()) if more else 0)
            levels = levels[: max(1, len(levels) - ups)]
        piece = completion[counted : step.end]
        # a step that begins inside a word adds no word for its first piece
        goes_on = (
            counted
            and not completion[counted - 1].isspace()
            and not piece[:1].isspace()
        )
        words, counted = words + len(piece.split()) - bool(goes_on), step.end
        left_side = completion[step.start : step.equals].translate(SIGNS)
        sign = next(c for c in left_side if c in "-+*/")
        legal = at is not None
        played.append(
            ReplayedStep(
                step,
                sign,
                true,
                legal,
                repeated,
                candidate,
                solves,
                words,
                level=at if at is not None else -1,
                open=len(levels),
            )
        )
    return tuple(played)
