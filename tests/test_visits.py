"""Countdown traces as visits: validity, necessity, omissions, failure modes, and the
success that omissions predict. Known answers are by hand or by brute force.
"""

import random

import numpy as np
import pytest

from fr.config import TaskConfig
from fr.tasks import countdown_visits
from fr.tasks.countdown import Countdown
from fr.tasks.countdown_solver import legal_moves, next_state
from fr.tasks.countdown_traces import TRACES
from fr.tasks.countdown_visits import (
    MODES,
    failure_modes,
    hits_left,
    needed,
    predicted_success,
    tried_children,
    visit_trace,
)
from fr.types import RIGHT

NUMBERS, TARGET = (3, 7, 10), 49
FOUND = "10 - 3 = 7 , 7 + 7 = 14 no 7 * 7 = 49 yes answer ( 10 - 3 ) * 7"
GAVE_UP = "10 - 3 = 7 , 7 + 7 = 14 up 10 + 3 = 13 , 13 * 7 = 91 up answer 7 + 7"
TASK = Countdown(TaskConfig())


def modes(text, right=False, truncated=False):
    trace = visit_trace(text, NUMBERS, TARGET, truncated)
    return failure_modes(trace, TARGET, right)


def test_a_systematic_trace():
    trace = visit_trace(FOUND, NUMBERS, TARGET)
    assert trace.valid and trace.effective and trace.necessary
    assert [v.numbers for v in trace.visits] == [(10, 7, 3), (7, 7), (14,), (49,)]
    assert [v.parent for v in trace.visits] == [-1, 0, 1, 1]
    # The target ends the search: nothing was left.
    assert not list(tried_children(trace)) and not modes(FOUND, right=True)


def test_children_of_the_states_that_were_left():
    trace = visit_trace(GAVE_UP, NUMBERS, TARGET)
    assert trace.valid and trace.necessary and not trace.effective
    # (7, 7): 14, 49, 1. (13, 7): 20, 91, 6. The start has ten moves, all to different
    # numbers: three pairs with a sum, product and difference; no quotient is whole.
    assert list(tried_children(trace)) == [(3, 2, 9), (2, 1, 3), (2, 1, 3)]
    cut = visit_trace(GAVE_UP, NUMBERS, TARGET, truncated=True)
    assert list(tried_children(cut)) == [(2, 1, 3), (2, 1, 3)]  # the start is open
    assert modes(GAVE_UP) == {"procedure_omission"}


def test_moves_to_the_same_numbers_are_one_child():
    trace = visit_trace("4 - 2 = 2 no 4 / 2 = 2 up answer 4 - 2", (4, 2), 6)
    assert list(tried_children(trace)) == [(2, 1, 3)]  # 2, 6, 8
    assert [v.first for v in trace.visits] == [True, True, False]


def test_each_failure_mode_by_hand():
    cases = {
        "boundary_violation": "10 - 4 = 6 , 6 * 7 = 42 up answer 42",
        "wrong_backtracking": "10 - 3 = 7 , 7 + 7 = 14 no 10 + 7 = 17 , 17 * 3 = 51 up",
        "revisiting": "10 - 3 = 7 , 7 + 7 = 14 up 10 + 3 = 13 , 13 + 7 = 20 up "
        "10 - 3 = 7 , 7 - 7 = 1 up",
        "self_loop": "10 - 3 = 7 , 7 + 7 = 14 no 7 + 7 = 14 up",
        "staleness": "10 - 3 = 7 , 10 + 7 = 17 , 17 + 3 = 20 up",
        "execution_error": "10 - 3 = 6 , 7 + 6 = 13 up",
        "unfaithful_conclusion": "10 - 3 = 7 , 7 + 7 = 14 yes",
    }
    for mode, text in cases.items():
        found = modes(text)
        assert mode in found, (mode, found)
        if mode != "boundary_violation":
            assert "boundary_violation" not in found
    assert modes(cases["self_loop"]) == {"self_loop", "procedure_omission"}
    assert {*cases, "procedure_omission"} == set(MODES)
    # A number that another level had but not this one, then a result off its board.
    assert "boundary_violation" in modes("7 - 7 = 0 ,")
    assert "boundary_violation" in modes("7 / 10 = 0.7 ,", truncated=True)
    # The target was reached and another expression is answered, or none was.
    assert modes(FOUND) == {"unfaithful_conclusion"}
    assert "unfaithful_conclusion" in modes("10 - 3 = 7 up answer x", right=True)
    assert "unfaithful_conclusion" not in modes("10 - 3 = 7 ,", truncated=True)
    # A mark is judged by the value that the trace states.
    false = "10 - 3 = 7 , 7 * 7 = 48 no 7 + 7 = 49 yes answer 7 + 7"
    assert modes(false) == {"execution_error", "procedure_omission"}


def test_a_state_that_is_left_at_once_is_not_needed():
    text = "10 - 3 = 7 up 10 + 3 = 13 , 13 * 7 = 91 up answer 7"
    trace = visit_trace(text, NUMBERS, TARGET)
    assert needed(trace.visits) == [True, False, True, True] and not trace.necessary


def test_necessity_is_the_definition_by_brute_force():
    """Each visit taken out: is every move left one of the game, and were there as many
    goals and dead ends up to it?
    """
    rng, problems = random.Random(0), TASK.problems("train", 60)
    unneeded = 0
    for problem in problems:
        numbers, target = problem.meta["numbers"], problem.meta["target"]
        moves = "".join(
            TRACES[kind](rng, problem).partition("answer")[0]
            for kind in ("natural", "abandons")
        )  # the second search often returns to states of the first
        visits = visit_trace(moves, numbers, target).visits
        ends = lambda kept: {
            (visits[v.parent].numbers, v.numbers) for v in kept if len(v.numbers) == 1
        }
        for i, flag in list(enumerate(needed(visits)))[1:]:
            valid = all(v.parent != i for v in visits)
            fewer = len(ends(visits[:i])) < len(ends(visits[: i + 1]))
            assert flag == (not valid or fewer)
            unneeded += not flag
    assert unneeded > 20


def test_children_that_are_left_by_brute_force():
    rng = random.Random(1)
    for problem in TASK.problems("train", 30):
        numbers, target = problem.meta["numbers"], problem.meta["target"]
        text = TRACES["natural"](rng, problem)
        trace = visit_trace(text, numbers, target)
        if trace.effective:
            assert not trace.visits[0].left
            continue
        children = {next_state(m) for m in legal_moves(tuple(sorted(numbers)[::-1]))}
        below = {v.numbers for v in trace.visits if v.parent == 0}
        assert (3, len(below), len(children)) in list(tried_children(trace))
        assert trace.valid and below <= children


def test_predicted_success_is_that_of_a_wanderer():
    """Extremes, a single path, and a simulated wanderer."""
    assert predicted_success(NUMBERS, TARGET, {}) == 1
    assert predicted_success(NUMBERS, TARGET, {3: 1.0, 2: 0.0}) == 0
    # One way leads to 49: a path of two steps.
    assert predicted_success(NUMBERS, TARGET, {3: 0.5, 2: 0.25}) == pytest.approx(1 / 8)
    rates, draw = {3: 0.3, 2: 0.4}, np.random.default_rng(0)

    def wander(numbers, target):
        if len(numbers) == 1:
            return numbers[0] == target
        children = sorted({next_state(m) for m in legal_moves(numbers)})
        kept = [c for c in children if draw.random() < rates[len(numbers)]]
        return any([wander(child, target) for child in kept])

    trials = 4000
    wins = sum(wander((6, 4, 2), 12) for _ in range(trials))
    wanted = predicted_success((2, 4, 6), 12, rates)
    assert abs(wins / trials - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / trials)


def test_the_formula_of_the_source_on_binary_trees(monkeypatch):
    """Equal with one goal; with more it is above, the more so the more they share."""
    depth, q = 5, 0.8
    rates = tuple((n, q) for n in range(2, depth + 1))

    def success(*goals):
        """A state is its place in its level and zeros, as many numbers as levels."""

        def children(state):
            if len(state) == 1:
                return frozenset()
            below = [2 * state[0], 2 * state[0] + 1]
            if len(state) == 2:  # leaves: the target is -1
                return frozenset((-1 if leaf in goals else leaf,) for leaf in below)
            return frozenset((place, *state[2:]) for place in below)

        monkeypatch.setattr(countdown_visits, "_children", children)
        countdown_visits._reach.cache_clear()
        return countdown_visits._reach((0,) * depth, -1, rates)

    formula = lambda m: 1 - (1 - q ** (depth - 1)) ** m
    far, near = success(0, 15), success(0, 2)
    assert success(5) == pytest.approx(formula(1))
    assert far == pytest.approx(formula(2)) and near < far - 0.05
    countdown_visits._reach.cache_clear()


@pytest.mark.parametrize("kind", ["natural", "abandons"])
def test_the_planted_defect_is_seen(kind):
    """Only the search that abandons leaves two numbers with no try, or before a hit."""
    rng, at_once, left, met = random.Random(3), 0, 0, 0
    for problem in TASK.problems("train", 150):
        numbers, target = problem.meta["numbers"], problem.meta["target"]
        text = TRACES[kind](rng, problem)
        trace = visit_trace(text, numbers, target)
        assert trace.valid
        right = TASK.grade(problem, text) == RIGHT
        assert "unfaithful_conclusion" not in failure_modes(trace, target, right)
        parents = {v.parent for v in trace.visits}
        pairs = [i for i, v in enumerate(trace.visits) if len(v.numbers) == 2]
        at_once += sum(trace.visits[i].left and i not in parents for i in pairs)
        counts = hits_left(trace, target)
        left, met = left + counts[0], met + counts[1]
        assert counts[1] - counts[0] >= trace.effective
    if kind == "abandons":
        assert at_once > 40 and 0.5 < left / met < 0.65
    else:
        assert at_once == 0 and left / met < 0.2


def test_states_one_move_from_the_target():
    for text, wanted in (
        (FOUND, (0, 1)),
        (GAVE_UP, (1, 1)),
        ("10 - 3 = 7 , 7 + 7 = 14 no", (1, 1)),
        ("10 + 3 = 13 , 13 + 7 = 20 up answer 10 + 3 + 7", (0, 0)),
    ):
        assert hits_left(visit_trace(text, NUMBERS, TARGET), TARGET) == wanted
    open_end = visit_trace("10 - 3 = 7 , 7 + 7 = 14 no", NUMBERS, TARGET, True)
    assert hits_left(open_end, TARGET) == (0, 0)
    # A move to the target that is surely made leaves the way to its state.
    informed = predicted_success(NUMBERS, TARGET, {3: 0.5, 2: 0.25}, hit=1.0)
    assert informed == pytest.approx(0.5)
