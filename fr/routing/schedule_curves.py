"""Orders of operators at equal cost: what a router's choice of one adds to the best order for all failures."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.routing.bootstrap import Estimate, estimate, percent
from fr.routing.budget import BEST, costs
from fr.routing.cells import difference
from fr.routing.folds import Fold
from fr.routing.pool import Pool
from fr.routing.references import charge
from fr.routing.schedules import SCHEDULE, Order, Outcomes, learn_orders, named, order_for, outcomes_of

_POINTS = 8  # of the curve


def judge_schedules(
    pool: Pool,
    folds: Sequence[Fold],
    chosen: dict[str, Int[np.ndarray, "K N"]],
    weights: Float[np.ndarray, "R N"],
) -> dict | None:
    """{curve, orders, problems}: share of all failed problems solved within each budget; None without costs.

    `chosen` has what routers choose on every row that learned from a fold's training rows. A problem gets the order
    that those of its family with its choice were best served by, and pays first for what its router reads (`charge`).
    It is held against the order for all failures of its family (`minus_schedule`), the best operator of each cell in
    hindsight, chosen anew in every resample (`minus_best`), and its own orders exchanged over the problems of a cell
    and fold, by exact expectation (`minus_permuted`). Orders are learned from a fold's training rows; intervals are
    over problems.
    """
    outcomes = outcomes_of(pool)
    if outcomes is None:
        return None
    orders: dict[Order, int] = {}
    number = lambda order: orders.setdefault(order, len(orders))
    family = [pool.families[f] for f in pool.family]
    plans = {name: np.zeros(len(pool), int) for name in (SCHEDULE, *chosen)}
    for k, fold in enumerate(folds):
        for name, choice in chosen.items():
            found = learn_orders(pool, outcomes, fold.train, choice[k])
            for i in np.flatnonzero(fold.test):
                stops = choice[k][i] == len(pool.operators)
                chosen_here = "" if stops else pool.operators[choice[k][i]]
                plans[SCHEDULE][i] = number(order_for(found, family[i], SCHEDULE))
                plans[name][i] = number(() if stops else order_for(found, family[i], chosen_here))
    budgets = _budgets(outcomes)
    curve = [_point(pool, outcomes, tuple(orders), plans, folds, float(b), weights) for b in budgets]
    whole = np.ones(len(pool), bool)
    learned = {n: learn_orders(pool, outcomes, whole, _left_out(c, folds)) for n, c in chosen.items()}
    return {
        "curve": curve,
        "orders": {name: named(found, pool.operators) for name, found in learned.items()},
        "problems": len(pool),
    }


def _left_out(choice: Int[np.ndarray, "K N"], folds: Sequence[Fold]) -> Int[np.ndarray, "N"]:
    """Of every row, the choice of the router that did not learn from it."""
    return sum(np.where(fold.test, own, 0) for own, fold in zip(choice, folds))


def _budgets(outcomes: Outcomes) -> Float[np.ndarray, "P"]:
    """In equal ratios, from the dearest attempt to where the attempts of some operator run out in some cell."""
    prices = outcomes.prices[outcomes.available]
    # One more attempt than were recorded is where the estimator ends.
    ends = (outcomes.prices * (outcomes.most + 1))[outcomes.available & (outcomes.most > 1)]
    last = np.nextafter(min(ends, default=2 * prices.max()), 0)
    return np.geomspace(min(prices.max(), last), last, _POINTS)


def _point(
    pool: Pool,
    outcomes: Outcomes,
    orders: tuple[Order, ...],
    plans: dict[str, Int[np.ndarray, "N"]],
    folds: Sequence[Fold],
    budget: float,
    weights: Float[np.ndarray, "R N"],
) -> dict:
    """Shares solved within one budget, and the differences between them."""
    known, size = [costs(profiles) for profiles in pool.cells], weights.sum(axis=1)
    whole = np.full(len(known), budget)
    share = lambda solved: estimate(weights @ solved / size, len(pool))
    alone = [outcomes.solved((o,) * int(most), whole) for o, most in enumerate(outcomes.most)]
    found = {BEST: _best(outcomes, alone, weights)}
    if "retry" in pool.operators:
        found["retry"] = share(alone[pool.operators.index("retry")])
    exchanged: dict[str, Estimate] = {}
    for name, plan in plans.items():
        left = np.array([budget - charge(name, cell) for cell in known])
        table = np.column_stack([outcomes.solved(order, left) for order in orders])
        found[name] = share(np.take_along_axis(table, plan[:, None], axis=1)[:, 0])
        exchanged[name] = share(_exchanged(outcomes, table, plan, folds))
    point = {"budget": round(budget, 6), "solved": {name: percent(e.value) for name, e in found.items()}}
    for name in plans:
        gaps = {"minus_best": difference(found[name] - found[BEST])}
        if name != SCHEDULE:
            gaps["minus_schedule"] = difference(found[name] - found[SCHEDULE])
            gaps["minus_permuted"] = difference(found[name] - exchanged[name])
        point[name] = gaps
    return point


def _best(
    outcomes: Outcomes, alone: list[Float[np.ndarray, "N"]], weights: Float[np.ndarray, "R N"]
) -> Estimate:
    """The operator of each cell that solves most, by the outcomes that it is scored on."""
    best = np.zeros(len(weights))
    for c, offered in enumerate(outcomes.available):
        here = outcomes.cell == c
        best += np.max([weights[:, here] @ alone[o][here] for o in np.flatnonzero(offered)], axis=0)
    return estimate(best / weights.sum(axis=1), weights.shape[1])


def _exchanged(
    outcomes: Outcomes, table: Float[np.ndarray, "N S"], plan: Int[np.ndarray, "N"], folds: Sequence[Fold]
) -> Float[np.ndarray, "N"]:
    """What the plans of one cell and fold give its problems on average, whoever gets which."""
    values = np.zeros(len(table))
    for fold in folds:
        for c in range(len(outcomes.available)):
            here = np.flatnonzero((outcomes.cell == c) & fold.test)
            if len(here):
                values[here] = table[here] @ np.bincount(plan[here], minlength=table.shape[1]) / len(here)
    return values
