"""Many tables are clustered at once as one at a time, and p drawn one after the other
keep their level.
"""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from fr.diagnosis.clustering import _kmeans, _mixture, agreement, cluster
from fr.stats.sequential import sequential_p


def test_sums_of_squares_and_likelihoods_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 90, 3)) + 3.0 * rng.integers(2, size=(12, 90, 1))
    starts = [_kmeans(x, 3, rng) for _ in range(10)]
    costs = np.array([cost for *_, cost in starts])
    ours = costs.min(axis=0)
    known = [KMeans(3, n_init=10, random_state=0).fit(table).inertia_ for table in x]
    assert ours == pytest.approx(known, rel=0.01)
    assert costs.mean() < 1.06 * np.mean(known)  # one start alone
    logs, means, covariances, cost = _mixture(x, np.eye(3)[starts[0][1]])
    for table, share, mean, covariance, found in zip(
        x, np.exp(logs), means, covariances, cost
    ):
        assert share.sum() == pytest.approx(1.0)
        theirs = GaussianMixture(3, reg_covar=0.01, weights_init=share, means_init=mean)
        theirs.precisions_init = np.linalg.inv(covariance)
        # Where this EM has ended, the other one stays.
        assert -found == pytest.approx(theirs.fit(table).lower_bound_, abs=0.01)


@pytest.mark.parametrize("algorithm", ["kmeans", "mixture"])
def test_a_table_is_clustered_alone_as_among_others(algorithm):
    rng = np.random.default_rng(1)
    truth = np.arange(120) % 3
    x = rng.normal(size=(5, 120, 2)) + 8.0 * np.array([[0, 0], [0, 1], [1, 0]])[truth]
    together = cluster(x, x, 3, algorithm, rng, 2)
    for table, labels in zip(x, together):
        alone = cluster(table[None], table[None], 3, algorithm, rng, 2)[0]
        assert (
            adjusted_rand_score(labels, alone)
            == adjusted_rand_score(labels, truth)
            == 1.0
        )
    # Rows that were not learned from are told by what was.
    assert (
        adjusted_rand_score(cluster(x[:, ::2], x, 3, algorithm, rng, 2)[0], truth)
        == 1.0
    )
    same = cluster(np.ones((2, 20, 2)), np.ones((2, 20, 2)), 3, algorithm, rng)
    assert len(np.unique(same)) == 1


def test_agreement_is_the_adjusted_rand_index():
    rng = np.random.default_rng(2)
    one, other = rng.integers(4, size=(2, 6, 50))
    other[0] = 0
    one[1] = other[1] = 2
    other[2] = (one[2] + 1) % 4
    known = [adjusted_rand_score(a, b) for a, b in zip(one, other)]
    assert agreement(one, other, 4) == pytest.approx(known, abs=1e-12)


def test_a_sequential_p_keeps_its_level_and_ends_early():
    rng = np.random.default_rng(3)
    p, drawn = zip(
        *(
            sequential_p(rng.random, rng.random(), most=199, enough=5)
            for _ in range(4000)
        )
    )
    p, drawn = np.array(p), np.array([len(d) for d in drawn])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / 4000)
    assert np.mean(p <= 0.05) > 0.035 and drawn.mean() < 60 and drawn.max() == 199
    assert sequential_p(lambda n: np.zeros(n), 1.0, most=2000)[0] == 1 / 2001
    # Ties count, rounding does not make a difference.
    assert (
        sequential_p(lambda n: np.full(n, 0.3 - 1e-16), 0.1 + 0.2, most=2000)[0] == 1.0
    )
