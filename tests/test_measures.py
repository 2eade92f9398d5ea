"""Pass@k, calibration and premature confidence beside answers that are known."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from fr.stats.calibration import answer_confidence, bin_sums, ece, error_of, premature
from fr.stats.pass_at_k import pass_at_k


def test_pass_at_k_is_the_share_of_subsets_with_a_right_attempt():
    for right, k in itertools.product(range(7), range(1, 7)):
        attempts = [i < right for i in range(6)]
        share = np.mean([any(chosen) for chosen in itertools.combinations(attempts, k)])
        np.testing.assert_allclose(pass_at_k([right], 6, k), share, rtol=1e-15)


def test_pass_at_k_is_unbiased():
    p, n, k = 0.07, 20, 8
    chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    np.testing.assert_allclose(
        chance @ pass_at_k(np.arange(n + 1), n, k), 1 - (1 - p) ** k, rtol=1e-12
    )


def test_pass_at_k_of_many_attempts_is_exact():
    # C(4000, 2000) has 1,203 digits.
    assert pass_at_k([0, 1, 4000], 4000, 2000).tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 4"):
        pass_at_k([1], 4, 5)
    with pytest.raises(ValueError, match="from 0 to 4"):
        pass_at_k([5], 4, 2)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [3, 7, 10, 15])
def test_a_confidence_at_the_end_of_a_bin_belongs_to_it(kind, bins):
    ends = (np.arange(bins + 1) / bins).astype(kind)
    counts = bin_sums(ends, np.zeros(bins + 1), bins)[0, :, 0]
    assert counts.tolist() == [2.0] + [1.0] * (
        bins - 1
    )  # 0 and the first end, then an end each


@pytest.mark.parametrize("right", [[0.5], [math.nan], [-1], [3]])
def test_counts_of_right_attempts_are_whole_numbers(right):
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        pass_at_k(right, 2, 1)


def test_truth_values_are_counts_and_no_mask():
    assert pass_at_k(np.array([True, False]), 1, 1).tolist() == [1.0, 0.0]
    assert pass_at_k(np.array([2.0, 0.0]), 2, 2).tolist() == [1.0, 0.0]
    for k in (0, -1, 5, 1.5, math.nan):
        with pytest.raises(ValueError):
            pass_at_k([1], 4, k)


@pytest.mark.parametrize(
    ("confidence", "right", "bins"),
    [
        ([math.nan], [1], 10),
        ([-0.1], [1], 10),
        ([1.1], [1], 10),
        ([0.5], [math.nan], 10),
        ([0.5], [2], 10),
        ([0.5], [1, 0], 10),
        ([0.5], [1], 0),
    ],
)
def test_no_calibration_error_of_what_is_no_probability(confidence, right, bins):
    with pytest.raises(ValueError):
        ece(np.array(confidence), np.array(right), bins)


def test_calibration_error_by_hand():
    # Ten attempts say 95 % and nine are right; ten say 35 % and none is.
    confidence, right = (
        np.repeat([0.95, 0.35], 10),
        np.repeat([1, 1, 0, 0], [9, 0, 1, 10]),
    )
    np.testing.assert_allclose(ece(confidence, right), 0.5 * 0.05 + 0.5 * 0.35)
    np.testing.assert_allclose(ece(confidence, right, bins=1), 0.65 - 0.45)
    assert math.isnan(ece(np.zeros(0), np.zeros(0)))


def test_bins_hold_their_upper_end_and_groups_add_up():
    confidence, right = (
        np.array([0.0, 0.5, 0.51, 1.0, 1.00001]),
        np.array([0, 1, 1, 0, 1]),
    )
    assert bin_sums(confidence, right, 2)[0, :, 0].tolist() == [2, 3]
    apart = bin_sums(confidence, right, 2, np.array([0, 0, 2, 2, 2]), 3)
    assert apart.shape == (3, 2, 3) and not apart[1].any()
    np.testing.assert_allclose(error_of(apart.sum(axis=0)), ece(confidence, right, 2))
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            ece(np.array([bad]), np.array([1]))


def test_confidence_of_a_span_is_its_mean_margin():
    margin = np.array([9.0, 0.25, 0.75, 9.0], np.float32)
    assert answer_confidence(margin, (1, 3)) == 0.5
    assert math.isnan(answer_confidence(margin, (0, 0)))


def test_rank_correlation_is_scipys():
    draw = np.random.default_rng(0)
    rows = np.round(draw.random((50, 11)), 1)  # with ties
    rho, flat = premature(rows)
    assert not flat.any()
    np.testing.assert_allclose(
        rho, [spearmanr(row, np.arange(11))[0] for row in rows], atol=1e-12
    )


def test_early_late_and_flat_confidence():
    rows = [
        np.linspace(0, 1, 6),
        np.linspace(1, 0, 6),
        [0.9, 0.2, 0.3, 0.2, 0.3, 0.9],
        np.full(6, 0.7),
        0.7 + 1e-5 * np.arange(6),
    ]
    rho, flat = premature(np.array(rows))
    assert flat.tolist() == [False, False, False, True, True]
    np.testing.assert_allclose(rho[:2], [1, -1])
    assert rho[2] < 0.4 and np.isnan(rho[3:]).all()


def test_a_correlation_that_equals_a_threshold_is_not_below_it():
    rho, _ = premature(np.array([[0.2, 0.5, 0.1, 0.6], [0.3, 0.1, 0.6, 0.5]]))
    np.testing.assert_array_equal(rho, [0.4, 0.6])
