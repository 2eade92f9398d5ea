"""Control of the share of false claims among many."""

import numpy as np
from jaxtyping import Bool, Float


def benjamini_hochberg(
    p_values: Float[np.ndarray, "N"], level: float
) -> Bool[np.ndarray, "N"]:
    """Select hypotheses so that the expected share of false ones is at most `level`.

    R = max{r : the r-th smallest p <= r level / N}; the R smallest are selected. Valid
    under independence and under positive regression dependence (Benjamini & Hochberg,
    doi 10.1111/j.2517-6161.1995.tb02031.x, and doi 10.1214/aos/1013699998).

    Args:
        p_values: one per hypothesis; NaN counts as 1.
        level: the largest expected share.

    Returns:
        Selected hypotheses.
    """
    p = np.nan_to_num(p_values, nan=1.0)
    ranked = np.sort(p)
    below = ranked <= level * np.arange(1, len(p) + 1) / max(len(p), 1)
    if not below.any():
        return np.zeros(len(p), bool)
    return p <= ranked[np.flatnonzero(below)[-1]]
