"""DeepConf confidence of windows of tokens (arXiv 2508.15260): C_t = minus the mean of the 20 largest log-probs."""

import numpy as np
from jaxtyping import Float

_BOTTOM = 0.1  # share of windows, of the bottom-10 % form


def groups(confidence: Float[np.ndarray, "T"], window: int) -> Float[np.ndarray, "_"]:
    """Mean C of every full window of `window` tokens, in order; of all tokens where there are fewer; 0 of none."""
    row = np.asarray(confidence, np.float64)
    if not len(row):
        return np.zeros(1)
    return np.lib.stride_tricks.sliding_window_view(row, min(window, len(row))).mean(
        axis=1
    )


def bottom(windows: Float[np.ndarray, "_"]) -> float:
    """Mean of the least sure 10 % of windows, at least one."""
    return float(np.sort(windows)[: max(1, int(_BOTTOM * len(windows)))].mean())


def running(confidence: Float[np.ndarray, "T"], window: int) -> Float[np.ndarray, "T"]:
    """c_t = c_{t-1} + (C_t - c_{t-1}) / min(t, window): the mean that the loop keeps of a row [ours]."""
    means, mean = np.zeros(len(confidence)), 0.0
    for t, value in enumerate(np.asarray(confidence, np.float64).tolist()):
        mean += (value - mean) / min(t + 1, window)
        means[t] = mean
    return means
