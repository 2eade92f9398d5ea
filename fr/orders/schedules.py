"""Schedules: orders of operators, for all failures or chosen by a router."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.orders.budgets import diagnosis_cost, draw_error, outcomes_of
from fr.profiles.profile import AXES, FORWARD
from fr.routing.dataset import EVERYWHERE, Fold, RoutingData
from fr.routing.policies import Policy
from fr.routing.posterior import ANYWHERE
from fr.stats.bootstrap import effective
from fr.stats.budget_curves import BEST, PERMUTED, Plan, Solved, budget_curves, run_plan
from fr.stats.outcomes import Outcomes
from fr.stats.paired import Walk

Order = tuple[int, ...]
Orders = dict[str, dict[str, Order]]  # by family and ANYWHERE, then by choice
ONE_ORDER = "one_order"  # for all failures of a family: it reads none
MODEL_ORDER = "one_order_per_model"  # for all failures of a model on a family
LEAST = 20  # training problems with a choice, from which an order of its own is learned
_GAIN = 1e-9  # solved problems per forward token that an attempt must be worth
# The schedules that are judged, and the policies whose router chooses among orders.
READERS = {"schedule": "learned", "schedule_free": "learned_free"}


def greedy(outcomes: Outcomes, rows: Bool[np.ndarray, "N"]) -> Order:
    """Order attempts so that each next one solves most problems per forward token.

    Only problems that are still open are tried again, so only they cost, and a failed
    attempt is charged what the attempts that are left cost on average. Greedy in a
    submodular gain over its cost, as in Streeter and Golovin (NeurIPS 2008).

    Args:
        outcomes: of all problems, weighted by how often they are met.
        rows: the problems to serve.

    Returns:
        Operators, until none solves any.
    """
    unsolved, prices = outcomes.unsolved[rows], outcomes.next_price[rows]
    walk = Walk(outcomes.indexed.of(rows)) if outcomes.indexed is not None else None
    counts, still = np.zeros(prices.shape[1], int), outcomes.weight[rows].copy()
    order: list[int] = []

    def again(o: int) -> Float[np.ndarray, "M"]:
        return walk.again(o) if walk else _again(unsolved, o, int(counts[o]))

    while True:
        gains = np.full(len(counts), -1.0)
        open_ = (prices > 0).any(axis=(0, 2)) & (counts < outcomes.most)
        for o in map(int, np.flatnonzero(open_)):
            if walk is not None and not walk.can(o):
                continue
            spent = (still * prices[:, o, counts[o]]).sum()
            won = (still * (1 - again(o))).sum()
            gains[o] = won / max(spent, _GAIN)
        best = int(gains.argmax())
        if gains[best] <= _GAIN:
            return tuple(order)
        still = still * again(best)
        counts[best] += 1
        if walk is not None:
            walk.take(best)
        order.append(best)


def learn_orders(
    data: RoutingData,
    outcomes: Outcomes,
    train: Bool[np.ndarray, "N"],
    choice: Int[np.ndarray, "N"],
) -> Orders:
    """Learn orders by family, and in it by a router's choice.

    Args:
        data: the failed problems.
        outcomes: of their attempts.
        train: rows to learn from.
        choice: of the router, per row.

    Returns:
        Per family and ANYWHERE: ONE_ORDER for all its failures, and an order for each
        choice that LEAST problems have.
    """
    found: Orders = {}
    for family, name in ((-1, ANYWHERE), *enumerate(data.families)):
        rows = train & ((data.family == family) | (family < 0))
        if not rows.any():
            continue
        found[name] = {ONE_ORDER: greedy(outcomes, rows)}
        for o, operator in enumerate(data.operators):
            if (rows & (choice == o)).sum() >= LEAST:
                found[name][operator] = greedy(outcomes, rows & (choice == o))
    return found


def order_for(orders: Mapping[str, Mapping[str, Sequence]], family: str, choice: str):
    """Look up the order that follows a choice.

    Args:
        orders: by family and ANYWHERE, then by choice.
        family: of the problem.
        choice: of the router, or ONE_ORDER.

    Returns:
        The order of family and choice, else the family's, else the order for all.
    """
    own = orders.get(family, orders[ANYWHERE])
    return own.get(choice, own[ONE_ORDER])


def named_orders(orders: Orders, operators: Sequence[str]) -> dict[str, dict]:
    """Replace the indices of operators by their names.

    Args:
        orders: of `learn_orders`.
        operators: names.

    Returns:
        The orders as plain values.
    """
    return {
        family: {choice: [operators[o] for o in order] for choice, order in own.items()}
        for family, own in orders.items()
    }


def budget_target(data: RoutingData, outcomes: Outcomes) -> RoutingData:
    """Let routers learn what each operator solves for the price of some mean retries.

    A router that chooses among orders learns this: an operator may rescue less at its
    first attempt and, failing now here and now there, more within ten. Costs are in
    the budget, so that attempts have no price.

    Args:
        data: the failed problems.
        outcomes: of their attempts; the budget is `budget_retries` mean retries.

    Returns:
        The data with these values.
    """
    retry = data.operators.index("retry") if "retry" in data.operators else 0
    price = outcomes.prices[:, retry]
    retries = data.config.budget_retries
    budget = np.full((len(data), 1), retries * price[price > 0].mean())
    values = outcomes.each(budget)[:, 0] * data.weight[:, None]
    config = dataclasses.replace(data.config, attempt_price=0.0)
    return dataclasses.replace(data, mass=data.weight, values=values, config=config)


def judge_schedules(
    data: RoutingData, policies: Sequence[Policy]
) -> tuple[dict | None, list[dict]]:
    """Judge routers that choose an order for each problem, k-fold by problem.

    Args:
        data: the failed problems.
        policies: the learned ones of READERS choose.

    Returns:
        What `judge_orders` gives; (None, []) without costs, folds or learned routers.
    """
    outcomes, folds = outcomes_of(data), data.folds("kfold")
    readers = {policy.name: policy for policy in policies}
    if outcomes is None or isinstance(folds, str) or "learned" not in readers:
        return None, []
    target = budget_target(data, outcomes)
    chosen = {}
    for name, reader in READERS.items():
        policy = readers[reader]
        table = target.reading(policy.feature_groups)
        each = []
        for k, fold in enumerate(folds):
            stream = data.stream(f"schedule {k}")
            each.append(policy.fit(table, fold.train, stream)(table).operator)
        chosen[name] = (policy.cost, np.stack(each))
    return judge_orders(data, outcomes, folds, chosen)


def judge_orders(
    data: RoutingData,
    outcomes: Outcomes,
    folds: Sequence[Fold],
    chosen: Mapping[str, tuple[str, Int[np.ndarray, "K N"]]],
) -> tuple[dict, list[dict]]:
    """Compare schedules at equal cost.

    A problem gets the order that served best the training problems of its family with
    its choice, and pays first for what its router reads. References are the order for
    its model on its family, known without reading a failure, the order for its family,
    the best operator of each cell in hindsight, and its own orders exchanged over the
    problems of a cell and fold, by exact expectation. Orders are learned for forward
    tokens and judged on every axis that is known. Problems count as often as a deployed
    router meets them.

    Args:
        data: the failed problems.
        outcomes: of their attempts, in forward tokens.
        folds: k folds.
        chosen: by schedule, what its router reads and pays for (`Policy.cost`), and its
            choice on every row by fold.

    Returns:
        {"orders", "problems", "models", "recorded", "error"}, and the rows of
        `budget_curves` with cell and axis.
    """
    orders, plans = _plans(data, outcomes, folds, chosen)
    rows: list[dict] = []
    for axis in AXES:
        found = outcomes if axis == FORWARD else outcomes_of(data, axis)
        if found is not None:
            costs = {name: cost for name, (cost, _) in chosen.items()}
            curve = _curve(data, found, axis, orders, plans, costs, folds)
            rows += [{"cell": EVERYWHERE, "axis": axis, **row} for row in curve]
    whole, learned = np.ones(len(data), bool), {}
    for name, (_, choice) in chosen.items():
        # For each row, the choice of the router that did not learn from it.
        out = np.zeros(len(data), int)
        for own, fold in zip(choice, folds):
            out[fold.test] = own[fold.test]
        orders_of = learn_orders(data, outcomes, whole, out)
        learned[name] = named_orders(orders_of, data.operators)
    record = {
        "orders": learned,
        "problems": len(data),
        "models": len(np.unique(data.model)),
        "recorded": outcomes.recorded,
        "error": draw_error(outcomes),
    }
    return record, rows


def _again(
    unsolved: Float[np.ndarray, "M O A"], operator: int, made: int
) -> Float[np.ndarray, "M"]:
    """Chance that one more attempt fails, given that those made have."""
    before, after = unsolved[:, operator, made], unsolved[:, operator, made + 1]
    return np.divide(after, before, out=np.zeros(len(before)), where=before > 0)


def _plans(
    data: RoutingData,
    outcomes: Outcomes,
    folds: Sequence[Fold],
    chosen: Mapping[str, tuple[str, Int[np.ndarray, "K N"]]],
) -> tuple[tuple[Order, ...], dict[str, Int[np.ndarray, "N"]]]:
    """All orders, and each policy's order for each problem, learned without it."""
    orders: dict[Order, int] = {}
    number: Callable[[Order], int] = lambda order: orders.setdefault(order, len(orders))
    family = [data.families[f] for f in data.family]
    names = (ONE_ORDER, MODEL_ORDER, *chosen)
    plans = {name: np.zeros(len(data), int) for name in names}
    for k, fold in enumerate(folds):
        models = np.unique(data.model[fold.train])
        mine = {m: greedy(outcomes, fold.train & (data.model == m)) for m in models}
        for name, (_, choice) in chosen.items():
            found = learn_orders(data, outcomes, fold.train, choice[k])
            for i in np.flatnonzero(fold.test):
                stops = choice[k][i] == len(data.operators)
                operator = "" if stops else data.operators[choice[k][i]]
                one = order_for(found, family[i], ONE_ORDER)
                plans[ONE_ORDER][i] = number(one)
                plans[MODEL_ORDER][i] = number(mine.get(data.model[i], one))
                own = () if stops else order_for(found, family[i], operator)
                plans[name][i] = number(own)
    return tuple(orders), plans


def _curve(
    data: RoutingData,
    outcomes: Outcomes,
    axis: str,
    orders: tuple[Order, ...],
    plans: Mapping[str, Int[np.ndarray, "N"]],
    costs: Mapping[str, str],
    folds: Sequence[Fold],
) -> list[dict]:
    budgets = outcomes.budgets()
    each = outcomes.each(np.tile(budgets, (len(data), 1)))
    groups = [
        np.flatnonzero((data.cell == c) & fold.test)
        for fold in folds
        for c in range(len(data.cells))
    ]
    policies = []
    if "retry" in data.operators:
        policies.append(Solved("retry", each[..., data.operators.index("retry")]))
    for name, choice in plans.items():
        cost = costs.get(name, "none")
        others = [other for other in (BEST, ONE_ORDER, MODEL_ORDER) if other != name]
        others += [PERMUTED] if name in costs else []
        diagnosis = "paid" if cost != "none" else None
        paid = diagnosis_cost(data, cost, axis)
        plan = Plan(orders, choice, paid, others, diagnosis)
        policies.append(run_plan(name, plan, outcomes, budgets, groups))
    weights = data.resamples * data.weight
    best = []
    for c, profiles in enumerate(data.cells):
        own = [data.operators.index(name) for name in profiles.operators]
        # One column in memory after the other: ties must not be split by rounding.
        best.append((data.cell == c, np.asfortranarray(each[data.cell == c][..., own])))
    total, carried = weights.sum(axis=1), effective(data.weight)
    alike = np.ptp(data.weight) == 0
    return budget_curves(policies, budgets, weights, carried, total, best, alike)
