"""Claims about simulated traces: false ones, missed ones, and where they are."""

import numpy as np
from jaxtyping import Bool

from benchmarks.atlas_traces import FLAT, HALF, MIXED, SMALL, TRACES, simulate
from fr.stats import drops
from fr.stats.bootstrap import Interval, percent
from fr.stats.no_return import CANNOT_TELL, points_of_no_return

LEVEL, SHARE = 0.1, 0.5
DEEP = 0.2  # of V(0): what is left after a deep fall
MIXTURES = {"mixed": MIXED, "flat": FLAT, "to the half": HALF}
_Z = 1.959964  # of a 95 % interval


def claims(mixture: str, traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Claim points of no return in simulated atlases.

    Args:
        mixture: name in MIXTURES.
        traces: their number.
        branches: of each cell.
        rng: random stream.

    Returns:
        Share of false claims, also without an error rate ("uncorrected"), true points
        found with less than DEEP of V(0) left and with more, cuts between right claims
        and the truth, and by shape: claims, false ones, traces that tell nothing and
        true points found.
    """
    drawn = simulate(MIXTURES[mixture], traces, branches, rng)
    right, made = drawn.right, drawn.made(2)
    found = [
        points_of_no_return(right[rows], made[rows], SHARE, LEVEL)
        for rows in _atlases(traces)
    ]
    at = np.concatenate([each.at for each in found])
    words = np.concatenate([each.verdicts() for each in found])
    true = drawn.no_return(SHARE)
    low = right < SHARE * right[:, :1]
    suffix = np.logical_and.accumulate(low[:, ::-1], axis=1)[:, ::-1]
    plain = np.where(suffix.any(axis=1), suffix.argmax(axis=1), -1)
    wrong = lambda at: (at >= 0) & ~((true >= 0) & (at >= true))
    hit = (at >= 0) & ~wrong(at)
    # The largest V from the true point on, as a share of V(0).
    after = np.where(np.arange(made.shape[1]) >= true[:, None], drawn.chance, 0)
    deep = after.max(axis=1) < DEEP * drawn.chance[:, 0]
    record = {
        "false": false_share(wrong(at), at >= 0),
        "found": {
            name: part_of(hit, (true >= 0) & own & (drawn.shape != SMALL))
            for name, own in (("deep", deep), ("shallow", ~deep))
        },
        "uncorrected": false_share(wrong(plain), plain >= 0),
        "later": _quartiles((at - true)[hit]),
        "shapes": {},
    }
    for shape in np.unique(drawn.shape):
        own = drawn.shape == shape
        record["shapes"][str(shape)] = {
            "traces": int(own.sum()),
            "claims": int((own & (at >= 0)).sum()),
            "false": int((own & wrong(at)).sum()),
            "cannot_tell": part_of(words[own] == CANNOT_TELL),
            "found": part_of(hit[own & (true >= 0)]),
        }
    return record


def falls(mixture: str, traces: int, branches: int, rng: np.random.Generator) -> dict:
    """Claim drops from one half of the branches, and size them with the other.

    Args:
        mixture: name in MIXTURES.
        traces: their number.
        branches: of each cell, both halves.
        rng: random stream.

    Returns:
        Share of claims without a drop at the place, the same of the uncorrected test
        of cliffs, coverage of sizes, and by shape: claims, and distances to the truth.
    """
    drawn = simulate(MIXTURES[mixture], traces, branches, rng)
    made = drawn.made(1)
    found = [
        drops.largest_drop(drawn.first[rows], made[rows], level=LEVEL)
        for rows in _atlases(traces)
    ]
    place = np.concatenate([each.place for each in found])
    chosen = np.concatenate([each.selected for each in found])
    # True chances as branches without noise.
    truth = [
        drops.estimate(drawn.chance, np.ones(made.shape), place, r).drop
        for r in (None, 1)
    ]
    given = [drops.estimate(drawn.second, made, place, reach) for reach in (None, 1)]
    cliff = drops.cliff_test(drawn.right, drawn.made(2)).any(axis=1)
    flat = np.ptp(drawn.chance, axis=1) == 0
    best = drawn.place()
    away = np.abs(place - best)
    record = {
        "false": false_share(chosen & (truth[0] <= 1e-12), chosen),
        "cliffs": false_share(cliff & flat, cliff),
        "cliffs_on_flat": part_of(cliff[flat]),
        "covered": {
            name: part_of((each.low <= real) & (real <= each.high), chosen)
            for name, each, real in zip(("levels", "neighbours"), given, truth)
        },
        "shapes": {},
    }
    for shape in np.unique(drawn.shape):
        own = drawn.shape == shape
        placed = own & chosen & (best >= 0)
        record["shapes"][str(shape)] = {
            "traces": int(own.sum()),
            "claims": int((own & chosen).sum()),
            "cliffs": int((own & cliff).sum()),
            "exact": part_of(away[placed] == 0),
            "within_1": part_of(away[placed] <= 1),
            "away": _quartiles(away[placed]),
        }
    return record


def _atlases(traces: int) -> list[slice]:
    return [slice(i, i + TRACES) for i in range(0, traces, TRACES)]


def false_share(wrong: Bool[np.ndarray, "N"], claimed: Bool[np.ndarray, "N"]) -> dict:
    """Average the share of false claims over atlases; an atlas without a claim has 0.

    Args:
        wrong: false claims.
        claimed: all claims.

    Returns:
        An interval in percent, by the standard error over atlases.
    """
    of = lambda values: values.reshape(-1, TRACES).sum(axis=1)
    share = of(wrong) / np.maximum(of(claimed), 1)
    half = _Z * share.std(ddof=1) / len(share) ** 0.5
    ends = (share.mean(), share.mean() - half, share.mean() + half)
    return Interval(*map(percent, ends)).as_dict()


def part_of(
    hit: Bool[np.ndarray, "N"], of: Bool[np.ndarray, "N"] | None = None
) -> float | None:
    """Compute a share in percent.

    Args:
        hit: what is counted.
        of: among these; None: among all.

    Returns:
        The share; None among none.
    """
    hit = hit if of is None else hit[of]
    return round(100 * float(hit.mean()), 2) if hit.size else None


def _quartiles(values: np.ndarray) -> list[float] | None:
    return (
        [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]
        if len(values)
        else None
    )
