"""Two policies at equal cost: what share of the problems each has by the time that it has spent a budget."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.bootstrap import estimate, percent, resample_weights

POINTS = 8  # of the curve

# Costs of a problem's attempts in the order of their making, and whether it is well with the first n of them.
Spent = tuple[Float[np.ndarray, "A"], Callable[[int], bool]]


def curve(
    policies: dict[str, Sequence[Spent]],
    reference: str,
    complete: dict[str, Bool[np.ndarray, "N"]],
    resamples: int,
    rng: np.random.Generator,
    declared: float = 0.0,
) -> list[dict]:
    """Share of the problems within each budget of positions, by policy, and each one's difference to `reference`.

    Problems come in the same order everywhere; intervals are paired over them. `complete`: problems for which more
    attempts would change nothing. Budgets run, in equal ratios, from the dearest first attempt to where some
    policy has spent all on a problem that is not complete: beyond it, it would be compared by what was not made.
    A budget that was `declared` before the attempts is a row of its own, and marked; if it lies beyond that end, it
    is not there. Every attempt has its own price: that which was paid for it.
    """
    totals = {
        name: np.array([costs.sum() for costs, _ in spent])
        for name, spent in policies.items()
    }
    ends = [totals[name][~complete[name]] for name in policies]
    first = max(costs[0] for spent in policies.values() for costs, _ in spent)
    last = max(
        min(np.concatenate(ends), default=max(map(np.max, totals.values()))), first
    )
    count = len(policies[reference])
    weights = resample_weights(count, resamples, rng) / count
    rows = []
    named = [declared] if 0 < declared <= last else []
    for budget in sorted([*np.geomspace(first, last, POINTS), *named]):
        found = {
            name: estimate(weights @ _within(spent, budget), count)
            for name, spent in policies.items()
        }
        row = {"budget": float(budget), "declared": bool(budget == declared)}
        row |= {"share": {n: percent(e.value) for n, e in found.items()}, "minus": {}}
        for name in (name for name in policies if name != reference):
            gap = found[name] - found[reference]
            low, high = map(percent, gap.interval())
            row["minus"][name] = {"mean": percent(gap.value), "low": low, "high": high}
        rows.append(row)
    return rows


def _within(spent: Sequence[Spent], budget: float) -> Float[np.ndarray, "N"]:
    return np.array([well(affordable(costs, budget)) for costs, well in spent], float)


def affordable(costs: Float[np.ndarray, "A"], budget: float) -> Int[np.ndarray, ""]:
    """How many of the attempts a budget pays for."""
    # Sums of positions are whole numbers but for an ancestor's share: the last digit must not decide.
    return int(np.searchsorted(np.cumsum(costs), budget * (1 + 1e-9), side="right"))
