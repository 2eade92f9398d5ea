"""Labels against hand values, and the chance that noise is called steerable."""

import numpy as np
import pytest
from synthetic_profiles import make

from fr.diagnosis.labels import (
    LABELS,
    count_labels,
    counted,
    label,
    permutation_null,
    permute_attempts,
    unreached,
)
from fr.profiles import OPERATORS


def names(rates, operators=OPERATORS):
    return [
        LABELS[code]
        for code in label(np.array(rates), operators, margin=0.05, hard=0.5)
    ]


def test_labels_by_hand():
    # retry, sparse_steer, sparse_steer_random, local_temp, dense_steer
    assert names([[0.1, 0.2, 0, 0, 0]]) == ["steerable"]
    assert names([[0.1, 0, 0.2, 0, 0]]) == ["steerable"]  # sparse_steer_random counts
    assert names([[0.5, 0, 0, 0, 0.6]]) == ["steerable"]
    assert names([[0.6, 0, 0, 0, 1.0]]) == ["resample"]  # retry is not hard
    assert names([[0.3, 0.3, 0, 0, 0]]) == ["resample"]
    assert names([[0.3, 0, 0, 0, 0]]) == ["beyond"]  # for any rate of retry


def test_the_margin_is_compared_in_float64_as_written():
    assert 0.3 - 0.25 < 0.05 <= 0.1 - 0.05
    assert names([[0.25, 0.3, 0, 0, 0], [0.05, 0.1, 0, 0, 0]]) == [
        "resample",
        "steerable",
    ]


def test_the_control_is_not_counted():
    operators = ("retry", "wrong_geodesic", "local_temp")
    assert counted(operators) == [2]
    assert names([[0.0, 1.0, 0.0]], operators) == ["beyond"]


def test_labels_take_any_leading_axes_and_are_counted():
    rates = np.random.default_rng(0).random((3, 4, 5))
    codes = label(rates, OPERATORS, 0.05, 0.5)
    assert codes.shape == (3, 4) and np.array_equal(
        codes[1], label(rates[1], OPERATORS, 0.05, 0.5)
    )
    assert count_labels(np.array([0, 1, 1, 2, 0])) == {
        "steerable": 2,
        "resample": 2,
        "beyond": 1,
    }


def test_unreached_includes_retry_and_has_the_rule_of_three():
    never, bound = unreached(
        np.array([[0.0, 0.0], [0.1, 0.0]]), np.array([[10, 20], [10, 20]])
    )
    assert never.tolist() == [True, False]
    # All 30 attempts of a success probability p fail with chance (1 - p)^30: 5 % at the
    # bound.
    assert np.allclose((1 - bound) ** 30, 0.05) and abs(bound[0] - 3 / 30) < 0.01


def test_permuting_keeps_successes_and_stays_within_counts():
    correct = np.array([[0, 3, 5], [2, 2, 2]])
    attempts = np.array([[2, 3, 10], [4, 2, 2]])
    shuffled = permute_attempts(correct, attempts, 500, np.random.default_rng(0))
    assert (shuffled.sum(axis=2) == correct.sum(axis=1)).all()
    assert (shuffled <= attempts).all() and (shuffled >= 0).all()
    expected = (
        correct.sum(axis=1, keepdims=True)
        * attempts
        / attempts.sum(axis=1, keepdims=True)
    )
    assert np.abs(shuffled.mean(axis=0) - expected).max() < 0.15


def null_of(profiles, draws=200):
    correct = profiles.successes
    rng = np.random.default_rng(1)
    return permutation_null(
        correct, profiles.attempts, profiles.operators, 0.05, 0.5, draws, rng
    )


def test_noise_alone_makes_half_of_the_problems_steerable_at_ten_attempts():
    nulls = [
        null_of(make(problems=300, attempts=10, seed=seed), draws=99)
        for seed in range(20)
    ]
    assert all(0.50 < null["mean"] < 0.68 for null in nulls)
    # Where the null is true its p is uniform: mean 1/2, sd 0.29 / sqrt(20).
    assert 0.3 < np.mean([null["p"] for null in nulls]) < 0.7
    assert np.mean([null["seen"] - null["mean"] for null in nulls]) == pytest.approx(
        0, abs=0.02
    )


def test_operators_that_differ_stand_out_from_the_null():
    null = null_of(make(problems=300, attempts=30, effect=0.3))
    assert null["seen"] > null["high"] and null["p"] < 0.01
