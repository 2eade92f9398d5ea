"""Clusters of failures by their features, and their stability against nulls.

N failures of one cell, F features, K clusters.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances, silhouette_score
from threadpoolctl import threadpool_limits

from fr.config import ClustersConfig
from fr.diagnosis.clustering import ALGORITHMS, agreement, cluster
from fr.stats.sequential import sequential_p

# A table of a null keeps each feature's values, or the values and the correlations.
NULLS = ("shuffled", "cloud")
_STARTS = 2  # of a clustering that resamples are compared with; a resample starts once


@dataclasses.dataclass(frozen=True)
class Null:
    """Stability of clusters in tables without clusters."""

    mean: float  # over the tables
    low: float  # 95 % of the tables are between `low` and `high`
    high: float  # upper end
    p: float  # one-sided p of the stability that was seen (`sequential_p`)
    drawn: int  # tables


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Clusters of failures, the largest first, and measures of trust in them."""

    labels: Int[np.ndarray, "N"]  # cluster of each failure, in [0, K)
    silhouettes: dict[int, float]  # by number of clusters
    # Mean over resamples of the adjusted Rand index between these clusters and the
    # clusters of the resample: 1 always the same, 0 agreement by chance.
    stability: float
    low: float  # 95 % of the resamples are between `low` and `high`
    high: float  # upper end
    seeds: float  # the same index, over clusterings that differ in their start alone
    nulls: dict[str, Null]  # by name in NULLS


# Sums of several threads differ in their last bits from machine to machine.
@threadpool_limits.wrap(limits=1)
def find_clusters(
    z: Float[np.ndarray, "N F"],
    algorithm: str,
    config: ClustersConfig,
    rng: np.random.Generator,
) -> Clusters:
    """Cluster failures; K, from 2 to `largest`, has the largest silhouette.

    Args:
        z: Standard scores of the features, [N, F].
        algorithm: One of `fr.diagnosis.clustering.ALGORITHMS`.
        config: Largest K, numbers of resamples, starts and tables of the nulls.
        rng: Source of all draws.

    Returns:
        The clusters; tables of the nulls are cut into the same number of clusters.

    Raises:
        ValueError: The algorithm is unknown.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is not in {', '.join(ALGORITHMS)}")
    distances = pairwise_distances(z)
    silhouettes, found = {}, {}
    for k in range(2, config.largest + 1):
        labels = cluster(z[None], z[None], k, algorithm, rng, _STARTS)[0]
        if len(np.unique(labels)) == k:
            found[k] = labels
            silhouettes[k] = float(
                silhouette_score(distances, labels, metric="precomputed")
            )
    k = max(silhouettes, key=lambda k: silhouettes[k])
    largest_first = np.argsort(-np.bincount(found[k]), kind="stable")
    labels = np.argsort(largest_first)[found[k]]
    seen = _resampled(z[None], labels[None], algorithm, config.bootstrap, rng)[0]
    tables = np.broadcast_to(z, (config.seeds, *z.shape))
    again = cluster(tables, tables, k, algorithm, rng)
    return Clusters(
        labels=labels,
        silhouettes=silhouettes,
        stability=float(seen.mean()),
        low=float(np.quantile(seen, 0.025)),
        high=float(np.quantile(seen, 0.975)),
        seeds=float(agreement(np.broadcast_to(labels, again.shape), again, k).mean()),
        nulls={
            name: _null(z, k, algorithm, name, float(seen.mean()), config, rng)
            for name in NULLS
        },
    )


def draw_null(
    z: Float[np.ndarray, "N F"], name: str, rng: np.random.Generator
) -> Float[np.ndarray, "N F"]:
    """Draw a table without clusters: each column keeps its values in another order.

    shuffled: in any order, so that columns are independent. cloud [ours]: in the order
    of a normal draw that is correlated like the columns' normal scores. A long cloud is
    cut in two more stably than a round one, so failures can beat `shuffled` without
    having clusters.

    Args:
        z: Standard scores, [N, F].
        name: One of NULLS.
        rng: Source of the draw.

    Returns:
        The table, [N, F].
    """
    normal = rng.normal(size=z.shape)
    if name == "cloud":
        scores = ndtri((rankdata(z, axis=0) - 0.5) / len(z))
        values, vectors = np.linalg.eigh(np.cov(scores, rowvar=False))
        # Rounding makes an eigenvalue of 0 negative.
        normal = normal * np.sqrt(np.maximum(values, 0)) @ vectors.T
    ranks = normal.argsort(axis=0).argsort(axis=0)
    return np.take_along_axis(np.sort(z, axis=0), ranks, axis=0)


def _null(
    z: Float[np.ndarray, "N F"],
    k: int,
    algorithm: str,
    name: str,
    seen: float,
    config: ClustersConfig,
    rng: np.random.Generator,
) -> Null:
    def draw(tables: int) -> np.ndarray:
        drawn = np.stack([draw_null(z, name, rng) for _ in range(tables)])
        labels = cluster(drawn, drawn, k, algorithm, rng, _STARTS)
        found = _resampled(drawn, labels, algorithm, config.null_bootstrap, rng)
        return found.mean(axis=1)

    # A mean over fewer resamples scatters more than the seen one: p is too large rather
    # than too small.
    p, drawn = sequential_p(draw, seen, config.nulls)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Null(float(drawn.mean()), float(low), float(high), p, len(drawn))


def _resampled(
    z: Float[np.ndarray, "B N F"],
    labels: Int[np.ndarray, "B N"],
    algorithm: str,
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "B R"]:
    """Agreement of `labels` with clusters that resamples of the rows give all rows."""
    k = int(labels.max()) + 1
    tables, labels = (np.repeat(part, resamples, axis=0) for part in (z, labels))
    rows = rng.integers(z.shape[1], size=labels.shape)
    found = cluster(
        np.take_along_axis(tables, rows[..., None], axis=1), tables, k, algorithm, rng
    )
    return agreement(labels, found, k).reshape(len(z), resamples)
