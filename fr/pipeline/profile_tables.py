"""The problem-level tables of a run: features of the failures, rescue rates, costs, and what any router must beat."""

import math

import numpy as np
from etils import epath

from fr import distributed, store
from fr.config import Config
from fr.diagnosis.features import problem_features, question_features
from fr.diagnosis.junction import Trace
from fr.diagnosis.signals import SIGNALS, Failures, read_signals
from fr.interventions import OPERATORS
from fr.routing.pool import MODEL
from fr.routing.profiles import FEATURES, WEIGHT, Profiles, write_profiles
from fr.routing.recorded import FORWARD, Recorded, record
from fr.runs.run import Run
from fr.tasks.canonical import canonical_answers
from fr.tasks.countdown_solver import replay
from fr.tasks.formats import format_of
from fr.types import RIGHT, UNPARSED, Problem, is_failure

_COLUMNS = [
    "problem",
    "operator",
    "grade",
    "fire_position",
    *(f"cost_{c}" for c in store.COSTS),
]


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
    texts = [None if a.grade == UNPARSED else a.read or a.text for a in failures]
    answers = canonical_answers(problem.task, texts)
    searches = None
    if config.diagnosis.outside and problem.task == "countdown":
        board = problem.meta["numbers"], problem.meta["target"]
        searches = tuple(replay(attempt.text, *board) for attempt in failures)
    switches = format_of(problem.task).switches
    return read_signals(
        Failures(tuple(failures), tuple(answers), rollouts, switches, searches), config
    )


def write_tables(run: Run) -> list[Profiles]:
    """Write `profiles.csv`, whose cells are returned, and `profiles-K.csv` for each K of `diagnosis.failures`.

    The table of the first K failures is left out where no problem failed as often. Process 0 writes.
    """
    failures = failures_by_problem(run.workdir / "scores")
    rows = {
        name: _by_problem(run.workdir / name)
        for name in ("rollouts", "scores", "attempts")
    }
    rows["all rollouts"] = rows["rollouts"]
    whole = _cells(run, failures, rows)
    tables = {"profiles.csv": whole}
    for first in run.config.diagnosis.failures:
        tables[table_of(first)] = _cells(run, *_first(first, failures, rows), first)
    for name, cells in tables.items():
        if cells and distributed.is_first():
            write_profiles(run.workdir / name, cells)
    return whole


def table_of(first: int) -> str:
    """Name of the table of what the first so many failures of a problem say."""
    return f"profiles-{first}.csv"


def _first(
    first: int,
    failures: dict[str, list[store.Attempt]],
    rows: dict[str, dict[str, list[dict]]],
) -> tuple[dict[str, list[store.Attempt]], dict[str, dict[str, list[dict]]]]:
    """As if no more than the first failures of a problem had been drawn; problems that failed less often are out."""
    often = {
        name: failed[:first]
        for name, failed in failures.items()
        if len(failed) >= first
    }
    kept = lambda group: [row for row in group if is_failure(row["grade"])][:first]
    cut = {
        name: {p: kept(group) for p, group in rows[name].items()}
        for name in ("rollouts", "scores")
    }
    return often, rows | cut


def _cells(
    run: Run,
    failures: dict[str, list[store.Attempt]],
    rows: dict[str, dict[str, list[dict]]],
    first: int | None = None,
) -> list[Profiles]:
    """One row a failed problem and one cell a part of the task; rates are NaN until operators have been tried."""
    cells = []
    for part in run.parts:
        own = {problem.id: problem for problem in run.problems if problem.task == part}
        mine = {name: failed for name, failed in failures.items() if name in own}
        if mine:
            cells.append(_cell(run, part, own, mine, rows, first))
    return cells


def _cell(
    run: Run,
    part: str,
    questions: dict[str, Problem],
    failures: dict[str, list[store.Attempt]],
    rows: dict[str, dict[str, list[dict]]],
    first: int | None,
) -> Profiles:
    """The failed problems of one part; `rows` are what the store has of every problem, by folder."""
    problems = tuple(failures)
    whole = [rows["all rollouts"][p] for p in problems]
    traces = [[Trace(a.stats, ~a.forced) for a in failures[p]] for p in problems]
    features = [problem_features(failed, run.config.diagnosis) for failed in traces]
    operators = [operator.name for operator in run.operators(part)[0]]
    rollouts, scores, attempts = (
        rows[name] for name in ("rollouts", "scores", "attempts")
    )
    tried = {
        o: [[a for a in attempts.get(p, []) if a["operator"] == o] for p in problems]
        for o in operators
    }
    columns = _diagnosed(
        [rollouts[p] for p in problems], [scores[p] for p in problems], run, first
    )
    columns |= asked_columns([run.task.prompt(questions[p]) for p in problems])
    if first:
        columns[WEIGHT] = [deployment_weight(group, first) for group in whole]
    signals = [
        signals_of(failures[p], questions[p], len(rollouts[p]), run.config)
        for p in problems
    ]
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
        rates=np.array(
            [[_share_right(group) for group in tried[o]] for o in operators]
        ).T,
        attempts=np.array([[len(group) for group in tried[o]] for o in operators]).T,
        extras=_texts(columns) | {MODEL: (run.names[0],) * len(problems)},
        excluded=len(rollouts.keys() & questions.keys()) - len(problems),
        deterministic=tuple(o for o in operators if OPERATORS[o].deterministic),
        recorded=recorded_attempts([tried[o] for o in operators], run.ancestor_weight),
    )


def deployment_weight(rollouts: list[dict], first: int) -> float:
    """Chance that the first K of a problem's rollouts fail, were they drawn again.

    prod_{j<K} (f − j) / (G − j) of f failures among G rollouts, without replacement.
    """
    failed = sum(is_failure(row["grade"]) for row in rollouts)
    return math.prod((failed - j) / (len(rollouts) - j) for j in range(first))


def asked_columns(prompts: list) -> dict[str, list[float]]:
    """What the words of every question say, by column."""
    read = [question_features(prompt) for prompt in prompts]
    return {name: [found[name] for found in read] for name in (read[0] if read else ())}


def recorded_attempts(tried: list[list[list[dict]]], weight: float) -> Recorded | None:
    """The attempts of every operator at every problem with what each cost; None without any."""
    if not all(group for own in tried for group in own):
        return None
    costs = lambda row: {
        FORWARD: positions(row, weight),
        "generated": float(row["cost_generated"]),
    }
    each = lambda group: [(row["grade"] == RIGHT, costs(row)) for row in group]
    return record([[each(group) for group in problem] for problem in zip(*tried)])


def _texts(columns: dict[str, list[float]]) -> dict[str, tuple[str, ...]]:
    """Columns as they are written: empty where a number is not known, left out where none is."""
    known = {
        name: column
        for name, column in sorted(columns.items())
        if not np.isnan(column).all()
    }
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


def _operator_columns(
    name: str, tried: list[list[dict]], weight: float
) -> dict[str, list[float]]:
    """Mean cost of an attempt and, for operators with a detector, the share of attempts that fired, per problem."""
    if not all(tried):
        return {}
    columns = {
        f"{name}_cost": [
            float(np.mean([positions(row, weight) for row in group])) for group in tried
        ]
    }
    if any(row["fire_position"] >= 0 for group in tried for row in group):
        columns[f"{name}_fired"] = [
            float(np.mean([row["fire_position"] >= 0 for row in group]))
            for group in tried
        ]
    return columns


def _diagnosed(
    rollouts: list[list[dict]], failed: list[list[dict]], run: Run, first: int | None
) -> dict[str, list[float]]:
    """Rollouts of each problem, the positions that they took, and those with their probes and scores besides.

    The first failures are charged to nobody: whoever came to route, or to try again, has made them.
    """
    weight = run.ancestor_weight
    probes = [sum(row["cost_probe"] for row in group) for group in rollouts]
    made = [
        sum(positions(row, weight) for row in group) - probe
        for group, probe in zip(rollouts, probes)
    ]
    made = [0.0] * len(made) if first else made
    scored = [sum(positions(row, weight) for row in group) for group in failed]
    return {
        "rollouts": [len(group) for group in rollouts],
        "failures_generated": [
            0.0 if first else float(sum(row["cost_generated"] for row in group))
            for group in rollouts
        ],
        "failures_cost": made,
        "diagnosis_cost": [sum(parts) for parts in zip(made, probes, scored)],
    }


def positions(row: dict, ancestor_weight: float) -> float:
    """Forward positions of an attempt in units of the specialist's."""
    own = sum(row[f"cost_{name}"] for name in store.COSTS if name != "ancestor")
    return own + ancestor_weight * row["cost_ancestor"]
