"""What the same money buys: the share of failed problems solved within a budget of forward positions."""

import numpy as np
from jaxtyping import Float, Int

from fr.routing.bootstrap import Estimate, estimate, resample_weights
from fr.routing.costs import positions_of
from fr.routing.outcomes import outcomes_of
from fr.routing.pool import make_pool
from fr.routing.profiles import Profiles
from fr.routing.references import charge

BEST = "best_fixed"  # of a curve: the operator that solves most within a budget


def budget_curve(
    profiles: Profiles, routes: dict[str, Int[np.ndarray, "N"]], resamples: int, rng: np.random.Generator
) -> list[tuple[float, dict[str, Estimate]]]:
    """Share of all failed problems solved within each budget, by policy; with a verifier, outcomes in [0, 1].

    A policy of `routes` (an operator a problem, O for stop) pays for what it reads before its first attempt
    (`charge`), as `<name>_sunk` it finds that done; every other policy repeats one operator and pays its attempts
    alone. Every problem has prices of its own. BEST is the operator that solves most, in hindsight: chosen by the
    outcomes that it is scored on, anew in every resample and at every budget. Nothing else here is selected on
    outcomes. The list is empty where attempts or costs are unknown.
    """
    outcomes = outcomes_of(make_pool([profiles]))
    if outcomes is None:
        return []
    known, count = positions_of(profiles), len(profiles)
    weights = resample_weights(count, resamples, rng)
    weights /= weights.sum(axis=1, keepdims=True)
    curve = []
    for budget in outcomes.budgets():
        solved = outcomes.each(np.full(count, budget))
        found = {name: solved[:, o] for o, name in enumerate(profiles.operators)}
        for name, route in routes.items():
            after = outcomes.each(budget - charge(name, known) * np.ones(count))
            found |= {name: _along(after, route), f"{name}_sunk": _along(solved, route)}
        shares = {name: weights @ value for name, value in found.items()}
        shares[BEST] = np.max([shares[name] for name in profiles.operators], axis=0)
        curve.append((float(budget), {name: estimate(share, count) for name, share in shares.items()}))
    return curve


def _along(solved: Float[np.ndarray, "N O"], route: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    padded = np.pad(solved, ((0, 0), (0, 1)))  # stop solves nothing
    return np.take_along_axis(padded, route[:, None], axis=1)[:, 0]
