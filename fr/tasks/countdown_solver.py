"""Countdown arithmetic: the moves of the game and every solution of a problem.

A state is the values that are left, largest first. A move takes two of them, the larger one on the left, and
puts their sum, product, difference or quotient back; every intermediate value is a positive integer.
"""

import functools
import operator
from typing import NamedTuple

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
