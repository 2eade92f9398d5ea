"""Statistics of rows in clusters: several rows of one problem or one training run."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def resample_problems(
    problem: Int[np.ndarray, "N"],
    cell: Int[np.ndarray, "N"],
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "R N"]:
    """Resample problems, each with its rows in all cells.

    Problems of the same cells are exchanged with each other only, so that every cell
    keeps its size, except where a cell holds a question several times.

    Args:
        problem: problem of each row.
        cell: cell of each row.
        resamples: number of resamples.
        rng: random stream.

    Returns:
        How often each resample holds each row; row 0 is the sample itself.
    """
    problems, member = np.unique(problem, return_inverse=True)
    held: list[set[int]] = [set() for _ in problems]
    for c, p in zip(cell, member):
        held[p].add(int(c))
    weights = np.ones((resamples + 1, len(problems)))
    for kind in sorted({tuple(sorted(cells)) for cells in held}):
        alike = [p for p, cells in enumerate(held) if cells == set(kind)]
        share = np.full(len(alike), 1 / len(alike))
        weights[1:, alike] = rng.multinomial(len(alike), share, size=resamples)
    return weights[:, member]


def clustered_mean(
    values: Float[np.ndarray, "N"],
    mass: Float[np.ndarray, "N"],
    clusters: Sequence[Int[np.ndarray, "N"]],
) -> tuple[float, float, float]:
    """Compute a weighted mean with a standard error clustered in one or two ways.

    With two clusterings the variance is the sum of both, less that by both at once
    (doi 10.1198/jbes.2010.07136), and never below the larger of the two.

    Args:
        values: values times their mass.
        mass: weight of each row.
        clusters: one or two clusterings, an index per row.

    Returns:
        (mean, standard error, degrees of freedom); the clustering with fewer clusters
        gives the degrees.
    """
    total = mass.sum()
    mean = values.sum() / total
    rest = values - mean * mass

    def variance(index: Int[np.ndarray, "N"]) -> tuple[float, int]:
        _, member = np.unique(index, return_inverse=True)
        counted = len(np.unique(member[mass > 0]))
        sums = np.bincount(member, rest)
        scale = counted / max(counted - 1, 1)
        return float((sums**2).sum() / total**2 * scale), counted

    found = [variance(index) for index in clusters]
    whole, fewest = max(v for v, _ in found), min(n for _, n in found)
    if len(clusters) > 1:
        both = clusters[0] * (int(clusters[1].max()) + 1) + clusters[1]
        whole = max(whole, sum(v for v, _ in found) - variance(both)[0])
    # Rounding leaves a little of a difference that is the same everywhere.
    error = float(np.sqrt(whole)) if whole > 1e-20 else 0.0
    return float(mean), error, max(1.0, fewest - 1.0)
