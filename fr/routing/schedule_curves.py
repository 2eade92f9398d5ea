"""Orders of operators at equal cost: what a router's choice of one adds to the best order for all failures."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.config import RoutingConfig
from fr.routing.bootstrap import Estimate, estimate, percent
from fr.routing.budget import BEST
from fr.routing.cells import difference
from fr.routing.costs import positions_of
from fr.routing.folds import Fold, make_folds
from fr.routing.learn import READS
from fr.routing.outcomes import Order, Outcomes, outcomes_of
from fr.routing.pool import Pool
from fr.routing.references import charge
from fr.routing.schedules import ONE_ORDER, learn_orders, named, order_for, train_order_head

READERS = ("head", "head_free")  # what the heads that choose among orders may read, of READS


def judge_schedules(
    pool: Pool,
    routing: RoutingConfig,
    generator: Callable[[str], np.random.Generator],
    weights: Float[np.ndarray, "R N"],
) -> dict | None:
    """{curve, orders, problems}: share of all failed problems solved within each budget, k-fold by problem.

    Heads that learned what each operator solves for the price of `routing.budget` retries choose an order for each
    problem; None without costs or folds. See `judge_orders`.
    """
    outcomes, folds = outcomes_of(pool), make_folds(pool, "kfold", routing.folds, generator("kfold"))
    if outcomes is None or isinstance(folds, str):
        return None
    learned = lambda name, k, fold: train_order_head(
        pool, outcomes, fold.train, READS[name], routing, generator(f"schedule {k}")
    )[1]
    chosen = {name: np.stack([learned(name, k, fold) for k, fold in enumerate(folds)]) for name in READERS}
    return judge_orders(pool, outcomes, folds, chosen, weights)


def judge_orders(
    pool: Pool,
    outcomes: Outcomes,
    folds: Sequence[Fold],
    chosen: dict[str, Int[np.ndarray, "K N"]],
    weights: Float[np.ndarray, "R N"],
) -> dict:
    """{curve, orders, problems} of routers that choose an order for each problem.

    `chosen` has what those that learned from a fold's training rows choose on every row. A problem gets the order
    that those of its family with its choice were best served by, and pays first for what its router reads (`charge`).
    It is held against the order for all failures of its family (`minus_one_order`), the best operator of each cell
    in hindsight, chosen anew in every resample (`minus_best`), and its own orders exchanged over the problems of a
    cell and fold, by exact expectation (`minus_permuted`). Orders are learned from a fold's training rows; intervals
    are over problems.
    """
    orders: dict[Order, int] = {}
    number = lambda order: orders.setdefault(order, len(orders))
    family = [pool.families[f] for f in pool.family]
    plans = {name: np.zeros(len(pool), int) for name in (ONE_ORDER, *chosen)}
    for k, fold in enumerate(folds):
        for name, choice in chosen.items():
            found = learn_orders(pool, outcomes, fold.train, choice[k])
            for i in np.flatnonzero(fold.test):
                stops = choice[k][i] == len(pool.operators)
                chosen_here = "" if stops else pool.operators[choice[k][i]]
                plans[ONE_ORDER][i] = number(order_for(found, family[i], ONE_ORDER))
                plans[name][i] = number(() if stops else order_for(found, family[i], chosen_here))
    shared = pool, outcomes, tuple(orders), plans, folds, weights
    curve = [_point(*shared, float(budget)) for budget in outcomes.budgets()]
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


def _point(
    pool: Pool,
    outcomes: Outcomes,
    orders: tuple[Order, ...],
    plans: dict[str, Int[np.ndarray, "N"]],
    folds: Sequence[Fold],
    weights: Float[np.ndarray, "R N"],
    budget: float,
) -> dict:
    """Shares solved within one budget, and the differences between them."""
    known, size = [positions_of(profiles) for profiles in pool.cells], weights.sum(axis=1)
    share = lambda solved: estimate(weights @ solved / size, len(pool))
    whole = np.full(len(pool), budget)
    alone = outcomes.each(whole)
    found = {BEST: _best(pool, alone, weights)}
    if "retry" in pool.operators:
        found["retry"] = share(alone[:, pool.operators.index("retry")])
    exchanged: dict[str, Estimate] = {}
    for name, plan in plans.items():
        paid = [charge(name, cell) * np.ones(len(cell["diagnosis"])) for cell in known]
        table = np.column_stack([outcomes.solved(order, whole - np.concatenate(paid)) for order in orders])
        found[name] = share(np.take_along_axis(table, plan[:, None], axis=1)[:, 0])
        exchanged[name] = share(_exchanged(pool, table, plan, folds))
    point = {"budget": round(budget, 6), "solved": {name: percent(e.value) for name, e in found.items()}}
    for name in plans:
        gaps = {"minus_best": difference(found[name] - found[BEST])}
        if name != ONE_ORDER:
            gaps["minus_one_order"] = difference(found[name] - found[ONE_ORDER])
            gaps["minus_permuted"] = difference(found[name] - exchanged[name])
        point[name] = gaps
    return point


def _best(pool: Pool, alone: Float[np.ndarray, "N O"], weights: Float[np.ndarray, "R N"]) -> Estimate:
    """The operator of each cell that solves most, by the outcomes that it is scored on."""
    best = np.zeros(len(weights))
    for c, profiles in enumerate(pool.cells):
        here = pool.cell == c
        offered = [pool.operators.index(name) for name in profiles.operators]
        best += np.max([weights[:, here] @ alone[here, o] for o in offered], axis=0)
    return estimate(best / weights.sum(axis=1), len(pool))


def _exchanged(
    pool: Pool, table: Float[np.ndarray, "N S"], plan: Int[np.ndarray, "N"], folds: Sequence[Fold]
) -> Float[np.ndarray, "N"]:
    """What the plans of one cell and fold give its problems on average, whoever gets which."""
    values = np.zeros(len(table))
    for fold in folds:
        for c in range(len(pool.cells)):
            here = np.flatnonzero((pool.cell == c) & fold.test)
            if len(here):
                values[here] = table[here] @ np.bincount(plan[here], minlength=table.shape[1]) / len(here)
    return values
