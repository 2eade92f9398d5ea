"""A Countdown trace as visits of states: what was left out, repeated or false.

A problem is (S, T, start, goals): S are the multisets of numbers, T the moves of the
game, and the target is the goal (arXiv 2505.20296). A visit is one arrival at a state.
A candidate, whose last number is left, is a state of its own per numbers that it was
made of: 7 + 7 of (7, 7) and 10 + 4 of (10, 4) are two dead ends.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.countdown_solver import ReplayedStep, legal_moves, next_state, replay

Numbers = tuple[Fraction | int, ...]
Rates = dict[int, float]  # share of children that are tried, by numbers of the state

MODES = (
    "boundary_violation",
    "procedure_omission",
    "wrong_backtracking",
    "revisiting",
    "self_loop",
    "staleness",
    "execution_error",
    "unfaithful_conclusion",
)
_BACK = ("no", "up")  # marks that announce other numbers than the step's own


class Visit(NamedTuple):
    """One arrival at a state; the first visit of a trace is the start."""

    numbers: Numbers  # that are left, largest first
    parent: int  # index of the visit that it was reached from; -1: the start
    clean: bool  # every step from the start to here is a move of the game
    first: bool  # no visit of the same state before it
    left: bool  # the search went back from it, or gave it up

    @property
    def candidate(self) -> bool:
        """True if one number is left."""
        return len(self.numbers) == 1


class Trace(NamedTuple):
    """A replayed trace."""

    steps: tuple[ReplayedStep, ...]  # in order, illegal ones too
    visits: tuple[Visit, ...]  # the start, and one per legal step
    truncated: bool  # it has no end: the states that are open were not given up

    @property
    def valid(self) -> bool:
        """True if every step is legal, true, and has a positive whole result."""
        return all(p.legal and p.true and _whole(p) for p in self.steps)

    @property
    def effective(self) -> bool:
        """True if legal, true steps reach the target."""
        return any(p.solves for p in self.steps)

    @property
    def necessary(self) -> bool:
        """True if no visit can be taken out.

        Without a visit that others were reached from the trace is not valid. A
        candidate that is new is a goal or a dead end more. Any other visit, which is a
        return or was left at once, can be taken out.
        """
        return all(needed(self.visits)[1:])


def needed(visits: Sequence[Visit]) -> list[bool]:
    """Visits that cannot be taken out of a trace.

    Args:
        visits: Visits in order.

    Returns:
        One flag per visit.
    """
    parents = {visit.parent for visit in visits}
    return [i in parents or (v.candidate and v.first) for i, v in enumerate(visits)]


def visit_trace(
    completion: str, numbers: Sequence[int], target: int, truncated: bool = False
) -> Trace:
    """Replay a completion.

    Args:
        completion: New text of an attempt.
        numbers: Numbers of the problem.
        target: The number to reach.
        truncated: The attempt has no stop token.

    Returns:
        The trace. A state is left when the search goes back from it. At the end, the
        states that are open are left too, unless the target was reached or the attempt
        is truncated. Nothing counts as left after the target.
    """
    steps = replay(completion, numbers, target)
    start = Visit(tuple(sorted(numbers, reverse=True)), -1, True, True, False)
    visits, open_levels, solved = [start], [0], False
    seen: set[tuple] = {start.numbers}

    def leave(levels: int) -> None:
        for i in open_levels[levels:]:
            visits[i] = visits[i]._replace(left=not solved)
        del open_levels[levels:]

    for step in (step for step in steps if step.legal):
        leave(step.level + 1)
        parent = open_levels[-1]
        board = Counter(visits[parent].numbers)
        after = board - Counter(step.step.terms) + Counter((step.step.result,))
        now = tuple(map(_plain, sorted(after.elements(), reverse=True)))
        state = (visits[parent].numbers, now) if step.candidate else now
        clean = visits[parent].clean and step.true and _whole(step)
        visits.append(Visit(now, parent, clean, state not in seen, False))
        seen.add(state)
        open_levels += [len(visits) - 1] * (not step.candidate)
        solved |= step.solves
        leave(step.open)
    if not truncated:
        leave(0)
    return Trace(steps, tuple(visits), truncated)


def tried_children(trace: Trace) -> Iterator[tuple[int, int, int]]:
    """Children that were tried at the states that were left, and those that there are.

    Args:
        trace: A replayed trace.

    Yields:
        (numbers of the state, different children tried, different children) of each
        visit that was left and that moves of the game led to.
    """
    below: dict[int, set[Numbers]] = {}
    for visit in trace.visits:
        if visit.clean:
            below.setdefault(visit.parent, set()).add(visit.numbers)
    for i, visit in enumerate(trace.visits):
        if visit.left and visit.clean:
            there = _children(visit.numbers)
            tried = len(below.get(i, set()) & there)
            yield len(visit.numbers), tried, len(there)


def hits_left(trace: Trace, target: int) -> tuple[int, int]:
    """States one move from the target: those that were left, and all of them.

    Args:
        trace: A replayed trace.
        target: The number to reach.

    Returns:
        (left without that move, left or the move was made), over visits that moves of
        the game led to.
    """
    below = {v.parent for v in trace.visits if v.clean and v.numbers == (target,)}
    left = made = 0
    for i, visit in enumerate(trace.visits):
        if visit.clean and (target,) in _children(visit.numbers):
            left += visit.left and i not in below
            made += i in below
    return left, left + made


def first_defect(trace: Trace, target: int) -> int | None:
    """The character at which a trace first does what loses it.

    The earliest of three: the beginning of a step with a false result, the end of the
    last step below a state one move from the target that is left without that move, and
    the end of the last step of a search that stops without the target.

    Args:
        trace: A replayed trace.
        target: The number to reach.

    Returns:
        Its place in the completion; None if the search reaches the target.
    """
    if trace.effective or not trace.steps:
        return None
    legal = [p.step for p in trace.steps if p.legal]
    places = [p.step.start for p in trace.steps if not p.true]
    last = list(range(len(trace.visits)))  # of the visits below each one
    for i in reversed(range(1, len(trace.visits))):
        parent = trace.visits[i].parent
        last[parent] = max(last[parent], last[i])
    tried = {v.parent for v in trace.visits if v.clean and v.numbers == (target,)}
    for i, visit in enumerate(trace.visits):
        leaves = visit.left and visit.clean and i not in tried and last[i]
        if leaves and (target,) in _children(visit.numbers):
            places.append(legal[last[i] - 1].end)
    stops = [] if trace.truncated else [trace.steps[-1].step.end]
    return min([*places, *stops], default=None)


def failure_modes(trace: Trace, target: int, right: bool) -> set[str]:
    """Failure modes of a trace, of `MODES` (arXiv 2505.20296).

    A step is played on the numbers where the marks before it say that the search is, or
    else on others. `boundary_violation`: a step whose numbers were never there
    together, or whose result is not a positive whole number. `wrong_backtracking`:
    after `no` or `up`, a step on other numbers than those that it went back to.
    `staleness`: the same without a mark to go back. `procedure_omission`: a state was
    left with a child untried. `self_loop`: the state before, again at once.
    `revisiting`: another state again. `execution_error`: false arithmetic.
    `unfaithful_conclusion`: the mark of a candidate contradicts the value that it
    states, or the attempt is right without having reached the target, or reached it and
    is not right.

    Args:
        trace: A replayed trace with a step.
        target: The number to reach.
        right: The attempt was graded right.

    Returns:
        Names of the modes that occur.
    """
    found = set(_misplaced(trace))
    if any(not p.true for p in trace.steps):
        found.add("execution_error")
    if any(tried < there for _, tried, there in tried_children(trace)):
        found.add("procedure_omission")
    for before, visit in zip(trace.visits, trace.visits[1:]):
        if not visit.first:
            again = before.numbers == visit.numbers
            found.add("self_loop" if again else "revisiting")
    ends = (p.step for p in trace.steps if p.candidate)
    contrary = any(
        s.mark in _BACK if s.result == target else s.mark == "yes" for s in ends
    )
    if contrary or (not trace.truncated and right != trace.effective):
        found.add("unfaithful_conclusion")
    return found


def _misplaced(trace: Trace) -> Iterator[str]:
    """Modes of the steps that are not played where the search is."""
    place, mark = 0, ""
    boards = [Counter(visit.numbers) for visit in trace.visits]
    reached = 1  # visits before the step
    for played in trace.steps:
        operands = Counter(played.step.terms)
        known = played.legal or any(operands <= b for b in boards[:reached])
        if not known or not _whole(played):
            yield "boundary_violation"
        if known and played.level != place:
            yield "wrong_backtracking" if mark in _BACK else "staleness"
        place, mark = played.open - 1, played.step.mark
        reached += played.legal


def predicted_success(
    numbers: Sequence[int], target: int, rates: Rates, hit: float | None = None
) -> float:
    """Success of a search that omits children whether or not they lead to the target.

    At a state of n numbers each child is tried with probability q_n = 1 - p_n, alone,
    p_n the omission rate. So the target is reached below a state s with

        f(s) = 1 - prod over children c of (1 - q_n f(c)),

    f = 1 at the target and 0 at other candidates. No parameter is fitted. arXiv
    2505.20296 has binary trees of d levels and m goal leaves,

        p_s(d, m) = 1 - (1 - q^(d-1))^m, q = 1 - p_w / 2,

    where q is the share of children that a wanderer tries which omits one of two with
    probability p_w. That is f of such a tree with m = 1; with more, it takes the paths
    to the goals as independent though they share states, which f does not. Here the
    tree is the game's own, of d = number of numbers levels.

    Args:
        numbers: Numbers of the problem.
        target: The number to reach.
        rates: q_n by n, 1 where it is not known.
        hit: Probability that the target is tried as a child; None: q_n, as any other.

    Returns:
        A probability.
    """
    known = tuple(sorted(rates.items()))
    return _reach(tuple(sorted(numbers, reverse=True)), target, known, hit)


@functools.lru_cache(maxsize=65536)
def _reach(
    numbers: Numbers,
    target: int,
    rates: tuple[tuple[int, float], ...],
    hit: float | None = None,
) -> float:
    if len(numbers) == 1:
        return float(numbers[0] == target)
    tried, missed = dict(rates).get(len(numbers), 1.0), 1.0
    for child in _children(numbers):
        share = hit if hit is not None and child == (target,) else tried
        missed *= 1 - share * _reach(child, target, rates, hit)
    return 1 - missed


@functools.lru_cache(maxsize=65536)
def _children(numbers: Numbers) -> frozenset[Numbers]:
    """Different states that one move leads to; none of a candidate."""
    return frozenset(next_state(move) for move in legal_moves(numbers))


def _plain(value: Fraction | int) -> Fraction | int:
    return int(value) if value.denominator == 1 else value


def _whole(played: ReplayedStep) -> bool:
    result = played.step.result
    return result > 0 and result.denominator == 1
