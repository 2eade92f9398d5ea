"""A probe of states for correctness: it learns from other problems' rollouts alone."""

import numpy as np
import pytest

from fr.config import Config
from fr.diagnosis.linear_probe import probe_out_of_fold
from fr.diagnosis.signals import SIGNALS, Failures


def planted(seed: int = 0, per_problem: int = 4):
    """Forty problems; a state's first number decides, up to noise, what is right."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(40 * per_problem, 12)).astype(np.float32)
    right = states[:, 0] + 0.3 * draw.normal(size=len(states)) > 0
    return states, right, [f"p{i // per_problem}" for i in range(len(states))]


def test_a_planted_direction_is_found_and_a_random_one_is_not():
    states, right, problems = planted()
    found, _ = probe_out_of_fold(states, right, problems, 5, 0)
    assert ((found > 0.5) == right).mean() > 0.8
    chance = np.random.default_rng(1).permutation(right)
    blind, _ = probe_out_of_fold(states, chance, problems, 5, 0)
    assert 0.35 < ((blind > 0.5) == chance).mean() < 0.65


def test_grades_of_a_problem_do_not_decide_its_own_numbers():
    states, right, problems = planted()
    one = np.array(problems) == "p7"
    changed = np.where(one, ~right, right)
    before, after = (
        probe_out_of_fold(states, grades, problems, 5, 0)[0]
        for grades in (right, changed)
    )
    np.testing.assert_array_equal(before[one], after[one])
    assert (before != after).any()


def test_one_outcome_teaches_nothing():
    states, right, problems = planted()
    assert np.isnan(probe_out_of_fold(states, right | True, problems, 5, 0)[0]).all()


@pytest.mark.parametrize("probed, wanted", [
    ((0.25, 0.5), 0.375), ((0.25, np.nan), 0.25), (None, np.nan)
])  # fmt: skip
def test_the_signal_is_the_mean_over_failures(probed, wanted):
    seen = Failures((), (), 4, (), probed=probed)
    value = SIGNALS["probe_correct"].read(seen, Config())
    np.testing.assert_equal(value, wanted)


def test_states_along_a_rollout_are_read_by_the_probe_of_its_own_fold():
    states, right, problems = planted()
    found, along = probe_out_of_fold(states, right, problems, 5, 0)
    further = along(3, states[[3, 3, 9]])
    np.testing.assert_allclose(further[:2], found[3])
    assert further[2] != found[9] and along(7, states[:0]).shape == (0,)
