"""What the same money buys: the share of failed problems solved within a budget of costs on one axis."""

import numpy as np
from jaxtyping import Float, Int

from fr.routing.costs import positions_of
from fr.routing.outcomes import Outcomes, outcomes_of
from fr.routing.pool import make_pool
from fr.routing.profiles import Profiles
from fr.routing.recorded import FORWARD
from fr.routing.references import charge
from fr.stats.bootstrap import Estimate, effective, estimate, resample_weights

BEST = "best_fixed"  # of a curve: the operator that solves most within a budget


def budget_curve(
    profiles: Profiles,
    routes: dict[str, Int[np.ndarray, "N"]],
    resamples: int,
    rng: np.random.Generator,
    axis: str = FORWARD,
    outcomes: Outcomes | None = None,
) -> list[tuple[float, dict[str, Estimate]]]:
    """Share of all failed problems solved within each budget, by policy; with a verifier, outcomes in [0, 1].

    Problems count as often as a deployed router meets them. Attempts are those that were recorded, each with its
    own cost, drawn without replacement (`Outcomes`). A policy of `routes` (an operator a problem, O for stop) pays
    for what it reads before its first attempt (`charge`), as `<name>_sunk` it finds that done; every other policy
    repeats one operator, behind a deterministic one retry, and pays its attempts alone. BEST is the operator that
    solves most, in hindsight: chosen by the outcomes that it is scored on, anew in every resample and at every
    budget. Nothing else here is selected on outcomes. The list is empty where attempts or costs are unknown.
    """
    outcomes = outcomes or outcomes_of(make_pool([profiles]), axis)
    if outcomes is None:
        return []
    known, count = positions_of(profiles, axis), len(profiles)
    weights = resample_weights(count, resamples, rng) * outcomes.weight
    weights /= weights.sum(axis=1, keepdims=True)
    budgets = np.tile(outcomes.budgets(), (count, 1))
    whole = _each(outcomes, budgets)
    found = {name: whole[..., o] for o, name in enumerate(profiles.operators)}
    for name, route in routes.items():
        paid = np.broadcast_to(charge(name, known), count)
        after = _each(outcomes, budgets - paid[:, None]) if paid.any() else whole
        found |= {name: _along(after, route), f"{name}_sunk": _along(whole, route)}
    carried, curve = effective(outcomes.weight), []
    for p, budget in enumerate(budgets[0]):
        shares = {name: weights @ value[:, p] for name, value in found.items()}
        shares[BEST] = np.max([shares[name] for name in profiles.operators], axis=0)
        curve.append(
            (
                float(budget),
                {name: estimate(share, carried) for name, share in shares.items()},
            )
        )
    return curve


def _each(
    outcomes: Outcomes, budgets: Float[np.ndarray, "N P"]
) -> Float[np.ndarray, "N P O"]:
    """What each operator alone solves within each budget."""
    alone = [outcomes.alone(o) for o in range(len(outcomes.most))]
    return np.stack([outcomes.curve(order, budgets) for order in alone], axis=2)


def _along(
    solved: Float[np.ndarray, "N P O"], route: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N P"]:
    padded = np.pad(solved, ((0, 0), (0, 0), (0, 1)))  # stop solves nothing
    return np.take_along_axis(padded, route[:, None, None], axis=2)[..., 0]
