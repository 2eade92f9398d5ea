"""Do failures fall into kinds? Clusters of their features, and whether they are more than chance makes."""

import dataclasses
import warnings

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from fr.config import RegimesConfig

ALGORITHMS = ("kmeans", "mixture")
# What a table without regimes keeps of the failures: each feature's values, or these and the correlations.
NULLS = ("shuffled", "cloud")
_STARTS = 2  # of a clustering that others are compared with; those start once


@dataclasses.dataclass(frozen=True)
class Null:
    """Stability of as many clusters in tables without regimes: mean, 95 % of them, one-sided p of the seen one."""

    mean: float
    low: float
    high: float
    p: float


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
    z: Float[np.ndarray, "N F"], algorithm: str, config: RegimesConfig, rng: np.random.Generator
) -> Regimes:
    """Cluster standard scores; their number, 2 to `largest`, is that of the largest silhouette.

    `nulls` have as many clusters as were found. Raises ValueError for an algorithm that is not of ALGORITHMS.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is none of {', '.join(ALGORITHMS)}")
    distances = pairwise_distances(z)
    silhouettes, found = {}, {}
    for k in range(2, config.largest + 1):
        labels = _fit(z, k, algorithm, rng, _STARTS).predict(z)
        if len(np.unique(labels)) == k:
            found[k] = labels
            silhouettes[k] = float(silhouette_score(distances, labels, metric="precomputed"))
    k = max(silhouettes, key=silhouettes.get)
    largest_first = np.argsort(-np.bincount(found[k]), kind="stable")
    labels = np.argsort(largest_first)[found[k]]
    seen = _resampled(z, labels, algorithm, config.bootstrap, rng)
    other = [_fit(z, k, algorithm, rng).predict(z) for _ in range(config.seeds)]
    return Regimes(
        labels=labels,
        silhouettes=silhouettes,
        stability=float(seen.mean()),
        low=float(np.quantile(seen, 0.025)),
        high=float(np.quantile(seen, 0.975)),
        seeds=float(np.mean([adjusted_rand_score(labels, again) for again in other])),
        nulls={name: _null(z, k, algorithm, name, seen.mean(), config, rng) for name in NULLS},
    )


def draw_null(z: Float[np.ndarray, "N F"], name: str, rng: np.random.Generator) -> Float[np.ndarray, "N F"]:
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
    config: RegimesConfig,
    rng: np.random.Generator,
) -> Null:
    draws = np.empty(config.nulls)
    for i in range(config.nulls):
        drawn = draw_null(z, name, rng)
        labels = _fit(drawn, k, algorithm, rng, _STARTS).predict(drawn)
        draws[i] = _resampled(drawn, labels, algorithm, config.null_bootstrap, rng).mean()
    low, high = np.quantile(draws, (0.025, 0.975))
    p = (1 + int((draws >= seen).sum())) / (1 + config.nulls)
    return Null(float(draws.mean()), float(low), float(high), p)


def _resampled(
    z: np.ndarray, labels: np.ndarray, algorithm: str, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "R"]:
    """Agreement with `labels`, over all failures, of as many clusters that were found in a resample of them."""
    k = int(labels.max()) + 1
    agreements = np.empty(resamples)
    for r in range(resamples):
        rows = rng.integers(len(z), size=len(z))
        agreements[r] = adjusted_rand_score(labels, _fit(z[rows], k, algorithm, rng).predict(z))
    return agreements


def _fit(
    z: np.ndarray, k: int, algorithm: str, rng: np.random.Generator, starts: int = 1
) -> KMeans | GaussianMixture:
    seed = int(rng.integers(2**31))
    if algorithm == "kmeans":
        model = KMeans(k, n_init=starts, random_state=seed)
    else:
        # A resample holds rows several times: without a floor a component could shrink onto one of them.
        model = GaussianMixture(k, n_init=starts, random_state=seed, reg_covar=0.01)
    with warnings.catch_warnings():
        # Too many clusters for the failures end unfinished, and silhouettes do not choose them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(z)
