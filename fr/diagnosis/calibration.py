"""Whether confidence means what it says: calibration error, and the confidence of an answer's own tokens."""

import numpy as np
from jaxtyping import Bool, Float, Int


def bin_sums(
    confidence: Float[np.ndarray, "B"],
    right: Bool[np.ndarray, "B"],
    bins: int,
    group: Int[np.ndarray, "B"] | None = None,
    groups: int = 1,
) -> Float[np.ndarray, "G K 3"]:
    """Of each group of attempts and each bin of confidence: their number, summed confidence, and how many are right.

    Bins have equal width and hold their upper end; the first holds 0 too. Without `group` all attempts are one.
    Raises ValueError for a confidence or a share right that is no probability, and without a bin.
    """
    confidence, right = np.asarray(confidence), np.asarray(right, np.float64)
    if bins < 1 or confidence.shape != right.shape:
        raise ValueError(f"{bins} bins for {confidence.shape} confidences of {right.shape} attempts")
    # A sum of probabilities may pass 1 in its last digits.
    if not ((confidence >= 0) & (confidence <= 1 + 1e-4)).all():
        raise ValueError("a confidence must be from 0 to 1")
    if not ((right >= 0) & (right <= 1)).all():
        raise ValueError("what is right must be 0, 1, or a share of attempts")
    # Ends in the type of the confidences: 0.7 * 10 is above 7, and 0.3 of float32 above 0.3.
    kind = confidence.dtype if confidence.dtype.kind == "f" else np.float64
    ends = (np.arange(1, bins) / bins).astype(kind)
    place = np.searchsorted(ends, confidence, side="left")
    confidence = confidence.astype(np.float64)
    place += bins * (np.zeros(len(place), int) if group is None else group)
    count = lambda weights: np.bincount(place, weights, minlength=groups * bins)
    sums = np.stack([count(None), count(confidence), count(right)], axis=-1)
    return sums.reshape(groups, bins, 3)


def error_of(sums: Float[np.ndarray, "... K 3"]) -> Float[np.ndarray, "..."]:
    """Expected calibration error of binned attempts: the mean of |share right − mean confidence|, bin by bin.

    NaN where there is no attempt (arXiv 1706.04599).
    """
    count, confidence, right = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):
        return np.abs(right - confidence).sum(axis=-1) / count.sum(axis=-1)


def ece(confidence: Float[np.ndarray, "B"], right: Bool[np.ndarray, "B"], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins; NaN without an attempt."""
    return float(error_of(bin_sums(confidence, right, bins))[0])


def answer_confidence(margin: Float[np.ndarray, "T"], span: tuple[int, int]) -> float:
    """Mean over the tokens of an answer of the likeliest token's probability minus the second's (arXiv 2507.21931).

    `margin` is that of a rollout's tokens, `span` where its answer begins and ends; NaN for an empty one.
    """
    start, end = span
    return float(np.mean(margin[start:end], dtype=np.float64)) if end > start else float("nan")
