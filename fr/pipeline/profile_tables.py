"""Profiles of failed problems: a problem's failed rollouts become its profile here.

`profile_problem` is the step from the scored failures of one problem to numbers; the
online router calls it too. `write_tables` collects the profiles of a run, with rescue
rates and costs from `attempts/`, into `profiles.csv` (all failures) and
`profiles-K.csv` (the first K failures). `fr.diagnosis` computes the numbers.
N failed problems.
"""

import math
from collections.abc import Sequence

import numpy as np
from etils import epath

from fr import distributed, store
from fr.config import Config
from fr.diagnosis.features import problem_features, question_features
from fr.diagnosis.junction import Trace
from fr.diagnosis.signals import Failures, read_signals
from fr.interventions import OPERATORS
from fr.pipeline.state_means import read_states
from fr.profiles import FEATURES, MODEL, WEIGHT, Profiles, write_profiles
from fr.runs.attempt_costs import (
    diagnosis_columns,
    operator_columns,
    recorded_attempts,
)
from fr.runs.run import Run
from fr.tasks.canonical import canonical_answers
from fr.tasks.countdown_solver import replay
from fr.tasks.formats import format_of
from fr.types import RIGHT, UNPARSED, Problem, is_failure

_COLUMNS = [
    "problem",
    "operator",
    "attempt",
    "key",
    "grade",
    "fire_position",
    *(f"cost_{c}" for c in store.COSTS),
]
# By folder of the run and problem, the rows of _COLUMNS.
_Rows = dict[str, dict[str, list[dict]]]


# ------------------------------------------------------- from failures to a profile
def profile_problem(
    failures: Sequence[store.Attempt],
    problem: Problem,
    rollouts: int,
    config: Config,
    probed: Sequence[float] | None = None,
) -> dict[str, float]:
    """Turn a problem's scored failed rollouts into its profile.

    Args:
        failures: The failed rollouts with their token statistics, at least one.
        problem: The problem that they failed at.
        rollouts: Rollouts that were drawn at the problem, failed or not.
        config: `diagnosis` (features; `outside` asks for the checker's columns),
            `rewards` and `evaluation` (settings of signals).
        probed: Probability of each failure being right, by a probe of its states.

    Returns:
        The features (`fr.diagnosis.features.problem_features`) and every registered
        signal (`fr.diagnosis.signals`) by name; NaN where a number is not defined.
    """
    traces = [Trace(a.stats, ~a.forced) for a in failures]
    texts = [None if a.grade == UNPARSED else a.read or a.text for a in failures]
    answers = canonical_answers(problem.task, texts)
    searches = None
    if config.diagnosis.outside and problem.task == "countdown":
        board = problem.meta["numbers"], problem.meta["target"]
        searches = tuple(replay(attempt.text, *board) for attempt in failures)
    seen = Failures(
        attempts=tuple(failures),
        answers=tuple(answers),
        rollouts=rollouts,
        switches=format_of(problem.task).switches,
        searches=searches,
        probed=None if probed is None else tuple(probed),
    )
    return problem_features(traces, config.diagnosis) | read_signals(seen, config)


def failures_by_problem(scores: epath.Path) -> dict[str, list[store.Attempt]]:
    """Read the scored failures of a run.

    Args:
        scores: Folder `scores` of the run.

    Returns:
        Failures by id of their problem, in the order of the problems.
    """
    failures: dict[str, list[store.Attempt]] = {}
    for attempt in store.read(scores):
        failures.setdefault(attempt.problem, []).append(attempt)
    return failures


# -------------------------------------------------------------- from a run to tables
def write_tables(run: Run) -> list[Profiles]:
    """Write `profiles.csv`, and `profiles-K.csv` for each K of `diagnosis.failures`.

    A table of the first K failures is left out where no problem failed K times. Only
    process 0 writes.

    Args:
        run: The run, with `scores/` and, once operators were tried, `attempts/`.

    Returns:
        The cells of `profiles.csv`.
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
        tables[table_name(first)] = _cells(run, *_first(first, failures, rows), first)
    for name, cells in tables.items():
        if cells and distributed.is_first():
            write_profiles(run.workdir / name, cells)
    return whole


def table_name(first: int) -> str:
    """Name the table of profiles that know the first failures of each problem alone.

    Args:
        first: Number of failures, K.

    Returns:
        `profiles-K.csv`.
    """
    return f"profiles-{first}.csv"


def _first(
    first: int, failures: dict[str, list[store.Attempt]], rows: _Rows
) -> tuple[dict[str, list[store.Attempt]], _Rows]:
    """The first failures alone; problems that failed less often are left out."""
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
    rows: _Rows,
    first: int | None = None,
) -> list[Profiles]:
    """One cell per part of the task, one row per failed problem.

    Rescue rates are NaN until operators have been tried.
    """
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
    rows: _Rows,
    first: int | None,
) -> Profiles:
    """Profiles of the failed problems of one part of the task."""
    problems = tuple(failures)
    rollouts, scores, attempts = (
        rows[name] for name in ("rollouts", "scores", "attempts")
    )
    states = read_states(run.workdir) if run.config.diagnosis.states else {}
    probe = dict(zip(states.get("row", ()), states.get("probe", ())))
    profiles = [
        profile_problem(
            failures[p],
            questions[p],
            len(rollouts[p]),
            run.config,
            [float(probe[a.row]) for a in failures[p]] if probe else None,
        )
        for p in problems
    ]
    operators = [operator.name for operator in run.operators(part)[0]]
    tried = {
        o: [[a for a in attempts.get(p, []) if a["operator"] == o] for p in problems]
        for o in operators
    }
    columns = diagnosis_columns(
        [rollouts[p] for p in problems],
        [scores[p] for p in problems],
        run.ancestor_weight,
        first,
    )
    columns |= question_columns([run.task.prompt(questions[p]) for p in problems])
    if first:
        columns[WEIGHT] = [
            deployment_weight(rows["all rollouts"][p], first) for p in problems
        ]
    for name in profiles[0].keys() - set(FEATURES):
        columns[name] = [known[name] for known in profiles]
    for name in operators:
        columns |= operator_columns(name, tried[name], run.ancestor_weight)
    return Profiles(
        cell=run.cell(part),
        problems=problems,
        n_failed=np.array([len(failures[p]) for p in problems]),
        features=np.array([[known[name] for name in FEATURES] for known in profiles]),
        operators=tuple(operators),
        rates=np.array(
            [[_share_right(group) for group in tried[o]] for o in operators]
        ).T,
        attempts=np.array([[len(group) for group in tried[o]] for o in operators]).T,
        extras=texts(columns) | {MODEL: (run.names[0],) * len(problems)},
        excluded=len(rollouts.keys() & questions.keys()) - len(problems),
        deterministic=tuple(o for o in operators if OPERATORS[o].deterministic),
        recorded=recorded_attempts([tried[o] for o in operators], run.ancestor_weight),
    )


# ------------------------------------------------------------- columns of the tables
def deployment_weight(rollouts: Sequence[dict], first: int) -> float:
    """Chance that the first K of a problem's rollouts fail, in any order of them.

    prod_{j<K} (f - j) / (G - j) for f failures among G rollouts.

    Args:
        rollouts: Rows of all rollouts at the problem, with `grade`.
        first: K.

    Returns:
        The probability, in [0, 1].
    """
    failed = sum(is_failure(row["grade"]) for row in rollouts)
    return math.prod((failed - j) / (len(rollouts) - j) for j in range(first))


def question_columns(prompts: Sequence[str | list[dict]]) -> dict[str, list[float]]:
    """Numbers of the words of each question, for a baseline that reads no failure.

    Args:
        prompts: Texts or chat messages, [N].

    Returns:
        Columns by `fr.diagnosis.features.QUESTION_COLUMNS`, [N] each.
    """
    read = [question_features(prompt) for prompt in prompts]
    return {name: [found[name] for found in read] for name in (read[0] if read else ())}


def texts(columns: dict[str, list[float]]) -> dict[str, tuple[str, ...]]:
    """Columns as written: an unknown number is empty, a column of them absent.

    Args:
        columns: Numbers by name, [N] each.

    Returns:
        Texts by name, in the order of the names.
    """
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


def _share_right(group: Sequence[dict]) -> float:
    return float(np.mean([row["grade"] == RIGHT for row in group])) if group else np.nan
