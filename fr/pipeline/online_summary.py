"""Live routing as numbers: curves within a budget, and values of other choices."""

from collections.abc import Mapping

import numpy as np
from etils import epath

from fr import store
from fr.pipeline.intervene import vote
from fr.profiles import FORWARD
from fr.routing.dataset import EVERYWHERE
from fr.runs.attempt_costs import forward_tokens
from fr.runs.run import Run
from fr.stats.bootstrap import difference_record, resample_weights
from fr.stats.budget_curves import Spent, spent_curves
from fr.stats.off_policy import doubly_robust, mean_value
from fr.types import RIGHT

CHOSEN, TAKEN, CHANCE = "chosen", "taken", "chance"  # further columns of the store
LOGGED = (CHOSEN, TAKEN, CHANCE)
_COLUMNS = ["problem", "task", "operator", "text", "grade"]
_COLUMNS += [f"cost_{name}" for name in store.COSTS]


def by_problem(folder: epath.Path) -> list[list[dict]]:
    """Read the attempts of each problem in order.

    Args:
        folder: Attempts of a router.

    Returns:
        Rows of the store, by problem.
    """
    groups: dict[str, list[dict]] = {}
    for row in store.read_table(folder, [*_COLUMNS, *LOGGED]).to_pylist():
        groups.setdefault(row["problem"], []).append(row)
    return list(groups.values())


def logged_values(run: Run, groups: list[list[dict]]) -> dict | None:
    """Value the router and every operator by the problems whose choice was drawn.

    The outcome of a problem is 1 if its attempts after routing solve it. A choice was
    taken with a known chance (`intervention.online_explore`), so that every choice has
    a doubly robust value from one run.

    Args:
        run: The run.
        groups: Attempts by problem, of a router that explored.

    Returns:
        `problems` that were routed, and `values`: rows {choice, value, over_retry};
        None if nothing was drawn.
    """
    c = run.config.intervention
    routed = [g for g in groups if g[0][CHANCE] is not None]
    if not c.online_explore or not routed:
        return None
    names = sorted({str(g[0][key]) for g in routed for key in (CHOSEN, TAKEN)})
    place = {name: i for i, name in enumerate(names)}
    chosen, taken = (
        np.array([place[g[0][key]] for g in routed]) for key in (CHOSEN, TAKEN)
    )
    chance = np.array([g[0][CHANCE] for g in routed], float)
    outcome = np.array([solved(g[c.online_after :]) for g in routed], float)
    value = lambda target: doubly_robust(outcome, taken, chance, target, len(names))
    always = {name: value(np.full(len(routed), place[name])) for name in names}
    all_values = {"router": value(chosen), **always}
    how, retry = (run.config.routing.bootstrap, run.config.seed), always.get("retry")
    rows = []
    for name, values in all_values.items():
        row = {"choice": name, "value": mean_value(values, *how).percent().as_dict()}
        if retry is not None and name != "retry":
            gap = mean_value(values, *how, other=retry)
            row["over_retry"] = difference_record(gap)
        rows.append(row)
    return {"problems": len(routed), "values": rows}


def online_curves(
    run: Run, made: Mapping[str, list[list[dict]]], reference: str
) -> list[dict]:
    """Compare routers by problems solved within a budget.

    Args:
        run: The run.
        made: Attempts by router and problem.
        reference: Name of the reference.

    Returns:
        Rows of the curves.
    """
    c = run.config.intervention
    most, complete = c.online_after + c.attempts, {}
    for name, groups in made.items():
        # A router that stops early makes no more attempts, for any budget.
        ends = [len(g) < most or (c.verifier and solved(g)) for g in groups]
        complete[name] = np.array(ends)
    spent = {name: [_spent(run, g) for g in groups] for name, groups in made.items()}
    count, rng = len(made[reference]), np.random.default_rng(run.config.seed)
    weights = resample_weights(count, run.config.routing.bootstrap, rng) / count
    rows = spent_curves(spent, reference, complete, weights, c.online_budget)
    return [{"cell": EVERYWHERE, "axis": FORWARD, **row} for row in rows]


def _spent(run: Run, group: list[dict]) -> Spent:
    costs = np.array([forward_tokens(row, run.ancestor_weight) for row in group], float)
    if run.config.intervention.verifier:
        return costs, lambda n: solved(group[:n])
    return costs, lambda n: vote(group[:n], run.config.seed)


def solved(group: list[dict]) -> bool:
    """Say whether an attempt of a problem is right.

    Args:
        group: Rows of its attempts.

    Returns:
        True if one is.
    """
    return any(row["grade"] == RIGHT for row in group)
