"""What online routing bought: its attempts beside retries of the same problems, at equal cost."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from etils import epath

from fr import distributed, store
from fr.errors import UserError
from fr.pipeline.attempt_costs import forward_tokens
from fr.pipeline.intervene import vote
from fr.pipeline.online import attempt_online
from fr.routing.profiles import FEATURES, read_profiles
from fr.routing.router import FIXED, Router, fixed_router, load_router
from fr.routing.spending import Spent, curve
from fr.runs.run import Run
from fr.stats.bootstrap import rate
from fr.types import RIGHT
from fr.workdir import PathLike, write_json

_COLUMNS = [
    "problem",
    "task",
    "operator",
    "text",
    "grade",
    *(f"cost_{name}" for name in store.COSTS),
]


def open_router(
    run: Run, policy: str, calibration: PathLike | None, head: PathLike | None
) -> Router:
    """The router of `--policy`; what it was calibrated on, and a head, lie in the run's folder unless given.

    Raises UserError where a policy that was learned for one task would meet the failures of several.
    """
    if len(run.parts) > 1 and not policy.startswith(FIXED):
        raise UserError(
            f"--policy={policy} routes failures of one task at a time, and here are {', '.join(run.parts)}; "
            "set config.task.name to one of them"
        )
    part, two = run.parts[0], run.ancestor is not None
    operators = [operator.name for operator in run.operators(part)[0]]
    table = epath.Path(calibration or run.workdir / "profiles.csv")
    cells = (
        {p.cell: p for p in read_profiles(table)}
        if calibration or table.exists()
        else {}
    )
    cell = run.cell(part)
    # The failures of another cell may stand in for those of one that nothing is known of.
    chosen = cells.get(cell, next(iter(cells.values()), None))
    known = FEATURES if two else FEATURES[2:]
    folder = "head" if policy == "head" else "schedule"
    return load_router(
        policy, operators, cell, known, chosen, head or run.workdir / folder
    )


def route_online(run: Run, router: Router, against: Router | None = None) -> dict:
    """Attempts by the router and by its reference (retry); `online.json` says what each solved at what cost."""
    reference = against or fixed_router("retry")
    made = {r.name: _by_problem(attempt_online(run, r)) for r in (router, reference)}
    first = run.config.intervention.after
    routed = [
        group[first]["operator"] for group in made[router.name] if len(group) > first
    ]
    summary = {
        "policy": router.name,
        "reference": reference.name,
        "verifier": run.config.intervention.verifier,
        "problems": len(run.problems),
        "after": first,
        "declared_budget": run.config.intervention.budget or None,
        "routes": dict(sorted(Counter(routed).items())),
        "right_at_first": _right_at_first(run, made[router.name]),
        "curve": _curve(run, made, reference.name),
    }
    if distributed.is_first():
        write_json(run.workdir / "online.json", summary)
    return summary


def _by_problem(folder: epath.Path) -> list[list[dict]]:
    """The attempts of each problem in the order of their making."""
    groups: dict[str, list[dict]] = {}
    for row in store.read_table(folder, _COLUMNS).to_pylist():
        groups.setdefault(row["problem"], []).append(row)
    return list(groups.values())


def _right_at_first(run: Run, made: Sequence[list[dict]]) -> dict:
    first = [row for group in made for row in group[:1]]
    return rate(
        (row["problem"] for row in first),
        (row["grade"] == RIGHT for row in first),
        run.config.routing.bootstrap,
        run.config.seed,
    )


def _curve(run: Run, made: dict[str, list[list[dict]]], reference: str) -> list[dict]:
    c = run.config
    most = c.intervention.after + c.intervention.attempts
    spent = {
        name: [_spent(run, group) for group in groups] for name, groups in made.items()
    }
    # Whoever stops before he has made all his attempts makes no more, whatever there is to spend.
    complete = {
        name: np.array(
            [
                len(group) < most or (c.intervention.verifier and _solved(group))
                for group in groups
            ]
        )
        for name, groups in made.items()
    }
    generator = np.random.default_rng(c.seed)
    return curve(
        spent,
        reference,
        complete,
        c.routing.bootstrap,
        generator,
        c.intervention.budget,
    )


def _spent(run: Run, group: list[dict]) -> Spent:
    costs = np.array([forward_tokens(row, run.ancestor_weight) for row in group], float)
    if run.config.intervention.verifier:
        return costs, lambda n: _solved(group[:n])
    return costs, lambda n: vote(group[:n], run.config.seed)


def _solved(group: list[dict]) -> bool:
    return any(row["grade"] == RIGHT for row in group)
