"""Countdown arithmetic: the moves of the game and every solution of a problem.

A state is the values that are left, largest first. A move takes two of them, the larger one on the left, and
puts their sum, product, difference or quotient back; every intermediate value is a positive integer.
"""

import functools
import operator
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fr.tasks.countdown_rules import steps
from fr.tasks.steps import SIGNS, Step

ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


class Move(NamedTuple):
    """One step `left op right = result`; `left` >= `right`, `rest` are the values that it does not touch."""

    left: int
    op: str
    right: int
    result: int
    rest: tuple[int, ...]


@functools.lru_cache(maxsize=65536)
def moves(values: tuple[int, ...]) -> tuple[Move, ...]:
    """All different moves of a state (values sorted largest first), in a fixed order."""
    found = {}
    for i, left in enumerate(values):
        for j in range(i + 1, len(values)):
            right, rest = values[j], values[:i] + values[i + 1 : j] + values[j + 1 :]
            for op, result in _results(left, right):
                found[Move(left, op, right, result, rest)] = None
    return tuple(found)


def after(move: Move) -> tuple[int, ...]:
    """The state that a move leads to."""
    return tuple(sorted((*move.rest, move.result), reverse=True))


@functools.lru_cache(maxsize=65536)
def reachable(values: tuple[int, ...]) -> frozenset[int]:
    """The totals that use every value of a state exactly once."""
    if len(values) == 1:
        return frozenset(values)
    return frozenset().union(*(reachable(after(move)) for move in moves(values)))


@functools.lru_cache(maxsize=65536)
def solutions(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    """Every solution in canonical form, sorted: `( 10 - 3 ) * 7`.

    Canonical: words separated by one space, brackets around each composite operand and nowhere else, the
    larger value on the left (of equal values, either order is listed where the texts differ).
    """
    leaves = tuple(sorted(((n, str(n)) for n in numbers), reverse=True))
    return tuple(sorted(_expressions(leaves, target)))


def bracket(text: str) -> str:
    """An operand as it stands in a canonical expression."""
    return f"( {text} )" if " " in text else text


def _results(left: int, right: int):
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
    found = set()
    for i, first in enumerate(parts):
        for j, second in enumerate(parts):
            if i == j or first[0] < second[0]:
                continue
            rest = tuple(part for k, part in enumerate(parts) if k not in (i, j))
            for op, result in _results(first[0], second[0]):
                text = f"{bracket(first[1])} {op} {bracket(second[1])}"
                found |= _expressions((*rest, (result, text)), target)
    return found


_UPS = re.compile(r"(?: up\b)*")


class Played(NamedTuple):
    """One step as the board saw it. A thought is a candidate: the steps that leave one number."""

    step: Step
    sign: str  # of its operation
    true: bool  # its result is what the operation gives
    legal: bool  # its operands were on the board, now or before it went back
    again: bool  # it leads to numbers that the trace has led to before
    thought: bool  # it ends a candidate
    reaches: bool  # ... which is right: every step of it true and legal, the target at its end
    words: int  # of the completion up to and including it


def replay(completion: str, numbers: Sequence[int], target: int) -> tuple[Played, ...]:
    """Play the steps of a completion from `numbers`; false results stay on the board as they were stated.

    A step whose mark is `up` goes back a level, and one more for each `up` behind it. Of the levels that are
    open, a step is played on the last one that has its operands; an illegal one changes nothing.
    """
    levels = [
        (Counter(numbers), True)
    ]  # numbers left, and whether all that led there is true
    seen, played = set(), []
    words, counted = 0, 0
    for step in steps(completion):
        operands = Counter(step.terms)
        at = next(
            (i for i in reversed(range(len(levels))) if operands <= levels[i][0]), None
        )
        true, again, thought, reaches = step.true, False, False, False
        if at is not None:
            levels = levels[: at + 1]
            board, clean = levels[-1]
            left, clean = board - operands + Counter((step.result,)), clean and true
            state = tuple(sorted(left.elements()))
            again, thought = state in seen, len(state) == 1
            seen.add(state)
            reaches = thought and clean and state == (target,)
            levels += [(left, clean)] * (not thought)
            ups = (step.mark == "up") + len(_UPS.match(completion, step.end)[0].split())
            levels = levels[: max(1, len(levels) - ups)]
        piece = completion[counted : step.end]
        goes_on = (
            counted
            and not completion[counted - 1].isspace()
            and not piece[:1].isspace()
        )
        words, counted = words + len(piece.split()) - bool(goes_on), step.end
        sign = re.search(
            r"[-+*/]", completion[step.start : step.equals].translate(SIGNS)
        )[0]
        played.append(
            Played(step, sign, true, at is not None, again, thought, reaches, words)
        )
    return tuple(played)
