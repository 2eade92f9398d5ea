"""Value of other choices than the logged ones, from choices whose chances are known."""

import numpy as np
from jaxtyping import Float, Int

from fr.stats.bootstrap import Estimate, estimate, resample_weights


def doubly_robust(
    outcome: Float[np.ndarray, "N"],
    taken: Int[np.ndarray, "N"],
    chance: Float[np.ndarray, "N"],
    target: Int[np.ndarray, "N"],
    choices: int,
) -> Float[np.ndarray, "N"]:
    """Estimate what a target choice would have given, problem by problem.

    v_i = q[target_i] + 1[taken_i = target_i] (y_i - q[taken_i]) / chance_i, with q[a] =
    sum_i 1[taken_i = a] y_i / chance_i / sum_i 1[taken_i = a] / chance_i (arXiv
    1103.4601). Its mean is unbiased up to q's own sampling for any q, since the chances
    are the ones that were drawn with.

    Args:
        outcome: what the taken choice gave.
        taken: index of the choice.
        chance: probability with which it was taken, above 0.
        target: index of the choice to value; -1 gives nothing, 0.
        choices: number of choices.

    Returns:
        Values whose mean estimates the target's.

    Raises:
        ValueError: a chance is not in (0, 1].
    """
    if not ((chance > 0) & (chance <= 1)).all():
        raise ValueError("a logged chance must be above 0 and at most 1")
    weight = 1 / chance
    total = np.bincount(taken, weight, choices)
    q = np.bincount(taken, weight * outcome, choices) / np.where(total > 0, total, 1.0)
    known = np.concatenate([q, [0.0]])  # the last one stands for no choice
    rest = np.where(taken == target, weight * (outcome - q[taken]), 0.0)
    return known[target] + rest


def mean_value(
    values: Float[np.ndarray, "N"],
    resamples: int,
    seed: int,
    other: Float[np.ndarray, "N"] | None = None,
) -> Estimate:
    """Average values over problems with a bootstrap.

    Args:
        values: of `doubly_robust`.
        resamples: bootstrap resamples.
        seed: of the resamples.
        other: values of another target, to be subtracted; None: none.

    Returns:
        The estimate.
    """
    gap = values if other is None else values - other
    weights = resample_weights(len(gap), resamples, np.random.default_rng(seed))
    return estimate(weights @ gap / len(gap), len(gap))
