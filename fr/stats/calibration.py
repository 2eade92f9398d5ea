"""Calibration of confidence: its error, its answer's own tokens, its growth."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import rankdata

_DECIMALS = 3  # of a ranked confidence: ten times what a batch's shape can change


def bin_sums(
    confidence: Float[np.ndarray, "B"],
    right: Shaped[np.ndarray, "_"],
    bins: int,
    group: Int[np.ndarray, "B"] | None = None,
    groups: int = 1,
) -> Float[np.ndarray, "G K 3"]:
    """Sum attempts by equal-width bins of confidence.

    A bin includes its upper end; the first includes 0 too.

    Args:
        confidence: confidence of each attempt, in [0, 1].
        right: [B], whether each attempt is right, or a share of right attempts.
        bins: number of bins, K.
        group: group of each attempt; None: all attempts are one group.
        groups: number of groups, G.

    Returns:
        For each group and bin: number of attempts, summed confidence, summed `right`.

    Raises:
        ValueError: for a confidence or a share outside of [0, 1], or without bins.
    """
    confidence, right = np.asarray(confidence), np.asarray(right, np.float64)
    if bins < 1 or confidence.shape != right.shape:
        shapes = f"{confidence.shape} confidences of {right.shape} attempts"
        raise ValueError(f"{bins} bins for {shapes}")
    # A sum of probabilities may pass 1 in its last digits.
    if not ((confidence >= 0) & (confidence <= 1 + 1e-4)).all():
        raise ValueError("a confidence must be from 0 to 1")
    if not ((right >= 0) & (right <= 1)).all():
        raise ValueError("what is right must be 0, 1, or a share of attempts")
    # Ends in the type of the confidences: 0.7 * 10 is above 7, and 0.3 of float32
    # above 0.3.
    kind = confidence.dtype if confidence.dtype.kind == "f" else np.float64
    ends = (np.arange(1, bins) / bins).astype(kind)
    place = np.searchsorted(ends, confidence, side="left")
    confidence = confidence.astype(np.float64)
    place += bins * (np.zeros(len(place), int) if group is None else group)
    columns = (None, confidence, right)
    sums = [np.bincount(place, column, minlength=groups * bins) for column in columns]
    return np.stack(sums, axis=-1).reshape(groups, bins, 3).astype(np.float64)


def error_of(sums: Float[np.ndarray, "*G K 3"]) -> Float[np.ndarray, "*G"]:
    """Compute the expected calibration error of binned attempts (arXiv 1706.04599).

    ECE = Σ_k n_k / n · |right_k − confidence_k|

    Args:
        sums: what `bin_sums` gives.

    Returns:
        The error of each group, a share; NaN without attempts.
    """
    count, confidence, right = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):
        error = np.abs(right - confidence).sum(axis=-1) / count.sum(axis=-1)
    return np.asarray(error)


def ece(
    confidence: Float[np.ndarray, "B"], right: Shaped[np.ndarray, "_"], bins: int = 10
) -> float:
    """Compute the expected calibration error of attempts.

    Args:
        confidence: confidence of each attempt, in [0, 1].
        right: whether each attempt is right, [B].
        bins: number of equal-width bins.

    Returns:
        The error, a share; NaN without attempts.
    """
    return float(error_of(bin_sums(confidence, right, bins))[0])


def answer_confidence(
    margin: Float[np.ndarray, "T"] | Sequence[float], span: tuple[int, int]
) -> float:
    """Average the margin of the likeliest token over an answer (arXiv 2507.21931).

    Args:
        margin: probability of the likeliest token minus the second's, per token.
        span: first token of the answer, and the one after its last.

    Returns:
        The mean margin; NaN for an empty span.
    """
    start, end = span
    if end <= start:
        return float("nan")
    return float(np.mean(margin[start:end], dtype=np.float64))


def premature(
    confidence: Float[np.ndarray, "B C"],
) -> tuple[Float[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
    """Correlate confidence with progress along a chain of thought (arXiv 2605.24396).

    Confidence is premature if the correlation is below `evaluation.premature` and the
    trajectory is not flat.

    Args:
        confidence: confidence in the answer at each cut of each chain.

    Returns:
        Spearman's rank correlation of each row with the index of its cut, and whether
        the row is flat (the same to three decimals: its correlation would be noise,
        and is NaN).
    """
    # Ties share the mean of their ranks.
    ranks = rankdata(np.round(np.asarray(confidence, np.float64), _DECIMALS), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    index = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=1) * (index**2).sum())
    flat = spread == 0
    return np.where(flat, np.nan, ranks @ index / np.where(flat, 1.0, spread)), flat
