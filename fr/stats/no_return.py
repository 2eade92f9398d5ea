"""Points of no return: cuts after which a remedy has lost most of its chance."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.false_discovery import benjamini_hochberg
from fr.stats.shares import binomial

NONE, CANNOT_TELL, CLAIMED = "none", "cannot tell", "claimed"
_GRID = 400  # steps of p0, equal in arcsin sqrt p0
_BLOCK = 1 << 21  # chances of tables in memory at a time


@dataclasses.dataclass(frozen=True)
class NoReturn:
    """Points of no return of N traces.

    Attributes:
        at: [N] the first cut from which on V is below the share; -1 without a claim.
        p: [N] p-value of the last cut with branches; 1 without such a cut.
        selected: [N] whether a point is claimed.
        could: [N] whether no success at the last cut would have been enough for a
            claim. If not, nothing is known of a trace without a claim.
        needed: [N] right branches of cut 0 from which on it would have been enough;
            one more than the branches of cut 0 if no number of them is.
        cuts: [N, K] p-value of each cut; NaN where there are no branches.
        level: of the tests within selected traces.
    """

    at: Int[np.ndarray, "N"]
    p: Float[np.ndarray, "N"]
    selected: Bool[np.ndarray, "N"]
    could: Bool[np.ndarray, "N"]
    needed: Int[np.ndarray, "N"]
    cuts: Float[np.ndarray, "N K"]
    level: float

    def verdicts(self) -> list[str]:
        """CLAIMED, NONE or CANNOT_TELL for each trace."""
        kept = np.where(self.could, NONE, CANNOT_TELL)
        return [str(word) for word in np.where(self.selected, CLAIMED, kept)]


def points_of_no_return(
    right: Int[np.ndarray, "N K"],
    made: Int[np.ndarray, "N K"],
    share: float = 0.5,
    level: float = 0.1,
) -> NoReturn:
    """Claim points of no return with a bounded rate of claims that are too early.

    The hypothesis of cut k, "V at some cut from k on is at least share * V(0)", implies
    the hypothesis of every earlier cut. So cuts are tested from the last one backwards,
    and the first hypothesis that is kept ends the search: one true hypothesis must be
    rejected for a false claim, and the cuts of a trace need no correction.
    Benjamini-Hochberg on the last cuts selects R of N traces, and within these the
    level is R level / N (Benjamini & Bogomolov, doi 10.1111/rssb.12028). Each selected
    trace gives one claim, hence E[share of claims whose cut is too early, or that are
    wrong] <= level.

    Traces of one problem may share the branches of cut 0. Their p-values then fall
    together, a positive dependence, under which the level is not proven but holds in
    simulations (benchmarks/atlas_errors.py). The same goes for the rows of several
    remedies that share random keys. A cut without branches is passed over: the claim is
    about cuts that were measured.

    Args:
        right: right branches of each trace and cut; cut 0 is before the first token.
        made: all branches.
        share: of V(0) below which V counts as lost.
        level: largest expected share of false claims.

    Returns:
        The claims.
    """
    n, k = right.shape
    tables = {
        pair: ratio_p_values(*pair, share)
        for pair in _pairs(made[:, 1:], made[:, :1])
        if min(pair) > 0
    }
    cuts = np.full((n, k), np.nan)
    for (n1, n0), table in tables.items():
        rows, at = np.nonzero((made == n1) & (made[:, :1] == n0))
        rows, at = rows[at > 0], at[at > 0]
        cuts[rows, at] = table[right[rows, at], right[rows, 0]]
    last = k - 1 - np.argmax(~np.isnan(cuts[:, ::-1]), axis=1)
    p = np.nan_to_num(cuts[np.arange(n), last], nan=1.0)
    selected = benjamini_hochberg(p, level)
    claims = int(selected.sum())
    within = claims * level / max(n, 1)
    later = np.fmax.accumulate(cuts[:, ::-1], axis=1)[:, ::-1]
    lost = (later <= within) & ~np.isnan(cuts)
    at = np.where(selected, lost.argmax(axis=1), -1)
    # With one more claim than there are.
    most = min(claims + 1, n) * level / max(n, 1)
    needed = made[:, 0].astype(int) + 1
    for (n1, n0), table in tables.items():
        here = (made[np.arange(n), last] == n1) & (made[:, 0] == n0)
        enough = np.flatnonzero(table[0] <= most)
        needed[here] = enough[0] if len(enough) else n0 + 1
    could = right[:, 0] >= needed
    return NoReturn(at, p, selected, could, needed, cuts, within)


def _pairs(later: Int[np.ndarray, "N J"], first: Int[np.ndarray, "N 1"]) -> list:
    both = np.stack(np.broadcast_arrays(later, first), axis=-1).reshape(-1, 2)
    return [(int(n1), int(n0)) for n1, n0 in np.unique(both, axis=0)]


@functools.lru_cache(maxsize=256)
def ratio_p_values(n1: int, n0: int, share: float) -> Float[np.ndarray, "A B"]:
    """Test p1 >= share * p0 against p1 < share * p0, exactly and unconditionally.

    p = max over p0 of P(Z <= z | p1 = share * p0), with the score
    z = (k1/n1 - share k0/n0) / sqrt(q1 (1 - q1) / n1 + share^2 q0 (1 - q0) / n0), where
    q0 and q1 = share q0 have the largest likelihood (Miettinen & Nurminen, doi
    10.1002/sim.4780040211; Farrington & Manning, doi 10.1002/sim.4780091208). z rises
    with k1 and falls with k0, so the largest chance is at p1 = share * p0. p0 runs over
    401 values. Without a right branch of the second kind (k0 = 0) p is 1. Up to 100
    branches a table takes less than 0.2 s; above 1,000, minutes.

    Args:
        n1: branches of the first kind, at least 1.
        n0: branches of the second kind, at least 1.
        share: in (0, 1].

    Returns:
        [n1 + 1, n0 + 1] p-values by k1 and k0; not to be written to.
    """
    k1, k0 = np.arange(n1 + 1)[:, None], np.arange(n0 + 1)
    # A difference by rounding alone counts as equal.
    z = np.round(score(k1, k0, n1, n0, share), 9)
    order = np.argsort(z, axis=None)
    end = np.searchsorted(z.ravel()[order], z.ravel(), side="right") - 1
    grid = np.sin(np.linspace(0, np.pi / 2, _GRID + 1)) ** 2
    largest = np.zeros(z.size)
    for p0 in np.array_split(grid, 1 + z.size * len(grid) // _BLOCK):
        one = binomial(np.arange(n1 + 1), n1, share * p0[:, None])
        other = binomial(np.arange(n0 + 1), n0, p0[:, None])
        tables = (one[:, :, None] * other[:, None]).reshape(len(p0), -1)
        below = np.cumsum(tables[:, order], axis=1)
        largest = np.maximum(largest, below.max(axis=0))
    found = np.minimum(largest[end], 1.0).reshape(z.shape)
    found.flags.writeable = False
    return found


def score(
    k1: Int[np.ndarray, "#A #B"],
    k0: Int[np.ndarray, "B"],
    n1: int,
    n0: int,
    share: float,
) -> Float[np.ndarray, "A B"]:
    """Compute the score z of `ratio_p_values`.

    q0 is the smaller root of share (n1 + n0) q^2 - (k1 + share k0 + share n1 + n0) q +
    k1 + k0.

    Args:
        k1: right branches of the first kind.
        k0: right branches of the second kind.
        n1: branches of the first kind.
        n0: branches of the second kind.
        share: see there.

    Returns:
        z; 0 where the difference is 0.
    """
    a, b = share * (n1 + n0), k1 + share * k0 + share * n1 + n0
    q0 = (b - np.sqrt(np.maximum(b**2 - 4 * a * (k1 + k0), 0))) / (2 * a)
    q1 = share * q0
    variance = q1 * (1 - q1) / n1 + share**2 * q0 * (1 - q0) / n0
    gap = k1 / n1 - share * k0 / n0
    still = np.abs(gap) < 1e-12
    return np.where(still, 0.0, gap / np.sqrt(np.maximum(variance, 1e-300)))
