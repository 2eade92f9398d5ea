"""Votes, entropies, the entropy line and crossovers, by hand and by brute force."""

import itertools
from collections import Counter

import numpy as np
import pytest

from fr.stats.crossover import crossover_interval, crossovers, pass_curves
from fr.stats.entropy_line import fit_entropy_line
from fr.stats.pass_at_k import pass_at_k
from fr.stats.votes import answer_entropy, vote_rate


def by_force(attempts, right, k):
    """Mean over all draws of k attempts of the chance that the chosen one is right."""
    chances = []
    for drawn in itertools.combinations(attempts, k):
        votes = Counter(answer for answer in drawn if answer is not None)
        best = [a for a in votes if votes[a] == max(votes.values())]
        chances.append(np.mean([a in right for a in best]) if best else 0.0)
    return np.mean(chances)


@pytest.mark.parametrize(
    "attempts, right",
    [
        ("aabbcd", "a"),
        ("aaabbb", "b"),
        ("abcdef", "ace"),
        (["a", None, None, "b", "b", "c", None], "ac"),
        ([None] * 4, ""),
        ("aaaaaaa", "a"),
        ("aabbccdd", "bd"),
    ],
)
def test_votes_are_the_mean_over_all_draws(attempts, right):
    counts = Counter(answer for answer in attempts if answer is not None)
    missing = len(attempts) - counts.total()
    for k in range(1, len(attempts) + 1):
        found = vote_rate(counts, set(right), missing, k)
        assert found == pytest.approx(by_force(attempts, set(right), k), abs=1e-12)


def test_a_vote_of_one_is_the_accuracy_and_too_many_votes_are_refused():
    counts = Counter("aabcc")
    assert vote_rate(counts, {"c"}, 3, 1) == pytest.approx(2 / 8)
    for k in (0, 9):
        with pytest.raises(ValueError, match=f"a vote of {k} among 8 attempts"):
            vote_rate(counts, {"c"}, 3, k)


def test_large_votes_stay_exact():
    # Three answers of 50, 40 and 30: most draws of 60 of 128 go to the first.
    counts = {"a": 50, "b": 40, "c": 30}
    rates = [vote_rate(counts, {name}, 8, 60) for name in counts]
    assert sum(rates) == pytest.approx(1, abs=1e-9) and rates[0] > 0.8


def test_entropy_of_answers_by_hand():
    assert answer_entropy("aaaa") == 0 and answer_entropy("") == 0
    assert answer_entropy("abab") == pytest.approx(np.log(2))
    assert answer_entropy("aaab") == pytest.approx(
        -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    )


def test_the_entropy_line_is_found_again():
    entropy = np.array([1.2, 0.7, 0.3, 0.1])
    found = fit_entropy_line(entropy, 0.9 - 0.2 * np.exp(entropy))
    assert found["a"] == pytest.approx(0.2) and found["b"] == pytest.approx(0.9)
    assert found["r2"] == pytest.approx(1)
    assert fit_entropy_line([1.0, 2.0], [0.1, 0.2]) == {}
    assert fit_entropy_line([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]) == {}
    assert fit_entropy_line([], []) == {}


def test_curves_are_pass_at_every_k():
    curves = pass_curves(np.array([0, 3, 8]), 8)
    assert curves.shape == (3, 8)
    np.testing.assert_array_equal(curves[:, 3], pass_at_k([0, 3, 8], 8, 4))
    np.testing.assert_allclose(curves[:, 0], [0, 3 / 8, 1])


def test_crossover_is_the_least_k_at_which_the_base_is_ahead():
    base = np.array([[0.1, 0.3, 0.5, 0.7], [0.1, 0.2, 0.3, 0.4], [0.9] * 4])
    trained = np.array([[0.4, 0.4, 0.45, 0.5], [0.5] * 4, [0.5] * 4])
    found = crossovers(base, trained)
    assert found.tolist() == [3, np.inf, 1]
    # Ties are not ahead.
    assert crossovers(trained, trained).tolist() == [np.inf] * 3
    interval = crossover_interval(np.array([3.0] + [2.0] * 50 + [np.inf] * 50))
    assert interval == {"value": 3, "low": 2, "high": None, "never": 0.5}
