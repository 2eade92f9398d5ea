"""The problem-level table of a run: features of the failures, rescue rates, costs, and what any router must beat."""

import numpy as np
from etils import epath

from fr import store
from fr.diagnosis.features import problem_features
from fr.diagnosis.junction import Trace
from fr.interventions import select
from fr.pipeline.run import Run
from fr.pipeline.sample import is_failure
from fr.routing.profiles import FEATURES, Profiles
from fr.types import RIGHT

_COLUMNS = ["problem", "operator", "grade", "truncated", "fire_position", *(f"cost_{c}" for c in store.COSTS)]


def traces_by_problem(scores: epath.Path) -> dict[str, list[Trace]]:
    """The scored failures of each problem, in the order of the problems."""
    traces: dict[str, list[Trace]] = {}
    for attempt in store.read(scores):
        traces.setdefault(attempt.problem, []).append(Trace(attempt.stats, ~attempt.forced))
    return traces


def build_profiles(run: Run) -> Profiles:
    """One row a failed problem; rates are NaN until operators have been tried."""
    traces = traces_by_problem(run.workdir / "scores")
    problems = tuple(traces)
    features = [problem_features(traces[p], run.config.diagnosis) for p in problems]
    operators = [o.name for o in select(run.config.intervention.operators, run.ancestor is not None)[0]]
    rollouts, scores, attempts = (
        _by_problem(run.workdir / name) for name in ("rollouts", "scores", "attempts")
    )
    tried = {o: [[a for a in attempts.get(p, []) if a["operator"] == o] for p in problems] for o in operators}
    columns = _nuisances([rollouts[p] for p in problems], [scores[p] for p in problems], run.ancestor_weight)
    for name in operators:
        columns |= _operator_columns(name, tried[name], run.ancestor_weight)
    for name in features[0].keys() - set(FEATURES) if features else ():
        columns[name] = [f[name] for f in features]
    return Profiles(
        cell=f"{run.names[0]}|{run.config.task.name}",
        problems=problems,
        n_failed=np.array([len(traces[p]) for p in problems]),
        features=np.array([[f[name] for name in FEATURES] for f in features]),
        operators=tuple(operators),
        rates=np.array([[_share_right(group) for group in tried[o]] for o in operators]).T,
        attempts=np.array([[len(group) for group in tried[o]] for o in operators]).T,
        extras={name: tuple(f"{value:.6g}" for value in column) for name, column in sorted(columns.items())},
        excluded=len(rollouts) - len(problems),
    )


def _by_problem(folder: epath.Path) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in store.read_table(folder, _COLUMNS).to_pylist():
        groups.setdefault(row["problem"], []).append(row)
    return groups


def _share_right(group: list[dict]) -> float:
    return float(np.mean([row["grade"] == RIGHT for row in group])) if group else np.nan


def _operator_columns(name: str, tried: list[list[dict]], weight: float) -> dict[str, list[float]]:
    """Mean cost of an attempt and, for operators with a detector, the share of attempts that fired, per problem."""
    if not all(tried):
        return {}
    columns = {
        f"{name}_cost": [float(np.mean([_positions(row, weight) for row in group])) for group in tried]
    }
    if any(row["fire_position"] >= 0 for group in tried for row in group):
        columns[f"{name}_fired"] = [
            float(np.mean([row["fire_position"] >= 0 for row in group])) for group in tried
        ]
    return columns


def _nuisances(rollouts: list[list[dict]], failed: list[list[dict]], weight: float) -> dict[str, list[float]]:
    """What every router must be compared with, and what the diagnosis of a problem cost."""
    wrong = [[row for row in group if is_failure(row["grade"])] for group in rollouts]
    length = lambda row: row["cost_generated"] + row["cost_forced"]
    return {
        "rollouts": [len(group) for group in rollouts],
        "failed_share": [len(bad) / len(group) for bad, group in zip(wrong, rollouts)],
        "mean_length": [float(np.mean([length(row) for row in bad])) for bad in wrong],
        "truncated_share": [float(np.mean([row["truncated"] for row in bad])) for bad in wrong],
        "diagnosis_cost": [
            sum(_positions(row, weight) for row in (*group, *scored))
            for group, scored in zip(rollouts, failed)
        ],
    }


def _positions(row: dict, ancestor_weight: float) -> float:
    """Forward positions of an attempt in units of the specialist's."""
    own = sum(row[f"cost_{name}"] for name in store.COSTS if name != "ancestor")
    return own + ancestor_weight * row["cost_ancestor"]
