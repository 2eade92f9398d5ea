"""Points of no return, drops, variance shares and shared keys against known answers."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from benchmarks.atlas_claims import claims, falls
from benchmarks.atlas_variance import shares
from fr.stats.drops import cliff_test, estimate, largest_drop
from fr.stats.false_discovery import benjamini_hochberg
from fr.stats.no_return import (
    CANNOT_TELL,
    CLAIMED,
    NONE,
    points_of_no_return,
    ratio_p_values,
    score,
)
from fr.stats.off_policy import doubly_robust
from fr.stats.paired_noise import paired_noise
from fr.stats.variance_shares import PARTS, UNDECIDED, variance_shares


def test_step_up_by_hand():
    p = np.array([0.5, 0.03, 0.01, 0.02, np.nan])  # thresholds 0.01, 0.02, 0.03, ...
    assert list(benjamini_hochberg(p, 0.05)) == [False, True, True, True, False]
    assert benjamini_hochberg(np.full(4, 0.05), 0.05).all()
    assert not benjamini_hochberg(np.array([0.02, 0.06, 0.06]), 0.05)[0]
    assert len(benjamini_hochberg(np.zeros(0), 0.05)) == 0


def brute_p(n1: int, n0: int, share: float) -> np.ndarray:
    """p by enumeration: the score's maximum likelihood is searched, p0 and p1 too."""
    z = np.zeros((n1 + 1, n0 + 1))
    for k1, k0 in np.ndindex(z.shape):
        gap = k1 / n1 - share * k0 / n0
        if abs(gap) > 1e-12:
            loss = lambda q: -binom.logpmf(k1, n1, share * q) - binom.logpmf(k0, n0, q)
            q = minimize_scalar(
                loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}
            ).x
            low = share * q * (1 - share * q) / n1 + share**2 * q * (1 - q) / n0
            z[k1, k0] = gap / low**0.5
    rates = [(p1, p0) for p0 in np.linspace(0, 1, 201) for p1 in (share * p0,)]
    rates += [(p1, p0) for p0 in np.linspace(0, 1, 9) for p1 in (share * p0 + 0.1, 0.9)]
    found = np.zeros(z.shape)
    for p1, p0 in rates:
        if share * p0 <= p1 + 1e-12 <= 1 + 1e-12:
            chance = np.outer(
                binom.pmf(range(n1 + 1), n1, p1), binom.pmf(range(n0 + 1), n0, p0)
            )
            below = z[:, :, None, None] >= z - 1e-4
            found = np.maximum(found, (below * chance).sum(axis=(2, 3)))
    return found


@pytest.mark.parametrize("sizes", [(3, 3, 0.5), (2, 3, 0.5), (3, 2, 0.8)])
def test_exact_p_is_that_of_the_enumeration(sizes):
    assert ratio_p_values(*sizes) == pytest.approx(brute_p(*sizes), abs=2e-3)


def test_exact_p_by_hand():
    # P(0 of n, n of n) = (1 - p0 / 2)^n p0^n is largest at p0 = 1.
    assert ratio_p_values(1, 1, 0.5)[0, 1] == pytest.approx(1 / 2)
    assert ratio_p_values(2, 2, 0.5)[0, 2] == pytest.approx(1 / 4)
    table = ratio_p_values(16, 24, 0.5)
    assert (table[:, 0] == 1).all()
    assert (np.diff(table, axis=0) >= 0).all() and (np.diff(table, axis=1) <= 0).all()
    z = score(np.arange(17)[:, None], np.arange(25), 16, 24, 0.5)
    assert (np.diff(z, axis=0) > 0).all() and (np.diff(z, axis=1) < 0).all()


def test_cuts_are_tested_from_the_last_one_backwards():
    right = np.array(
        [
            [30, 30, 0, 0, 0],
            [30, 0, 30, 0, 0],  # comes back once
            [30, 0, 0, 0, 30],  # and at the end
            [1, 0, 0, 0, 0],  # too little to lose
            [30, 30, 0, 0, 0],
            [30, 0, 0, 0, 0],
        ]
    )
    made = np.full(right.shape, 40)
    made[4, 3:] = made[5, 1:] = 0
    found = points_of_no_return(right, made)
    assert list(found.at) == [2, 3, -1, -1, 2, -1]
    told = [CLAIMED, CLAIMED, NONE, CANNOT_TELL, CLAIMED, CANNOT_TELL]
    assert found.verdicts() == told
    assert found.level == pytest.approx(3 * 0.1 / 6)
    assert found.p[5] == 1 and np.isnan(found.cuts[4, 3:]).all()
    # The least number of right branches that could have been enough with one more.
    table = ratio_p_values(40, 40, 0.5)[0]
    assert table[found.needed[3]] <= 4 * 0.1 / 6 < table[found.needed[3] - 1]
    assert found.needed[5] == 41


def test_exact_drop_is_that_of_all_permutations():
    made = np.array([2, 0, 2, 3])
    owner = np.repeat(np.arange(4), made)
    for total in range(8):
        every = np.array(
            [
                np.bincount(owner[list(some)], minlength=4)
                for some in itertools.combinations(range(7), total)
            ]
        )
        several = np.tile(made, (len(every), 1))
        found = largest_drop(every, several)
        largest = found.p <= found.p[:, None] + 1e-9  # [seen, permutation]
        assert found.p == pytest.approx(largest.mean(axis=1))
        drawn = largest_drop(every[:3], several[:3], permutations=4000, seed=1)
        assert drawn.p == pytest.approx(found.p[:3], abs=0.04)
    row = lambda *counts: largest_drop(np.array([counts]), made[None])
    assert row(2, 0, 0, 0).p[0] == pytest.approx(1 / 21) and row(2, 0, 0, 0).place == 0
    assert row(2, 0, 2, 0).place == 2 and row(0, 0, 1, 3).place == -1


def test_p_of_flat_traces_is_uniform():
    rng = np.random.default_rng(0)
    right = rng.binomial(16, rng.uniform(0.2, 0.8, (200, 1)), (200, 12))
    p = largest_drop(right, np.full(right.shape, 16)).p
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 4 * (level * (1 - level) / 200) ** 0.5


def test_sizes_by_hand():
    right = np.array([[10, 8, 3, 1], [9, 0, 9, 0], [5, 5, 5, 5]])
    made = np.array([[10, 10, 10, 10], [10, 0, 10, 10], [10, 10, 10, 10]])
    found = estimate(right, made, np.array([1, 2, -1]))
    assert found.before[:2] == pytest.approx([0.9, 0.9])
    assert found.after[:2] == pytest.approx([0.2, 0])
    assert found.drop[0] == pytest.approx(0.7) and np.isnan(found.drop[2])
    # Wilson of 18 and 4 of 20: [0.699, 0.972] and [0.081, 0.416].
    assert found.low[0] == pytest.approx(0.7 - np.hypot(0.201, 0.216), abs=1e-3)
    assert found.high[0] == pytest.approx(0.7 + np.hypot(0.072, 0.119), abs=1e-3)
    near = estimate(right, made, np.array([1, 0, -1]), reach=1)
    assert near.drop[:2] == pytest.approx([0.5, 0.0])  # cut 1 of the second: no branch


def test_cliffs_by_hand():
    # 0.1 + 1.645 sqrt((0.25 + 0.1875) / 64) = 0.236, and 15 / 64 is 0.234.
    right, made = np.array([[32, 16, 16], [32, 17, 0]]), np.full((2, 3), 64)
    assert cliff_test(right, made).tolist() == [[True, False], [False, True]]
    made[0, 1] = 0
    assert not cliff_test(right, made)[0].any()


def test_parts_without_noise_are_exact():
    operator = np.array([0.1, 0.2, 0.6])
    position = np.array([[0.2], [0.1], [0.0], [0.0]])
    v = np.tile(operator + position, (5, 1, 1))
    found = variance_shares(v, v, np.arange(5), 50, 0)
    total = operator.var() + position.var()
    assert found["variance"]["value"] == pytest.approx(total, abs=1e-6)
    value = lambda name: found["shares"][name]["value"]
    assert value("operator") == pytest.approx(100 * operator.var() / total, abs=1e-4)
    assert value("position") == pytest.approx(100 * position.var() / total, abs=1e-4)
    assert max(abs(value(name)) for name in PARTS[2:]) < 1e-6
    assert found["noise"]["value"] == 0 and found["verdict"] == "less"


def test_parts_are_products_of_distinct_halves_and_problems():
    rng = np.random.default_rng(1)
    first, second = rng.random((5, 4, 3)) + 0.1 * rng.random((2, 5, 4, 3))
    problem = np.array([0, 0, 1, 2, 2])
    found = variance_shares(first, second, problem, 20, 0)

    def effect(v):  # of operator x position
        return v - v.mean(0, keepdims=True) - v.mean(1, keepdims=True) + v.mean()

    one, two = ([effect(v) for v in half] for half in (first, second))
    own = np.mean([(a * b).mean() for a, b in zip(one, two)])
    pairs = [
        ((one[i] + two[i]) * (one[j] + two[j])).mean() / 4
        for i, j in itertools.product(range(5), repeat=2)
        if problem[i] != problem[j]
    ]
    scale = 100 / found["variance"]["value"]
    value = lambda name: found["shares"][name]["value"]
    common = np.mean(pairs)
    assert value("operator x position") == pytest.approx(scale * common, rel=1e-3)
    assert value("rest") == pytest.approx(scale * (own - common), rel=1e-3)
    assert sum(value(name) for name in PARTS) == pytest.approx(100, abs=1e-4)


def test_planted_parts_are_recovered():
    for case in shares(900, 16, np.random.default_rng(2)).values():
        for name, row in case["parts"].items():
            assert abs(row["mean"] - row["planted"]) < 4 * row["error"], name


def test_noise_of_shared_keys():
    rng = np.random.default_rng(3)
    drawn = rng.random((40, 4, 1, 16))
    right = (drawn < np.array([0.4, 0.4, 0.5])[:, None]) * 1.0
    right = np.concatenate([right, rng.permuted(right[:, :, :1], axis=3)], axis=2)
    right[0, 0, 2, 3:] = np.nan
    found = paired_noise(right, 0, np.arange(40) // 2, 99)
    ratio = {o: row["ratio"]["value"] for o, row in found["operators"].items()}
    assert ratio[1] is None and found["operators"][1]["same"] == 1
    assert ratio[2] == pytest.approx((0.24 + 0.25) / (0.1 * 0.9), rel=0.15)
    assert ratio[3] == pytest.approx(1, rel=0.1)
    assert found["median"] == pytest.approx((ratio[2] + ratio[3]) / 2)
    # Shifting the indices: on average over all shifts, the sum of the variances.
    one, other = right[5, 1, 2], right[5, 1, 0]
    shifted = [np.var(one - np.roll(other, s), ddof=1) for s in range(16)]
    apart = np.var(one, ddof=1) + np.var(other, ddof=1)
    assert np.mean(shifted) == pytest.approx(apart)


@pytest.mark.parametrize("right", [0, 8])
@pytest.mark.parametrize("cuts", [1, 4])
@pytest.mark.parametrize("made", [0, 8])
@pytest.mark.parametrize("traces", [0, 3])
def test_nothing_to_find(traces, made, cuts, right):
    counts = np.full((traces, cuts), min(right, made))
    tried = np.full(counts.shape, made)
    points = points_of_no_return(counts, tried)
    assert (points.at == -1).all() and points.p == pytest.approx(1)
    loses = right and cuts > 1 and made
    assert set(points.verdicts()) <= ({NONE} if loses else {CANNOT_TELL})
    drop = largest_drop(counts, tried)
    assert (drop.place == -1).all() and (drop.p == 1).all()
    assert np.isnan(estimate(counts, tried, drop.place).drop).all()
    assert not cliff_test(counts, tried).any()


def test_too_little_for_shares():
    v = np.full((3, 2, 2), np.nan)
    found = variance_shares(v, v, np.arange(3), 10, 0)
    assert found["left_out"] == 3 and found["verdict"] == UNDECIDED
    same = np.full((3, 2, 2), 0.5)
    found = variance_shares(same, same, np.arange(3), 10, 0)
    assert found["shares"]["trace"]["value"] is None and found["verdict"] == UNDECIDED
    assert paired_noise(v[..., None], 0)["median"] is None


@pytest.mark.parametrize("branches", [16, 64])
def test_false_points_stay_below_the_level(branches):
    rng = np.random.default_rng(branches)
    assert claims("to the half", 1200, branches, rng)["false"]["low"] <= 10
    mixed = claims("mixed", 1200, branches, rng)
    assert mixed["false"]["low"] <= 10 < mixed["uncorrected"]["low"]


def test_false_drops_stay_below_the_level():
    found = falls("mixed", 240, 64, np.random.default_rng(5))
    assert found["false"]["low"] <= 10
    assert found["covered"]["levels"] > 85


# ------------------------------------------------------------ logged choices
def test_logged_choices_value_every_other_choice_without_bias():
    rng = np.random.default_rng(0)
    n, draws, right = 400, 300, np.array([0.2, 0.5, 0.8])
    hard = rng.random(n)
    chosen = (hard > 0.5).astype(int)  # the router sees how hard a problem is
    truth = np.clip(right[None] - 0.4 * (hard[:, None] - 0.5), 0, 1)
    found = []
    for _ in range(draws):
        at_random = rng.random(n) < 0.5
        taken = np.where(at_random, rng.integers(0, 3, n), chosen)
        chance = 0.5 / 3 + 0.5 * (taken == chosen)
        outcome = (rng.random(n) < truth[np.arange(n), taken]).astype(float)
        value = lambda target: doubly_robust(outcome, taken, chance, target, 3).mean()
        found.append([value(chosen), *(value(np.full(n, a)) for a in range(3))])
    wanted = [truth[np.arange(n), chosen].mean(), *truth.mean(axis=0)]
    error = np.std(found, axis=0) / np.sqrt(draws)
    assert (np.abs(np.mean(found, axis=0) - wanted) < 4 * error).all()
    # Without the chances the router's own choices would pull an operator's rate.
    assert doubly_robust(outcome, taken, chance, np.full(n, -1), 3).tolist() == [0] * n
    with pytest.raises(ValueError, match="above 0"):
        doubly_robust(outcome, taken, 0 * chance, chosen, 3)
