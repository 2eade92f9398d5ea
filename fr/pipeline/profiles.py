"""The problem-level table of a run: features of the failures, rescue rates, costs, and what any router must beat."""

import numpy as np
from etils import epath

from fr import store
from fr.config import Config
from fr.diagnosis.features import problem_features
from fr.diagnosis.junction import Trace
from fr.diagnosis.signals import SIGNALS, Failures, read_signals
from fr.pipeline.run import Run
from fr.routing.profiles import FEATURES, Profiles
from fr.tasks.answers import canonical_answer
from fr.tasks.countdown_replay import replay
from fr.tasks.formats import format_of
from fr.types import RIGHT, UNPARSED, Problem

_COLUMNS = ["problem", "operator", "grade", "fire_position", *(f"cost_{c}" for c in store.COSTS)]


def failures_by_problem(scores: epath.Path) -> dict[str, list[store.Attempt]]:
    """The scored failures of each problem, in the order of the problems."""
    failures: dict[str, list[store.Attempt]] = {}
    for attempt in store.read(scores):
        failures.setdefault(attempt.problem, []).append(attempt)
    return failures


def signals_of(
    failures: list[store.Attempt], problem: Problem, rollouts: int, config: Config
) -> dict[str, float]:
    """Every named number of a problem's scored failures, of `rollouts` in all; NaN where it says nothing.

    Those of kind outside are known on Countdown, if `diagnosis.outside` asks for them.
    """
    answers = (None if a.grade == UNPARSED else canonical_answer(a.task, a.text) for a in failures)
    searches = None
    if config.diagnosis.outside and problem.task == "countdown":
        board = problem.meta["numbers"], problem.meta["target"]
        searches = tuple(replay(attempt.text, *board) for attempt in failures)
    switches = format_of(problem.task).switches
    return read_signals(Failures(tuple(failures), tuple(answers), rollouts, switches, searches), config)


def build_profiles(run: Run) -> list[Profiles]:
    """One row a failed problem and one cell a part of the task; rates are NaN until operators have been tried."""
    failures = failures_by_problem(run.workdir / "scores")
    rows = {name: _by_problem(run.workdir / name) for name in ("rollouts", "scores", "attempts")}
    cells = []
    for part in run.parts:
        own = {problem.id: problem for problem in run.problems if problem.task == part}
        mine = {name: failed for name, failed in failures.items() if name in own}
        if mine:
            cells.append(_cell(run, part, own, mine, rows))
    return cells


def _cell(
    run: Run,
    part: str,
    questions: dict[str, Problem],
    failures: dict[str, list[store.Attempt]],
    rows: dict[str, dict[str, list[dict]]],
) -> Profiles:
    """The failed problems of one part; `rows` are what the store has of every problem, by folder."""
    problems = tuple(failures)
    traces = [[Trace(a.stats, ~a.forced) for a in failures[p]] for p in problems]
    features = [problem_features(failed, run.config.diagnosis) for failed in traces]
    operators = [operator.name for operator in run.operators(part)[0]]
    rollouts, scores, attempts = (rows[name] for name in ("rollouts", "scores", "attempts"))
    tried = {o: [[a for a in attempts.get(p, []) if a["operator"] == o] for p in problems] for o in operators}
    columns = _diagnosed([rollouts[p] for p in problems], [scores[p] for p in problems], run.ancestor_weight)
    signals = [signals_of(failures[p], questions[p], len(rollouts[p]), run.config) for p in problems]
    columns |= {name: [known[name] for known in signals] for name in SIGNALS}
    for name in operators:
        columns |= _operator_columns(name, tried[name], run.ancestor_weight)
    for name in features[0].keys() - set(FEATURES):
        columns[name] = [f[name] for f in features]
    return Profiles(
        cell=run.cell(part),
        problems=problems,
        n_failed=np.array([len(failures[p]) for p in problems]),
        features=np.array([[f[name] for name in FEATURES] for f in features]),
        operators=tuple(operators),
        rates=np.array([[_share_right(group) for group in tried[o]] for o in operators]).T,
        attempts=np.array([[len(group) for group in tried[o]] for o in operators]).T,
        extras=_texts(columns),
        excluded=len(rollouts.keys() & questions.keys()) - len(problems),
    )


def _texts(columns: dict[str, list[float]]) -> dict[str, tuple[str, ...]]:
    """Columns as they are written: empty where a number is not known, left out where none is."""
    known = {name: column for name, column in sorted(columns.items()) if not np.isnan(column).all()}
    return {
        name: tuple("" if np.isnan(value) else f"{value:.6g}" for value in column)
        for name, column in known.items()
    }


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
    columns = {f"{name}_cost": [float(np.mean([positions(row, weight) for row in group])) for group in tried]}
    if any(row["fire_position"] >= 0 for group in tried for row in group):
        columns[f"{name}_fired"] = [
            float(np.mean([row["fire_position"] >= 0 for row in group])) for group in tried
        ]
    return columns


def _diagnosed(rollouts: list[list[dict]], failed: list[list[dict]], weight: float) -> dict[str, list[float]]:
    """Rollouts of each problem, and the positions that they and their scoring took."""
    cost = lambda *groups: sum(positions(row, weight) for group in groups for row in group)
    return {
        "rollouts": [len(group) for group in rollouts],
        "diagnosis_cost": [cost(*groups) for groups in zip(rollouts, failed)],
    }


def positions(row: dict, ancestor_weight: float) -> float:
    """Forward positions of an attempt in units of the specialist's."""
    own = sum(row[f"cost_{name}"] for name in store.COSTS if name != "ancestor")
    return own + ancestor_weight * row["cost_ancestor"]
