"""Orders of operators at equal cost: what a router's choice of one adds to the best order for all failures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.config import RoutingConfig
from fr.routing.budget import BEST
from fr.routing.cells import difference
from fr.routing.costs import positions_of
from fr.routing.folds import Fold, make_folds
from fr.routing.learn import READS
from fr.routing.outcomes import Order, Outcomes, outcomes_of
from fr.routing.pool import Pool
from fr.routing.recorded import AXES, FORWARD
from fr.routing.references import charge
from fr.routing.schedules import (
    MODEL_ORDER,
    ONE_ORDER,
    learn_orders,
    model_orders,
    named,
    order_for,
    train_order_head,
)
from fr.stats.bootstrap import Estimate, effective, estimate, percent

READERS = (
    "head",
    "head_free",
)  # what the heads that choose among orders may read, of READS


def judge_schedules(
    pool: Pool,
    routing: RoutingConfig,
    generator: Callable[[str], np.random.Generator],
    weights: Float[np.ndarray, "R N"],
) -> dict | None:
    """What `judge_orders` gives, of heads that learned what each operator solves for the price of
    `routing.budget` retries and choose an order for each problem, k-fold by problem; None without costs or folds.
    """
    outcomes, folds = (
        outcomes_of(pool),
        make_folds(pool, "kfold", routing.folds, generator("kfold")),
    )
    if outcomes is None or isinstance(folds, str):
        return None
    learned = lambda name, k, fold: train_order_head(
        pool, outcomes, fold.train, READS[name], routing, generator(f"schedule {k}")
    )[1]
    chosen = {
        name: np.stack([learned(name, k, fold) for k, fold in enumerate(folds)])
        for name in READERS
    }
    return judge_orders(pool, outcomes, folds, chosen, weights)


def judge_orders(
    pool: Pool,
    outcomes: Outcomes,
    folds: Sequence[Fold],
    chosen: dict[str, Int[np.ndarray, "K N"]],
    weights: Float[np.ndarray, "R N"],
) -> dict:
    """{curve, curves, orders, problems, recorded, error} of routers that choose an order for each problem.

    `chosen` has what those that learned from a fold's training rows choose on every row. A problem gets the order
    that those of its family with its choice were best served by, and pays first for what its router reads (`charge`).
    It is held against the order for its model on its family, which is known without reading a failure
    (`minus_one_order_per_model`), the order for all failures of its family (`minus_one_order`), the best operator
    of each cell in hindsight, chosen anew in every resample (`minus_best`), and its own orders exchanged over the
    problems of a cell and fold, by exact expectation (`minus_permuted`). Orders are learned from a fold's training
    rows, for forward positions; `curves` has the same orders on every axis of AXES that is known. Problems count as
    often as a deployed router meets them, and once in `unweighted`; intervals are over problems. `error`: the
    largest standard error, in points, that the drawn orders of attempts leave in a share of one operator.
    """
    orders, plans = _plans(pool, outcomes, folds, chosen)
    weights = weights * pool.weight
    axes = {
        axis: outcomes if axis == FORWARD else outcomes_of(pool, axis) for axis in AXES
    }
    curves = {
        axis: _curve(pool, found, axis, orders, plans, folds, weights)
        for axis, found in axes.items()
        if found is not None
    }
    whole = np.ones(len(pool), bool)
    learned = {
        n: learn_orders(pool, outcomes, whole, _left_out(c, folds))
        for n, c in chosen.items()
    }
    budgets = np.tile(outcomes.budgets(), (len(pool), 1))
    errors = [
        outcomes.error(outcomes.alone(o), budgets) for o in range(len(pool.operators))
    ]
    return {
        "curve": curves[FORWARD],
        "curves": curves,
        "orders": {
            name: named(found, pool.operators) for name, found in learned.items()
        },
        "problems": len(pool),
        "models": len(np.unique(pool.model)),
        "recorded": outcomes.recorded,
        "error": percent(max(errors)),
    }


def _plans(
    pool: Pool,
    outcomes: Outcomes,
    folds: Sequence[Fold],
    chosen: Mapping[str, Int[np.ndarray, "K N"]],
) -> tuple[tuple[Order, ...], dict[str, Int[np.ndarray, "N"]]]:
    """The orders, and which of them every policy gives each problem, learned without the problem."""
    orders: dict[Order, int] = {}
    number = lambda order: orders.setdefault(order, len(orders))
    family = [pool.families[f] for f in pool.family]
    plans = {
        name: np.zeros(len(pool), int) for name in (ONE_ORDER, MODEL_ORDER, *chosen)
    }
    for k, fold in enumerate(folds):
        own = model_orders(pool, outcomes, fold.train)
        for name, choice in chosen.items():
            found = learn_orders(pool, outcomes, fold.train, choice[k])
            for i in np.flatnonzero(fold.test):
                stops = choice[k][i] == len(pool.operators)
                chosen_here = "" if stops else pool.operators[choice[k][i]]
                plans[ONE_ORDER][i] = number(order_for(found, family[i], ONE_ORDER))
                plans[MODEL_ORDER][i] = number(
                    own.get(pool.model[i], order_for(found, family[i], ONE_ORDER))
                )
                plans[name][i] = number(
                    () if stops else order_for(found, family[i], chosen_here)
                )
    return tuple(orders), plans


def _left_out(
    choice: Int[np.ndarray, "K N"], folds: Sequence[Fold]
) -> Int[np.ndarray, "N"]:
    """Of every row, the choice of the router that did not learn from it."""
    return sum(np.where(fold.test, own, 0) for own, fold in zip(choice, folds))


def _curve(
    pool: Pool,
    outcomes: Outcomes,
    axis: str,
    orders: tuple[Order, ...],
    plans: dict[str, Int[np.ndarray, "N"]],
    folds: Sequence[Fold],
    weights: Float[np.ndarray, "R N"],
) -> list[dict]:
    """Shares solved within each budget, and the differences between them."""
    known = [positions_of(profiles, axis) for profiles in pool.cells]
    budgets = np.tile(outcomes.budgets(), (len(pool), 1))
    alone = [
        outcomes.curve(outcomes.alone(o), budgets) for o in range(len(pool.operators))
    ]
    alone = np.stack(alone, axis=2)
    solved, exchanged = {}, {}
    for name, plan in plans.items():
        paid = np.concatenate(
            [charge(name, cell) * np.ones(len(cell["diagnosis"])) for cell in known]
        )
        solved[name], exchanged[name] = _along(
            pool,
            outcomes,
            budgets - paid[:, None],
            orders,
            plan,
            folds,
            name not in (ONE_ORDER, MODEL_ORDER),
        )
    weighted = np.ptp(pool.weight) > 0
    size, carried = weights.sum(axis=1), effective(pool.weight)
    share = lambda values: estimate(weights @ values / size, carried)
    points = []
    for p, budget in enumerate(budgets[0]):
        found = {BEST: _best(pool, alone[:, p], weights)}
        if "retry" in pool.operators:
            found["retry"] = share(alone[:, p, pool.operators.index("retry")])
        found |= {name: share(values[:, p]) for name, values in solved.items()}
        shares = {name: percent(e.value) for name, e in found.items()}
        point = {"budget": round(float(budget), 6), "solved": shares}
        if weighted:  # as if a router met every problem of the table
            plain = {name: values[:, p] for name, values in solved.items()}
            if "retry" in shares:
                plain["retry"] = alone[:, p, pool.operators.index("retry")]
            point["unweighted"] = {
                name: percent(value.mean()) for name, value in plain.items()
            }
        for name in plans:
            gaps = {"minus_best": difference(found[name] - found[BEST])}
            for reference in (ONE_ORDER, MODEL_ORDER):
                if name != reference:
                    gaps[f"minus_{reference}"] = difference(
                        found[name] - found[reference]
                    )
            if name in exchanged and exchanged[name] is not None:
                gaps["minus_permuted"] = difference(
                    found[name] - share(exchanged[name][:, p])
                )
            point[name] = gaps
        points.append(point)
    return points


def _best(
    pool: Pool, alone: Float[np.ndarray, "N O"], weights: Float[np.ndarray, "R N"]
) -> Estimate:
    """The operator of each cell that solves most, by the outcomes that it is scored on."""
    best = np.zeros(len(weights))
    for c, profiles in enumerate(pool.cells):
        here = pool.cell == c
        offered = [pool.operators.index(name) for name in profiles.operators]
        best += np.max([weights[:, here] @ alone[here, o] for o in offered], axis=0)
    return estimate(best / weights.sum(axis=1), effective(pool.weight))


def _along(
    pool: Pool,
    outcomes: Outcomes,
    budgets: Float[np.ndarray, "N P"],
    orders: tuple[Order, ...],
    plan: Int[np.ndarray, "N"],
    folds: Sequence[Fold],
    exchange: bool,
) -> tuple[Float[np.ndarray, "N P"], Float[np.ndarray, "N P"] | None]:
    """What a plan solves within each budget, and what its orders would if those of one cell and fold were dealt to
    its problems at random.
    """
    solved, exchanged = np.zeros(budgets.shape), np.zeros(budgets.shape)
    for fold in folds:
        for c in range(len(pool.cells)):
            here = np.flatnonzero((pool.cell == c) & fold.test)
            for s, times in zip(*np.unique(plan[here], return_counts=True)):
                rows = here if exchange else here[plan[here] == s]
                values = outcomes.of(rows).curve(orders[s], budgets[rows])
                own = plan[rows] == s
                solved[rows[own]] = values[own]
                exchanged[rows] += values * times / len(here)
    return solved, exchanged if exchange else None
