"""K-means and Gaussian mixtures of many small tables at once.

Tests of clusters (`fr.diagnosis.clusters`) cluster thousands of tables of a null. B
tables of N rows and F features, K clusters.
"""

import numpy as np
from jaxtyping import Float, Int

ALGORITHMS = ("kmeans", "mixture")
_STEPS = {"kmeans": 300, "mixture": 100}
_TOLERANCE = 1e-3  # of a mixture's mean log likelihood, in nats
# A resample repeats rows: without a floor a component could shrink onto one of them.
_FLOOR = 0.01


def cluster(
    learned: Float[np.ndarray, "B M F"],
    told: Float[np.ndarray, "B N F"],
    k: int,
    algorithm: str,
    rng: np.random.Generator,
    starts: int = 1,
) -> Int[np.ndarray, "B N"]:
    """Learn clusters of one batch of tables and assign the rows of another to them.

    kmeans: Lloyd's steps from greedy k-means++ centres (doi 10.5555/1283383.1283494).
    mixture: EM for full covariances from the k-means clusters; the variance of a
    component is at least 0.01.

    Args:
        learned: Standardised tables that the clusters are learned from, [B, M, F].
        told: Tables whose rows are assigned, [B, N, F].
        k: Number of clusters, K.
        algorithm: One of ALGORITHMS.
        rng: Source of the starts.
        starts: Starts per table, of which the best is kept.

    Returns:
        Cluster of each row of `told`, [B, N], in [0, K).
    """
    many = np.repeat(learned, starts, axis=0)
    centres, labels, cost = _kmeans(many, k, rng)
    if algorithm == "kmeans":
        centres = centres[_best(cost, starts)]
        return _squared(told, centres).argmin(axis=-1)
    weights, means, covariances, cost = _mixture(many, np.eye(k)[labels])
    kept = _best(cost, starts)
    return _log_densities(told, weights[kept], means[kept], covariances[kept]).argmax(
        axis=-1
    )


def agreement(
    one: Int[np.ndarray, "B N"], other: Int[np.ndarray, "B N"], k: int
) -> Float[np.ndarray, "B"]:
    """Adjusted Rand index of two clusterings of each table.

    Args:
        one: Cluster of each row, [B, N].
        other: Cluster of each row, [B, N].
        k: Largest number of clusters.

    Returns:
        The index, [B]: 1 for the same clusters, 0 for agreement by chance.
    """
    table = np.eye(k)[one].swapaxes(1, 2) @ np.eye(k)[other]
    pairs = lambda count: (count * (count - 1) / 2).sum(axis=-1)
    both = pairs(table.reshape(len(table), -1))
    first, second = pairs(table.sum(axis=2)), pairs(table.sum(axis=1))
    all_ = one.shape[1] * (one.shape[1] - 1) / 2
    expected, most = first * second / all_, (first + second) / 2
    # Two clusterings into one cluster are the same.
    return np.where(
        most > expected,
        (both - expected) / np.where(most > expected, most - expected, 1.0),
        1.0,
    )


def _best(cost: Float[np.ndarray, "BS"], starts: int) -> Int[np.ndarray, "B"]:
    """Index of the start with the lowest cost, per table."""
    lowest = cost.reshape(-1, starts).argmin(axis=1)
    return np.arange(len(lowest)) * starts + lowest


def _squared(
    x: Float[np.ndarray, "B N F"], centres: Float[np.ndarray, "B K F"]
) -> Float[np.ndarray, "B N K"]:
    """Squared distances."""
    inner = x @ centres.swapaxes(1, 2)
    return np.maximum(
        (x**2).sum(-1)[..., None] - 2 * inner + (centres**2).sum(-1)[:, None], 0.0
    )


def _plus_plus(
    x: Float[np.ndarray, "B N F"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "B K F"]:
    """Rows far from each other: greedy k-means++ (doi 10.5555/1283383.1283494)."""
    tables, trials = np.arange(len(x))[:, None], 2 + int(np.log(k))
    centres = x[tables, rng.integers(x.shape[1], size=(len(x), 1))]
    nearest = _squared(x, centres)[..., 0]
    for _ in range(k - 1):
        ends = nearest.cumsum(axis=1)
        uniform = rng.random((len(x), trials)) * ends[:, -1:]
        drawn = (
            (ends[:, None] < uniform[..., None]).sum(axis=-1).clip(max=x.shape[1] - 1)
        )
        shorter = np.minimum(nearest[..., None], _squared(x, x[tables, drawn]))
        taken = shorter.sum(axis=1).argmin(axis=1)[:, None]
        centres = np.concatenate(
            [centres, x[tables, np.take_along_axis(drawn, taken, 1)]], axis=1
        )
        nearest = np.take_along_axis(shorter, taken[:, None], 2)[..., 0]
    return centres


def _kmeans(
    x: Float[np.ndarray, "B N F"], k: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "B K F"], Int[np.ndarray, "B N"], Float[np.ndarray, "B"]]:
    """(centres, labels, sums of squared distances)."""
    centres = _plus_plus(x, k, rng)
    labels = _squared(x, centres).argmin(axis=-1)
    live = np.arange(len(x))
    for _ in range(_STEPS["kmeans"]):
        member = np.eye(k)[labels[live]]
        count = member.sum(axis=1)[..., None]
        means = member.swapaxes(1, 2) @ x[live] / np.maximum(count, 1)
        # A cluster that lost all its rows keeps its centre.
        centres[live] = np.where(count > 0, means, centres[live])
        moved = _squared(x[live], centres[live]).argmin(axis=-1)
        changed = (moved != labels[live]).any(axis=1)
        labels[live] = moved
        live = live[changed]
        if not len(live):
            break
    return centres, labels, _squared(x, centres).min(axis=-1).sum(axis=1)


def _mixture(
    x: Float[np.ndarray, "B N F"], share: Float[np.ndarray, "B N K"]
) -> tuple[
    Float[np.ndarray, "B K"],
    Float[np.ndarray, "B K F"],
    Float[np.ndarray, "B K F F"],
    Float[np.ndarray, "B"],
]:
    """(log weights, means, covariances, minus the mean log likelihoods)."""
    size, k = x.shape[-1], share.shape[-1]
    weights, means = np.zeros((len(x), k)), np.zeros((len(x), k, size))
    covariances = np.zeros((len(x), k, size, size))
    likelihood = np.full(len(x), -np.inf)
    live, share = np.arange(len(x)), share.copy()
    outer = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], size**2)
    for _ in range(_STEPS["mixture"]):
        part = share[live].swapaxes(1, 2)
        count = part.sum(axis=-1) + 1e-12
        mean = part @ x[live] / count[..., None]
        second = (part @ outer[live] / count[..., None]).reshape(*mean.shape, size)
        weights[live], means[live] = np.log(count / x.shape[1]), mean
        covariances[live] = (
            second - mean[..., :, None] * mean[..., None, :] + _FLOOR * np.eye(size)
        )
        logs = _log_densities(
            x[live], weights[live], mean, covariances[live], outer[live]
        )
        top = logs.max(axis=-1, keepdims=True)
        dense = np.exp(logs - top)
        whole = dense.sum(axis=-1, keepdims=True)
        share[live] = dense / whole
        found = (top + np.log(whole))[..., 0].mean(axis=1)
        risen = np.abs(found - likelihood[live]) >= _TOLERANCE
        likelihood[live] = found
        live = live[risen]
        if not len(live):
            break
    return weights, means, covariances, -likelihood


def _log_densities(
    x: Float[np.ndarray, "B N F"],
    weights: Float[np.ndarray, "B K"],
    means: Float[np.ndarray, "B K F"],
    covariances: Float[np.ndarray, "B K F F"],
    outer: Float[np.ndarray, "B N FF"] | None = None,
) -> Float[np.ndarray, "B N K"]:
    """Log of every component's weight times its density at every row."""
    size = x.shape[-1]
    if outer is None:
        outer = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], size**2)
    precision = np.linalg.inv(covariances)
    towards = (precision @ means[..., None])[..., 0]
    quadratic = outer @ precision.reshape(*means.shape[:2], size**2).swapaxes(1, 2)
    quadratic += (towards * means).sum(-1)[:, None] - 2 * x @ towards.swapaxes(1, 2)
    return (weights - np.linalg.slogdet(covariances)[1] / 2)[:, None] - (
        quadratic + size * np.log(2 * np.pi)
    ) / 2
