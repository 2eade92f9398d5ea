"""Families of Countdown problems, the length of their searches, and their distances."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from fr.errors import UserError
from fr.registry import Registry
from fr.tasks.countdown_solver import legal_moves, next_state, solutions
from fr.types import Problem

# task -> (problem) -> length of the search that its answer needs
LENGTHS = Registry("length of a search")
# task -> (problem, training problems) -> distance to the nearest of them
DISTANCES = Registry("distance of a problem")

Numbers = tuple[int, ...]
Condition = Callable[[Numbers, int], bool]
_SIGNS = "+-*/"
FORMS = (
    "'pair A B' (both are among the numbers), 'two A B C ...' (two of the numbers are "
    "among these), 'sign S' (every solution has it), 'candidates N' (a search needs N "
    "or more)"
)


def held_out(cells: Iterable[str]) -> Condition:
    """Condition of the problems that training leaves out.

    Args:
        cells: Cells as text: conditions joined by `&`, each of one of `FORMS`.

    Returns:
        (numbers, target) -> True for a problem of any cell, which meets all conditions
        of the cell.

    Raises:
        UserError: A condition cannot be read.
    """
    read = [[_condition(part.strip()) for part in cell.split("&")] for cell in cells]

    def condition(numbers: Numbers, target: int) -> bool:
        return any(all(holds(numbers, target) for holds in cell) for cell in read)

    return condition


def _condition(text: str) -> Condition:
    kind, *words = text.split() or [""]
    if kind == "sign" and len(words) == 1 and words[0] in _SIGNS:
        return lambda numbers, target: _needs(numbers, target, words[0])
    if all(word.isdigit() for word in words):
        given = [int(word) for word in words]
        if kind == "pair" and len(given) == 2:
            pair = Counter(given)
            return lambda numbers, target: pair <= Counter(numbers)
        if kind == "two" and len(given) > 1:
            return lambda numbers, target: sum(n in given for n in numbers) > 1
        if kind == "candidates" and len(given) == 1:
            return lambda numbers, target: candidates(numbers, target) >= given[0]
    raise UserError(
        f"config.task.hold_out: {text!r} is not a condition; there are {FORMS}, joined "
        "by &"
    )


def _needs(numbers: Numbers, target: int, sign: str) -> bool:
    found = solutions(numbers, target)
    return bool(found) and all(sign in solution.split() for solution in found)


def candidates(numbers: Numbers, target: int) -> float:
    """Mean number of candidates that a search in random order tries up to a hit.

    (L + 1) / (s + 1) of L candidates, of which s equal the target (negative
    hypergeometric). A candidate is a whole sequence of legal moves.

    Args:
        numbers: Numbers of the problem, in any order.
        target: The number to reach.

    Returns:
        The mean, 1 or more; L + 1 if no candidate hits.
    """
    totals = _totals(tuple(sorted(numbers, reverse=True)))
    return (sum(totals.values()) + 1) / (totals[target] + 1)


@functools.lru_cache(maxsize=65536)
def _totals(values: Numbers) -> Counter[int]:
    """Number of candidates by their value; `values` are largest first."""
    if len(values) == 1:
        return Counter(values)
    found: Counter[int] = Counter()
    for move in legal_moves(values):
        found.update(_totals(next_state(move)))
    return found


@LENGTHS.register("countdown")
def search_length(problem: Problem) -> float:
    """Mean number of candidates of a search in random order up to a hit.

    Args:
        problem: A problem of Countdown.

    Returns:
        The number (`candidates`).
    """
    return candidates(tuple(problem.meta["numbers"]), problem.meta["target"])


@DISTANCES.register("countdown")
def numbers_changed(problem: Problem, training: Sequence[Problem]) -> int:
    """Fewest numbers of a problem that change to the numbers of a training problem.

    The target is not compared.

    Args:
        problem: A problem of Countdown.
        training: Training problems with as many numbers.

    Returns:
        The number, 0 if a training problem has the same numbers.
    """
    own = Counter(problem.meta["numbers"])
    known = {tuple(one.meta["numbers"]) for one in training}
    return min((own - Counter(other)).total() for other in known)
