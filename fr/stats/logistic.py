"""Logistic regression of shares, on many resamples at one time."""

import numpy as np
from jaxtyping import Float

_STEPS = 30  # of Newton's method, at most
_NEAR = 1e-8  # of a step, in logits
_FARTHEST = 4.0  # logits that one step may move a coefficient
_VARIANCE = 6.25  # prior variance of a coefficient, logits²


def fit_logistic(
    design: Float[np.ndarray, "N F"],
    right: Float[np.ndarray, "N"],
    tried: Float[np.ndarray, "N"],
    weights: Float[np.ndarray, "R N"],
    variance: float = _VARIANCE,
) -> Float[np.ndarray, "R F"]:
    """Fit logit p = x · b by Newton's method, with a normal prior on b.

    The prior (mean 0, no prior on the first column) keeps coefficients finite where a
    column separates right from wrong.

    Args:
        design: Columns of each row; the first is the intercept.
        right: Number of right attempts of each row.
        tried: Number of attempts of each row.
        weights: Weight of each row in each resample.
        variance: Prior variance of a coefficient, logits².

    Returns:
        Coefficients b of each resample, logits per unit of their column.
    """
    width = design.shape[1]
    prior = np.full(width, 1 / variance)
    prior[0] = 1e-9
    found = np.zeros((len(weights), width))
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(found @ design.T, -30, 30)))
        slope = (weights * (right - tried * p)) @ design - found * prior
        bend = (weights * tried * p * (1 - p)) @ outer
        bend = bend.reshape(-1, width, width) + np.diag(prior)
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        found += np.clip(step, -_FARTHEST, _FARTHEST)
        if np.abs(step).max() < _NEAR:
            break
    return found
