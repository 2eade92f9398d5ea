"""Noise of differences between operators whose branches share random keys."""

import numpy as np
from jaxtyping import Float, Int

from fr.stats.bootstrap import estimate, resample_weights


def paired_noise(
    right: Float[np.ndarray, "N K O I"],
    reference: int,
    groups: Int[np.ndarray, "N"] | None = None,
    resamples: int = 999,
    seed: int = 0,
) -> dict:
    """Compare the noise of V_o - V_reference with shared keys and without.

    Branches of one index share their key, and different indices are independent.
    In a cell with n indices that both operators have, the noise variance of the
    difference is a = s^2(y_o[i] - y_r[i]) / n with shared keys. With pairs of different
    indices it is b = (s^2(y_o) + s^2(y_r)) / n, the mean over all shifts of the index.
    ratio = sum of b over cells / sum of a over cells: how many times fewer branches
    give the same error.

    Args:
        right: 1 for a right branch, 0 for a wrong one and NaN without one, by trace,
            cut, operator and index.
        reference: index of the operator that the others are compared with.
        groups: problem of each trace; None: each trace is its own.
        resamples: bootstrap resamples over problems.
        seed: of the resamples.

    Returns:
        "operators": {operator: {"ratio": interval; None where branches of an index
        never differ, "same": share of indices with equal outcomes, "cells"}} for all
        others that have a cell with two common indices, and "median" of their ratios.
    """
    problem = np.arange(len(right)) if groups is None else groups
    problems, member = np.unique(problem, return_inverse=True)
    weights = resample_weights(
        len(problems), resamples, np.random.default_rng(seed)
    )  # [R1, G]
    found: dict[int, dict] = {}
    for o in range(right.shape[2]):
        if o == reference:
            continue
        one, other = right[:, :, o], right[:, :, reference]
        both = ~np.isnan(one + other)
        count = both.sum(axis=2)
        used = count > 1
        if not used.any():
            continue
        each = [_variance(values, both, count) for values in (one - other, one, other)]
        paired, apart = each[0], each[1] + each[2]
        sums = [
            weights @ np.bincount(member, np.where(used, v, 0.0).sum(axis=1))
            for v in (apart, paired)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
        found[o] = {
            "ratio": estimate(ratio, len(problems)).plain().as_dict(),
            "same": float((one == other)[both].mean()),
            "cells": int(used.sum()),
        }
    ratios = [row["ratio"]["value"] for row in found.values()]
    known = [ratio for ratio in ratios if ratio is not None]
    return {"operators": found, "median": float(np.median(known)) if known else None}


def _variance(values, both, count) -> np.ndarray:
    """Noise variance of the mean over common indices, [N, K]."""
    n = np.maximum(count, 1)
    held = np.where(both, values, 0.0)
    mean = held.sum(axis=2) / n
    rest = np.where(both, held - mean[..., None], 0.0)
    return (rest**2).sum(axis=2) / np.maximum(n - 1, 1) / n
