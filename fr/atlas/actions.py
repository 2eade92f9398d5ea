"""The planner's table: a failed trace per row, an operator from a place per column.

It is a table of profiles like any other (`atlas_profiles.csv`), so that rules, learned
routers, baselines, orders and certificates choose among (operator, place) as they
choose among operators. A row has the signals of its own trace alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fr.atlas.branch_arrays import Branches, rates
from fr.atlas.branches import FailedTrace
from fr.interventions.operator_registry import AT
from fr.pipeline.profile_tables import profile_problem, question_columns, texts
from fr.profiles import AXES, FEATURES, FORWARD, MODEL, QUESTION, Profiles, Recorded
from fr.runs.attempt_costs import diagnosis_columns
from fr.runs.run import Run

NAME = "atlas_profiles.csv"


def action_name(operator: str, share: float) -> str:
    """Name of an operator from a place.

    Args:
        operator: Its name.
        share: Share of the reasoning that is kept.

    Returns:
        `OPERATOR@SHARE`, or the operator's name for a fresh attempt.
    """
    return f"{operator}{AT}{share:.3g}" if share else operator


def action_cells(
    run: Run,
    branches: Branches,
    index: Int[np.ndarray, "N P"],
    traces: Sequence[FailedTrace],
    rows: Mapping[str, Mapping[str, dict]],
) -> list[Profiles]:
    """Build the table, one cell per part of the task.

    Args:
        run: The run.
        branches: The branches.
        index: Index of the cut at each place.
        traces: The failed traces.
        rows: By folder (`rollouts`, `scores`) and trace: its row of the store.

    Returns:
        The cells.
    """
    cells = []
    for part in run.parts:
        own = [i for i, t in enumerate(traces) if t.problem.task == part]
        if own:
            cells.append(_cell(run, part, own, branches, index, traces, rows))
    return cells


def _cell(run, part, own, branches, index, traces, rows) -> Profiles:
    places = index.shape[1] - 1
    wanted = [round(share * places) for share in (0.0, *run.config.atlas.restarts)]
    able = ~np.isnan(branches.right[own][:, 0]).all(axis=(0, 2))
    pairs = [(o, p) for p in dict.fromkeys(wanted) for o in np.flatnonzero(able)]
    names = [action_name(branches.operators[o], p / places) for o, p in pairs]
    trace = np.array(own)[:, None]
    place = index[own][:, [p for _, p in pairs]]
    operator = np.array([o for o, _ in pairs])[None]
    right, cost = (
        values[trace, place, operator] for values in (branches.right, branches.cost)
    )
    made = ~np.isnan(right)
    profiles = [
        profile_problem([traces[i].attempt], traces[i].problem, 1, run.config)
        for i in own
    ]
    mine = [traces[i].row for i in own]
    columns = diagnosis_columns(
        [[rows["rollouts"][row]] for row in mine],
        [[rows["scores"][row]] for row in mine],
        run.ancestor_weight,
        1,
    )
    columns |= question_columns([traces[i].context.prompt for i in own])
    for name in profiles[0].keys() - set(FEATURES):
        columns[name] = [known[name] for known in profiles]
    for a, name in enumerate(names):
        columns[f"{name}_cost"] = rates(cost[:, a]).tolist()
    costs = dict.fromkeys(AXES, np.full(cost.shape, np.nan)) | {FORWARD: cost}
    paired = run.config.intervention.keys == "shared"
    recorded = Recorded(made, np.nan_to_num(right) > 0, costs, paired)
    return Profiles(
        cell=run.cell(part),
        problems=tuple(mine),
        n_failed=np.ones(len(own), int),
        features=np.array([[known[name] for name in FEATURES] for known in profiles]),
        operators=tuple(names),
        rates=rates(right),
        attempts=made.sum(axis=2),
        extras=texts(columns)
        | {
            MODEL: (run.names[0],) * len(own),
            QUESTION: tuple(traces[i].problem.id for i in own),
        },
        deterministic=tuple(
            name for a, name in enumerate(names) if made[:, a].sum(axis=1).max() == 1
        ),
        recorded=recorded if made.any(axis=2).all() else None,
    )
