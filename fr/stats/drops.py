"""The largest drop of the chance of success along a trace."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.special import xlog1py, xlogy

from fr.stats.false_discovery import benjamini_hochberg
from fr.stats.shares import binomial, wilson


@dataclasses.dataclass(frozen=True)
class Drops:
    """Largest drops of N traces.

    Attributes:
        place: [N] index j: the drop lies between cut j and the next cut that has
            branches; -1 if V never falls.
        p: [N] p-value of "V is the same at all cuts".
        selected: [N] whether a drop is claimed.
    """

    place: Int[np.ndarray, "N"]
    p: Float[np.ndarray, "N"]
    selected: Bool[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """V on both sides of a place, with 95 % intervals; NaN without a place.

    Attributes:
        before: [N] share of right branches up to the place.
        after: [N] share of right branches after it.
        drop: [N] before - after.
        low: [N] lower end of the drop's interval.
        high: [N] upper end.
    """

    before: Float[np.ndarray, "N"]
    after: Float[np.ndarray, "N"]
    drop: Float[np.ndarray, "N"]
    low: Float[np.ndarray, "N"]
    high: Float[np.ndarray, "N"]


def largest_drop(
    right: Int[np.ndarray, "N K"],
    made: Int[np.ndarray, "N K"],
    permutations: int | None = None,
    seed: int = 0,
    level: float = 0.1,
) -> Drops:
    """Find the largest drop of each trace, and test whether there is one.

    T = max over j of the log likelihood ratio of "one level up to cut j, a lower one
    after it" against one level. If V is the same at all cuts, the right branches of a
    trace, given their number S, are a random subset: counts are multivariate
    hypergeometric. T depends on the sums c_j of the counts up to j alone, so a
    recursion over (j, c_j) gives its exact distribution over all permutations.
    Benjamini-Hochberg selects traces: E[share of flat ones among them] <= level. A V
    that rises is below that. What is claimed is that V falls somewhere; of a slope, the
    place is where two levels fit best.

    Args:
        right: right branches of each trace and cut, of the half that detects.
        made: all branches; 0 where there are none.
        permutations: None: the exact distribution; else this many random draws.
        seed: of the draws.
        level: largest expected share of flat traces among the selected ones.

    Returns:
        Places, p-values and selected traces.
    """
    before, count = right.cumsum(axis=1), made.cumsum(axis=1)
    ratio = _ratio(before[:, :-1], before[:, -1:], count[:, :-1], count[:, -1:])
    best = ratio.max(axis=1, initial=0.0)
    falls = best > 1e-9
    place = np.where(falls, ratio.argmax(axis=1) if ratio.size else -1, -1)
    p, rng = np.ones(len(right)), np.random.default_rng(seed)
    for i in np.flatnonzero(falls):
        given = made[i], int(before[i, -1]), float(best[i]) * (1 - 1e-9)
        if permutations is None:
            p[i] = _exact(*given)
        else:
            p[i] = _drawn(*given, permutations, rng)
    return Drops(place, p, benjamini_hochberg(p, level))


def estimate(
    right: Num[np.ndarray, "N K"],
    made: Num[np.ndarray, "N K"],
    place: Int[np.ndarray, "N"],
    reach: int | None = None,
) -> Sizes:
    """Estimate V before and after a drop from branches that did not choose its place.

    The interval of the drop joins the Wilson intervals of both shares (Newcombe, doi
    10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I). It holds for
    selected traces as for others, because the other half selected them.

    Args:
        right: right branches of each trace and cut, of the half that estimates.
        made: all branches of that half.
        place: of `largest_drop`.
        reach: cuts with branches of either side that are pooled; None: all of them.

    Returns:
        Shares and drops.
    """
    cut, there = np.arange(right.shape[1]), place[:, None]
    tried = made > 0
    rank = tried.cumsum(axis=1)
    at = np.take_along_axis(rank, np.maximum(there, 0), axis=1)
    near = right.shape[1] if reach is None else reach
    sides = []
    for side in (
        (cut <= there) & (rank > at - near),
        (cut > there) & (rank <= at + near),
    ):
        inside = side & tried & (there >= 0)
        sides.append(wilson((right * inside).sum(1), (made * inside).sum(1)))
    (one, one_low, one_high), (two, two_low, two_high) = sides
    drop = one - two
    low = drop - np.hypot(one - one_low, two_high - two)
    high = drop + np.hypot(one_high - one, two - two_low)
    return Sizes(one, two, drop, low, high)


def cliff_test(
    right: Int[np.ndarray, "N K"],
    made: Int[np.ndarray, "N K"],
    margin: float = 0.1,
    z: float = 1.645,
) -> Bool[np.ndarray, "N J"]:
    """Apply the uncorrected test of cliffs to every pair of adjacent cuts.

    V(t) - V(t+1) > margin + z SE, SE^2 = V(t) (1 - V(t)) / n + the same of t + 1 (arXiv
    2606.25524). A reference: it has no correction over positions.

    Args:
        right: right branches of each trace and cut.
        made: all branches.
        margin: smallest drop of interest.
        z: standard errors above it.

    Returns:
        [N, K - 1] whether there is a cliff after each cut but the last; False next to
        a cut without branches.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = right / made
        variance = share * (1 - share) / made
        error = np.sqrt(variance[:, :-1] + variance[:, 1:])
        return share[:, :-1] - share[:, 1:] > margin + z * error


def _ratio(before, total, count, whole) -> np.ndarray:
    """Log likelihood ratio of a lower level after `count` of `whole` branches."""
    after, rest = total - before, whole - count
    falls = (count > 0) & (rest > 0) & (before * rest > after * count)
    gain = _log_likelihood(before, count) + _log_likelihood(after, rest)
    return np.where(falls, gain - _log_likelihood(total, whole), 0.0)


def _log_likelihood(k, n) -> np.ndarray:
    share = k / np.maximum(n, 1)
    return xlogy(k, share) + xlog1py(n - k, -share)


def _exact(made: np.ndarray, total: int, seen: float) -> float:
    """P(T >= seen), summed over the first cut j whose likelihood ratio reaches it."""
    whole = int(made.sum())
    share, left = total / whole, whole
    ways, found = np.ones(1), 0.0  # ways[c] = P(c_j = c, nothing reached before)
    for n in made[:-1]:
        ways = np.convolve(ways, binomial(np.arange(n + 1), int(n), share))[: total + 1]
        left -= int(n)
        c = np.arange(len(ways))
        reached = _ratio(c, total, whole - left, whole) >= seen
        ends = c[reached & (total - c <= left)]
        found += float(ways[ends] @ binomial(total - ends, left, share))
        ways[reached] = 0.0
    return min(1.0, found / float(binomial(np.array([total]), whole, share)[0]))


def _drawn(made, total: int, seen: float, draws: int, rng) -> float:
    counts = rng.multivariate_hypergeometric(made, total, draws, method="marginals")
    before, count = counts.cumsum(axis=1)[:, :-1], made.cumsum()
    ratio = _ratio(before, total, count[:-1], count[-1])
    return float(1 + (ratio.max(axis=1) >= seen).sum()) / (1 + draws)
