"""Do failures fall into kinds? Clusters of their features, and whether they are more than chance makes."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances, silhouette_score
from threadpoolctl import threadpool_limits

from fr.config import ClustersConfig
from fr.diagnosis.clusters import ALGORITHMS, agreement, cluster
from fr.diagnosis.sequential import sequential_p

# What a table without regimes keeps of the failures: each feature's values, or these and the correlations.
NULLS = ("shuffled", "cloud")
_STARTS = 2  # of a clustering that others are compared with; those start once


@dataclasses.dataclass(frozen=True)
class Null:
    """Stability of as many clusters in `drawn` tables without regimes: mean, 95 % of them, one-sided p of the seen
    one (`sequential_p`).
    """

    mean: float
    low: float
    high: float
    p: float
    drawn: int


@dataclasses.dataclass(frozen=True)
class Regimes:
    """Clusters of failures, the largest first, and how far they can be trusted.

    `stability` is the mean over resamples of the adjusted Rand index between these clusters and the resample's
    (1: always the same, 0: as chance would have it), `low` and `high` 95 % of them; `seeds` is the mean over
    clusterings of all failures that only start elsewhere.
    """

    labels: Int[np.ndarray, "N"]
    silhouettes: dict[int, float]  # by number of clusters
    stability: float
    low: float
    high: float
    seeds: float
    nulls: dict[str, Null]  # by NULLS


# One thread: fits are small, and sums of several threads differ in their last bits from machine to machine.
@threadpool_limits.wrap(limits=1)
def find_regimes(
    z: Float[np.ndarray, "N F"],
    algorithm: str,
    config: ClustersConfig,
    rng: np.random.Generator,
) -> Regimes:
    """Cluster standard scores; their number, 2 to `largest`, is that of the largest silhouette.

    `nulls` have as many clusters as were found. Raises ValueError for an algorithm that is not of ALGORITHMS.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is none of {', '.join(ALGORITHMS)}")
    distances = pairwise_distances(z)
    silhouettes, found = {}, {}
    for k in range(2, config.largest + 1):
        labels = cluster(z[None], z[None], k, algorithm, rng, _STARTS)[0]
        if len(np.unique(labels)) == k:
            found[k] = labels
            silhouettes[k] = float(
                silhouette_score(distances, labels, metric="precomputed")
            )
    k = max(silhouettes, key=silhouettes.get)
    largest_first = np.argsort(-np.bincount(found[k]), kind="stable")
    labels = np.argsort(largest_first)[found[k]]
    seen = _resampled(z[None], labels[None], algorithm, config.bootstrap, rng)[0]
    tables = np.broadcast_to(z, (config.seeds, *z.shape))
    again = cluster(tables, tables, k, algorithm, rng)
    return Regimes(
        labels=labels,
        silhouettes=silhouettes,
        stability=float(seen.mean()),
        low=float(np.quantile(seen, 0.025)),
        high=float(np.quantile(seen, 0.975)),
        seeds=float(agreement(np.broadcast_to(labels, again.shape), again, k).mean()),
        nulls={
            name: _null(z, k, algorithm, name, seen.mean(), config, rng)
            for name in NULLS
        },
    )


def draw_null(
    z: Float[np.ndarray, "N F"], name: str, rng: np.random.Generator
) -> Float[np.ndarray, "N F"]:
    """A table without regimes: every column holds the values that it has, in another order.

    shuffled: any order, so that columns are independent. cloud [ours]: the order of a normal draw that is
    correlated as the columns' normal scores are. A long cloud is cut in two more stably than a round one, so
    that failures can beat the first without having any regimes.
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
    z: np.ndarray,
    k: int,
    algorithm: str,
    name: str,
    seen: float,
    config: ClustersConfig,
    rng: np.random.Generator,
) -> Null:
    def draw(tables: int) -> Float[np.ndarray, "B"]:
        drawn = np.stack([draw_null(z, name, rng) for _ in range(tables)])
        labels = cluster(drawn, drawn, k, algorithm, rng, _STARTS)
        return _resampled(drawn, labels, algorithm, config.null_bootstrap, rng).mean(
            axis=1
        )

    # A mean over fewer resamples than the seen one's scatters more: p is too large rather than too small.
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
    """Agreement with `labels`, over all failures, of as many clusters that were found in a resample of them."""
    k = int(labels.max()) + 1
    tables, labels = (np.repeat(part, resamples, axis=0) for part in (z, labels))
    rows = rng.integers(z.shape[1], size=labels.shape)
    found = cluster(
        np.take_along_axis(tables, rows[..., None], axis=1), tables, k, algorithm, rng
    )
    return agreement(labels, found, k).reshape(len(z), resamples)
