"""Recorded attempts as outcomes, and what a budget of each cell solves by policy."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from fr.orders.indexing import index_attempts
from fr.profiles.profile import AXES, FORWARD, Profiles
from fr.routing.dataset import RoutingData
from fr.routing.policies import Policy
from fr.stats.bootstrap import effective, percent, resample_weights
from fr.stats.budget_curves import BEST, Plan, Solved, budget_curves, run_plan
from fr.stats.outcomes import Outcomes, draw_costs, number_of_draws


def outcomes_of(data: RoutingData, axis: str = FORWARD) -> Outcomes | None:
    """Prepare the recorded attempts for budget curves.

    Args:
        data: the failed problems.
        axis: of cost.

    Returns:
        The outcomes, the same for the same data; None if attempts or costs of a cell
        are unknown.
    """
    known = [profiles.costs(axis) for profiles in data.cells]
    once = np.zeros(len(data.operators), bool)
    tried = np.where(data.available, data.attempts, data.attempts.max())
    most = tried.min(axis=0)
    prices = np.zeros(data.rates.shape)
    for c, (profiles, costs) in enumerate(zip(data.cells, known)):
        own = np.array([data.operators.index(name) for name in profiles.operators])
        same = profiles.repeats_itself
        once[own] |= same
        most[own] = np.where(same, 1, most[own])
        if costs is None or (profiles.tried[:, ~same] == 0).any():
            return None
        for o, name in zip(own, profiles.operators):
            prices[data.cell == c, o] = costs[name]
    right = np.round(data.rates * data.attempts).astype(np.int64)
    # A deterministic operator: the chance that its one attempt fails.
    chance = (1 - data.rates) * data.attempts
    wrong = np.where(once, chance, data.attempts - right)
    tries = np.arange(most.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.maximum(wrong[..., None] - tries, 0)
        fails = left / (data.attempts[..., None] - tries)
    counted = data.available[..., None] & (tries < most[:, None])
    fails = np.where(counted, fails, 1.0)
    start = ((0, 0), (0, 0), (1, 0))
    unsolved = np.pad(fails.cumprod(axis=2), start, constant_values=1.0)
    drawn = _costs(data, axis, prices, int(most.max()))
    retry = data.operators.index("retry") if "retry" in data.operators else None
    recorded = all(_records(profiles, axis) for profiles in data.cells)
    indexed = index_attempts(data, axis, prices, once)
    rest: tuple = (data.weight, once, retry, recorded, indexed)
    return Outcomes(unsolved, most, prices, *drawn, *rest)


def diagnosis_cost(
    data: RoutingData, cost: str, axis: str = FORWARD
) -> Float[np.ndarray, "N"]:
    """Compute what a policy pays for each problem before its first attempt.

    Args:
        data: failed problems; all cells must know their costs.
        cost: `Policy.cost`: "none", "rollouts" or "diagnosis".
        axis: of cost.

    Returns:
        The cost of each problem.
    """
    if cost == "none":
        return np.zeros(len(data))
    name = "diagnosis" if cost == "diagnosis" else "failures"
    known = [profiles.costs(axis) for profiles in data.cells]
    return np.concatenate([found[name] for found in known if found is not None])


def cell_curves(
    data: RoutingData,
    choices: Mapping[Policy, Int[np.ndarray, "N"]],
) -> tuple[list[dict], list[dict | None]]:
    """Tabulate what each policy solves within a budget, cell by cell.

    A policy repeats its operator, pays first for what it reads ("paid") or finds that
    done ("done"). BEST is the operator that solves most by the outcomes that score it.

    Args:
        data: the failed problems of all cells.
        choices: operator of each row by policy, out of fold if it was learned.

    Returns:
        Rows of `budget_curves` with their cell and axis, and per cell
        {"forward_tokens", "recorded", "error"}, None if its costs are unknown.
    """
    rows: list[dict] = []
    costs: list[dict | None] = []
    for c, profiles in enumerate(data.cells):
        means = data.costs[c]
        if means is None:
            costs.append(None)
            continue
        here = data.cell == c
        own = [*(data.operators.index(o) for o in profiles.operators)]
        local = np.full(len(data.operators) + 1, len(own))
        local[own] = np.arange(len(own))
        chosen = {policy: local[choice[here]] for policy, choice in choices.items()}
        alone = data.of_cell(c)
        record: dict = {"forward_tokens": {n: round(v, 6) for n, v in means.items()}}
        record |= {"recorded": False, "error": None}
        for axis in AXES:
            outcomes = outcomes_of(alone, axis)
            if outcomes is None:
                continue
            if axis == FORWARD:
                record |= {"recorded": outcomes.recorded, "error": draw_error(outcomes)}
            found = _curve(alone, chosen, outcomes, axis)
            rows += [{"cell": profiles.cell, "axis": axis, **row} for row in found]
        costs.append(record)
    return rows, costs


def draw_error(outcomes: Outcomes) -> float | None:
    """Compute the largest standard error of one operator's share that draws leave.

    Args:
        outcomes: recorded attempts.

    Returns:
        Points.
    """
    budgets = np.tile(outcomes.budgets(), (len(outcomes.weight), 1))
    orders = [outcomes.alone(o) for o in range(len(outcomes.most))]
    return percent(max(outcomes.error(order, budgets) for order in orders))


def _curve(
    data: RoutingData,
    chosen: Mapping[Policy, Int[np.ndarray, "N"]],
    outcomes: Outcomes,
    axis: str,
) -> list[dict]:
    profiles, everyone = data.cells[0], [np.arange(len(data))]
    budgets = outcomes.budgets()
    each = outcomes.each(np.tile(budgets, (len(data), 1)))
    policies = [Solved(o, each[..., i]) for i, o in enumerate(profiles.operators)]
    orders = [*(outcomes.alone(o) for o in range(len(profiles.operators))), ()]
    for policy, choice in chosen.items():
        for diagnosis in ("paid", "done") if policy.cost != "none" else (None,):
            cost = policy.cost if diagnosis == "paid" else "none"
            paid = diagnosis_cost(data, cost, axis)
            plan = Plan(orders, choice, paid, ("retry", BEST), diagnosis)
            policies.append(run_plan(policy.name, plan, outcomes, budgets, everyone))
    rng = data.stream("budget", profiles.cell)
    weights = resample_weights(len(data), data.config.bootstrap, rng) * outcomes.weight
    weights /= weights.sum(axis=1, keepdims=True)
    best = [(slice(None), each)]
    alike = np.ptp(data.weight) == 0
    carried = effective(outcomes.weight)
    return budget_curves(policies, budgets, weights, carried, 1.0, best, alike)


def _records(profiles: Profiles, axis: str) -> bool:
    return profiles.recorded is not None and profiles.recorded.knows(axis)


def _costs(
    data: RoutingData, axis: str, prices: Float[np.ndarray, "N O"], longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drawn costs where attempts have their own, else the mean price for all."""
    count = len(data)
    own = [_records(profiles, axis) for profiles in data.cells]
    draws = number_of_draws(count) if any(own) else 1
    lost = np.zeros((count, len(data.operators), draws, longest + 1), np.float32)
    numbers = np.arange(1, longest + 1)[None, None, None]
    lost[..., 1:] = prices[..., None, None] * numbers
    won = np.repeat(prices[..., None], draws, axis=2).astype(np.float32)
    later = np.repeat(prices[..., None], longest + 1, axis=2)
    for c, profiles in enumerate(data.cells):
        found = profiles.recorded
        if found is None or not own[c]:
            continue
        rng, rows = np.random.default_rng(c), np.flatnonzero(data.cell == c)
        for o, name in enumerate(profiles.operators):
            at, made = data.operators.index(name), found.made[:, o]
            right, wrong = made & found.right[:, o], made & ~found.right[:, o]
            costs = np.where(made, found.costs[axis][:, o], 0.0)
            drawn = draw_costs(costs, right, wrong, draws, longest, rng)
            lost[rows, at, :, 1:], won[rows, at], later[rows, at] = drawn
    return lost, won, later
