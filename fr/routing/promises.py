"""Whether a head keeps its promises: the rescue rates that it expects of its choices, and what they gave held out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.compare import EVERYWHERE, TRANSFER, Judged, gap_of
from fr.routing.policies import values_of
from fr.routing.pool import Pool
from fr.routing.posterior import POSTERIORS
from fr.stats.bootstrap import estimate, percent
from fr.stats.calibration import bin_sums, error_of

_FLAT = 0.01  # sd of expected rates, below which they draw no line


def calibration(
    pool: Pool,
    judged: Sequence[Judged],
    weights: Float[np.ndarray, "R+1 N"],
    bins: int,
) -> list[dict]:
    """{protocol, policy, cell, n, expected, observed, ...} of the head, and of frozen ones, on all failed problems.

    `judged` are whole populations; `weights` are those of the resamples that all intervals are over.
    """
    rows = []
    places = {EVERYWHERE: np.ones(len(pool), bool)}
    places |= {profiles.cell: pool.cell == c for c, profiles in enumerate(pool.cells)}
    for one in judged:
        for policy in (
            name
            for name in one.expected
            if name in ("posterior", "head") or one.protocol == TRANSFER
        ):
            choice = one.routes[policy]
            looked_up = (
                "best_fixed_per_model"
                if policy in POSTERIORS
                else "best_fixed_per_cell"
            )
            basis = one.routes[
                "frozen_fixed" if one.protocol == TRANSFER else looked_up
            ]
            for cell, here in places.items():
                held = np.flatnonzero(
                    here & (choice < len(pool.operators))
                )  # a stop promises nothing
                if (choice[here] < 0).any() or not len(held):
                    continue
                lifts = _kept(
                    pool.rates[held],
                    choice[held],
                    basis[held],
                    one.expected[policy][held],
                )
                row = {
                    "protocol": one.protocol,
                    "policy": policy,
                    "cell": cell,
                    "n": len(held),
                }
                row |= _row(*lifts[:2], weights[:, held], bins)
                departs = choice[held] != basis[held]
                rows.append(
                    row
                    | {"departures": _departures(*lifts[2:], departs, weights[:, held])}
                )
    return rows


def _kept(
    rates, choice: Int[np.ndarray, "N"], fixed: Int[np.ndarray, "N"], expected
) -> tuple:
    """What the choices were to give and what they gave, and the same as lifts over the fixed choice."""
    said, gave = values_of(expected, choice), values_of(rates, choice)
    return said, gave, said - values_of(expected, fixed), gave - values_of(rates, fixed)


def _row(
    said: Float[np.ndarray, "N"], gave: Float[np.ndarray, "N"], weights, bins: int
) -> dict:
    """Calibration error over equal-width bins, and the line of what was given by what was expected.

    `noise` is the error that a calibrated head would have on so many problems, on average: the mean size of a
    normal deviation in each bin, of the sd that problems have there. A line of slope 1 and intercept 0 is calibrated;
    there is none where all is expected to go alike.
    """
    n, total = len(said), weights.sum(axis=1)
    each = bin_sums(
        said, gave, bins, np.arange(n), n
    )  # a rate is the mean of its attempts
    sums = np.tensordot(weights, each, axes=1)
    error, mean = estimate(error_of(sums), n), lambda values: weights @ values / total
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = mean(said**2) - mean(said) ** 2
        slope = (mean(said * gave) - mean(said) * mean(gave)) / np.where(
            variance > _FLAT**2, variance, np.nan
        )
    count, expected, observed = sums[0].T
    full = np.flatnonzero(count)
    gap = (
        gave
        - said
        - ((observed - expected) / np.maximum(count, 1))[each[..., 0].argmax(axis=1)]
    )
    noise = np.sqrt(2 / np.pi) * gap.std() * np.sqrt(count).sum() / n
    return {
        "expected": percent(said.mean()),
        "observed": percent(gave.mean()),
        "gap": gap_of(estimate(mean(gave - said), n)),
        "ece": _shares(error) | {"noise": percent(noise)},
        "slope": _plain(estimate(slope, n)),
        "intercept": _shares(estimate(mean(gave) - slope * mean(said), n)),
        "bins": [
            {
                "from": round(float(b / bins), 6),
                "to": round(float((b + 1) / bins), 6),
                "n": int(count[b]),
                "expected": percent(expected[b] / count[b]),
                "observed": percent(observed[b] / count[b]),
            }
            for b in full
        ],
    }


def _departures(promised, gained, departs: Bool[np.ndarray, "N"], weights) -> dict:
    """Of the choices that were not the fixed one: the lift that was promised and the one that was gained."""
    if not departs.any():
        return {"n": 0, "promised": None, "gained": None}
    each = weights[:, departs]
    with np.errstate(invalid="ignore"):
        means = each @ gained[departs] / each.sum(axis=1)
    found = estimate(means, int(departs.sum()))
    return {
        "n": int(departs.sum()),
        "promised": percent(promised[departs].mean()),
        "gained": _shares(found),
    }


def _shares(found) -> dict:
    low, high = found.interval()
    return {"value": percent(found.value), "low": percent(low), "high": percent(high)}


def _plain(found) -> dict:
    values = (found.value, *found.interval())
    return {
        name: None if np.isnan(value) else round(float(value), 6)
        for name, value in zip(("value", "low", "high"), values)
    }
