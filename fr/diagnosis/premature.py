"""Whether confidence grows along a chain of thought, or was there before it (arXiv 2605.24396)."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

DECIMALS = 3  # of a confidence that is ranked: ten times what the shape of a batch can change in one


def premature(
    confidence: Float[np.ndarray, "B C"],
) -> tuple[Float[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
    """Spearman's rank correlation of each trajectory with the index of its cut, and whether it is flat.

    A trajectory whose confidences are the same to `DECIMALS` is flat: its correlation would be noise, and is NaN.
    Premature is one that is below a threshold (`evaluation.premature`), and not flat.
    """
    # Ties share the mean of their ranks.
    ranks = rankdata(np.round(np.asarray(confidence, np.float64), DECIMALS), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    index = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=1) * (index**2).sum())
    flat = spread == 0
    return np.where(flat, np.nan, ranks @ index / np.where(flat, 1.0, spread)), flat
