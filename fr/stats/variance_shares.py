"""Shares of the variance of V by operator, position, trace and their interactions."""

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.bootstrap import Estimate, estimate, resample_weights

PARTS = (
    *("operator", "position", "operator x position", "trace"),
    *("trace x operator", "trace x position", "rest"),
)
SMALLEST = 2.0  # percent of the variance that operator x position must explain
AT_LEAST, LESS, UNDECIDED = "at least", "less", "undecided"


def variance_shares(
    first: Float[np.ndarray, "N K O"],
    second: Float[np.ndarray, "N K O"],
    groups: Int[np.ndarray, "N"],
    resamples: int,
    seed: int,
) -> dict:
    """Split the variance of V over traces, positions and operators without its noise.

    V[n,k,o] = mean + operator + position + operator x position + trace + trace x
    operator + trace x position + rest. Traces are a sample; positions and operators
    are given. With P the projection of a trace's V on one kind of effect (its mean,
    its differences over positions, over operators, or the rest of the two), and V1, V2
    the two halves,

        a = mean over traces n of <P V1[n], P V2[n]> / (K O)
        b = mean over pairs of traces of different problems of <P V[n], P V[m]> / (K O)

    with V = (V1 + V2) / 2. b is what all traces have in common (operator, position,
    operator x position); a - b is what differs between them. Neither product has noise
    in common on both sides, so all parts are unbiased also for few traces, and one that
    is 0 is estimated below 0 half of the time: negative estimates stay as they are. The
    denominator is the estimated variance of V without noise. Intervals are from a
    bootstrap over problems, in which copies of a problem make no pair; where a part is
    0 they are too wide.

    Args:
        first: share of right branches in one half of the indices, the same indices for
            all operators; NaN where there are none.
        second: the same for the other half.
        groups: problem of each trace.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Returns:
        "shares": {part: interval in percent}. "variance" of V without noise and
        "noise", the noise variance of the mean of both halves, as intervals. "verdict":
        whether operator x position explains AT_LEAST "smallest" percent, LESS, or
        UNDECIDED, as its interval tells. "traces", "problems" and "left_out", the
        traces without some cell. With fewer than two problems there are no shares.
    """
    whole = ~np.isnan(first + second).any(axis=(1, 2))
    kept = int(whole.sum())
    counts = {"traces": kept, "left_out": len(whole) - kept}
    problems, member = np.unique(groups[whole], return_inverse=True)
    counts["problems"] = len(problems)
    if len(problems) < 2:
        return counts | {"shares": {}, "verdict": UNDECIDED, "smallest": SMALLEST}
    rng = np.random.default_rng(seed)
    weights = resample_weights(len(problems), resamples, rng)
    belongs = member == np.arange(len(problems))[:, None]
    parts, noise = _parts(first[whole], second[whole], belongs, weights)
    total = sum(parts.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = {
            name: np.where(total > 0, part / total, np.nan)
            for name, part in parts.items()
        }
    of = lambda values: estimate(values, len(problems))
    shares = {name: of(ratios[name]) for name in PARTS}
    return counts | {
        "shares": {name: share.percent().as_dict() for name, share in shares.items()},
        "variance": of(total).plain().as_dict(),
        "noise": of(noise).plain().as_dict(),
        "smallest": SMALLEST,
        "verdict": _verdict(shares["operator x position"]),
    }


def _verdict(share: Estimate) -> str:
    low, high = (100 * end for end in share.interval())
    return AT_LEAST if low >= SMALLEST else LESS if high < SMALLEST else UNDECIDED


def _parts(
    first: Float[np.ndarray, "N K O"],
    second: Float[np.ndarray, "N K O"],
    belongs: Bool[np.ndarray, "G N"],
    weights: Float[np.ndarray, "R1 G"],
) -> tuple[dict[str, Float[np.ndarray, "R1"]], Float[np.ndarray, "R1"]]:
    """Every part of the variance in the sample and each resample, and the noise."""
    size = belongs.sum(axis=1).astype(float)
    met = weights @ size
    pairs = met**2 - weights**2 @ size**2
    own, common = {}, {}
    for kind, one in _effects(first).items():
        two = _effects(second)[kind]
        cells = one.shape[1]
        own[kind] = weights @ (belongs @ (one * two).sum(axis=1)) / met / cells
        sums = belongs @ ((one + two) / 2)
        square = ((weights @ sums) ** 2).sum(axis=1)
        square -= weights**2 @ (sums**2).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            common[kind] = square / np.where(pairs > 0, pairs, np.nan) / cells
    parts = {
        "trace": own["mean"] - common["mean"],
        "rest": own["operator x position"] - common["operator x position"],
    }
    for kind in ("operator", "position", "operator x position"):
        parts[kind] = common[kind]
    for kind in ("operator", "position"):
        parts[f"trace x {kind}"] = own[kind] - common[kind]
    noise = ((first - second) ** 2).mean(axis=(1, 2)) / 4
    return parts, weights @ (belongs @ noise) / met


def _effects(v: Float[np.ndarray, "N K O"]) -> dict[str, Float[np.ndarray, "N C"]]:
    """Each kind of effect of each trace."""
    mean = v.mean(axis=(1, 2), keepdims=True)
    position = v.mean(axis=2, keepdims=True) - mean
    operator = v.mean(axis=1, keepdims=True) - mean
    both = v - position - operator - mean
    kinds = ("mean", "position", "operator", "operator x position")
    effects = (mean, position, operator, both)
    return {kind: e.reshape(len(v), -1) for kind, e in zip(kinds, effects)}
