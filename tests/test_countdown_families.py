"""Held-out cells of Countdown, lengths of searches, and distances to training."""

import itertools

import pytest

from fr.config import Config, TaskConfig, as_dict
from fr.config.reads import difference
from fr.errors import UserError
from fr.tasks.countdown import Countdown
from fr.tasks.countdown_families import (
    DISTANCES,
    LENGTHS,
    candidates,
    held_out,
)
from fr.tasks.countdown_solver import legal_moves, next_state, solutions
from fr.types import Problem


def totals(values) -> list[int]:
    """The value of every candidate, by a walk over all sequences of moves."""
    if len(values) == 1:
        return list(values)
    return [t for move in legal_moves(values) for t in totals(next_state(move))]


def test_candidates_are_the_mean_place_of_the_first_hit():
    # 1 + 2, 2 * 1, 2 - 1, 2 / 1: one of four is 3, two are 2
    assert candidates((1, 2), 3) == 2.5
    places = [min(hits) for hits in itertools.combinations(range(1, 5), 2)]
    assert candidates((1, 2), 2) == sum(places) / len(places) == pytest.approx(5 / 3)
    # 2 + 2, 2 * 2, 2 / 2
    assert candidates((2, 2), 4) == pytest.approx(4 / 3)
    assert candidates((2, 2), 7) == 4
    found = totals((10, 7, 3))
    assert candidates((3, 10, 7), 49) == (len(found) + 1) / (found.count(49) + 1)


CELLS = {
    "pair 3 7": [(3, 7, 10)],
    "pair 7 3": [(3, 7, 10)],
    "pair 5 5": [(1, 5, 5)],
    "two 1 3 10": [(3, 7, 10)],
    "two 5 6": [(1, 5, 5)],
    "sign *": [(3, 7, 10)],
    "sign -": [(3, 7, 10)],
    "sign /": [],
    # 49 takes ten candidates or more, 11 a few
    "candidates 10": [(3, 7, 10)],
    "candidates 1": [(3, 7, 10), (1, 5, 5)],
    "candidates 1 & pair 5 5": [(1, 5, 5)],
    "candidates 10 & pair 5 5": [],
}


@pytest.mark.parametrize("cell", CELLS)
def test_cells_hold_the_problems_that_they_say(cell):
    # ( 10 - 3 ) * 7 alone makes 49; 1 + 5 + 5 and no other makes 11
    problems = {(3, 7, 10): 49, (1, 5, 5): 11}
    holds = held_out((cell,))
    assert [n for n, target in problems.items() if holds(n, target)] == CELLS[cell]


def test_any_cell_is_enough():
    holds = held_out(("pair 3 7", "pair 5 5"))
    assert holds((3, 7, 10), 49) and holds((1, 5, 5), 11) and not holds((1, 2, 3), 6)
    assert not held_out(())((3, 7, 10), 49)


def divides(problem: Problem) -> bool:
    """True if every solution divides."""
    found = solutions(tuple(problem.meta["numbers"]), problem.meta["target"])
    return all("/" in solution for solution in found)


def test_training_alone_leaves_them_out():
    plain, less = Countdown(TaskConfig()), Countdown(TaskConfig(hold_out=("sign /",)))
    for split in ("validation", "test"):
        pairs = list(zip(plain.problems(split), less.problems(split), strict=True))
        assert all(one.id == other.id for one, other in pairs)
        away = [other.meta["held_out"] == "yes" for _, other in pairs]
        assert away == [divides(one) for one, _ in pairs]
        assert all("held_out" not in one.meta for one, _ in pairs)
    kept = less.problems("train")
    left = [p.id for p in plain.problems("train") if not divides(p)]
    assert [p.id for p in kept] == left
    assert 0 < len(kept) < len(plain.problems("train"))
    assert less.problems("train", 5) == kept[:5]


def problem(*numbers) -> Problem:
    meta = {"numbers": list(numbers), "target": 7}
    return Problem("x", "", "", "countdown", meta)


def test_distance_is_the_fewest_numbers_that_change():
    distance, known = DISTANCES["countdown"], [problem(1, 2, 3), problem(4, 4, 5)]
    assert distance(problem(3, 2, 1), known) == 0
    assert distance(problem(1, 2, 4), known) == 1
    assert distance(problem(4, 5, 6), known) == 1
    assert distance(problem(1, 4, 9), known) == 2
    assert distance(problem(8, 8, 9), known) == 3
    # A number that stands once is shared once.
    assert distance(problem(4, 4, 4), known) == 1


def test_distances_of_the_study_are_those_of_its_family():
    task = Countdown(TaskConfig(hold_out=("two 7 8 9 10",)))
    training = task.problems("train")
    for one in task.problems("test", 60):
        large = sum(n > 6 for n in one.meta["numbers"])
        assert DISTANCES["countdown"](one, training) == max(0, large - 1)
        assert LENGTHS["countdown"](one) >= 1


@pytest.mark.parametrize(
    "cell", ["", "pair 3", "pair a b", "sign x", "two 3", "candidates", "pair 3 7 &"]
)
def test_a_condition_that_cannot_be_read_is_refused(cell):
    with pytest.raises(UserError, match="config.task.hold_out: .* is not a condition"):
        Countdown(TaskConfig(hold_out=(cell,)))


def test_cells_belong_to_countdown():
    for name, found in (("sums", None), ("countdown", "task.hold_out")):
        here = Config(task=TaskConfig(name=name, hold_out=("pair 1 2",)))
        there = Config(task=TaskConfig(name=name))
        differs = difference("specialist", as_dict(there), as_dict(here))
        assert (differs and differs[0]) == found
