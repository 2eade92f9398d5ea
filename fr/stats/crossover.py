"""The crossover of two pass@k curves: from which k on the other model is ahead."""

import numpy as np
from jaxtyping import Float, Int

from fr.stats.bootstrap import LEVEL
from fr.stats.pass_at_k import pass_at_k


def pass_curves(right: Int[np.ndarray, "N"], n: int) -> Float[np.ndarray, "N K"]:
    """pass@k of each problem for every k from 1 to n (arXiv 2107.03374).

    Args:
        right: Right attempts at each problem.
        n: Attempts at each problem.

    Returns:
        Column k - 1 is pass@k.
    """
    return np.stack([pass_at_k(right, n, k) for k in range(1, n + 1)], axis=1)


def crossovers(
    base: Float[np.ndarray, "R K"], trained: Float[np.ndarray, "R K"]
) -> Float[np.ndarray, "R"]:
    """The least k at which the base is ahead, k* (arXiv 2504.13837).

    k* = min {k: pass@k of the base > pass@k of the trained model}.

    Args:
        base: pass@k for k from 1 to K, of the sample and of each resample.
        trained: The same of the trained model, under the same resamples.

    Returns:
        k* of each row; infinity where the base is never ahead.
    """
    ahead = base > trained
    return np.where(ahead.any(axis=1), 1.0 + ahead.argmax(axis=1), np.inf)


def crossover_interval(found: Float[np.ndarray, "R"]) -> dict:
    """k* with its percentile interval; None stands for "above the largest k".

    Args:
        found: k* of the sample, then of each resample.

    Returns:
        `value`, `low` and `high`, and `never`: the share of resamples in which the base
        is not ahead at any k.
    """
    known = lambda value: None if np.isinf(value) else int(value)
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    # Not interpolated: k is a whole number, and infinity has no mean.
    low, high = np.quantile(found[1:], ends, method="inverted_cdf")
    return {
        "value": known(found[0]),
        "low": known(low),
        "high": known(high),
        "never": float(np.isinf(found[1:]).mean()),
    }
