"""Completion of tables of an earlier run from its stored attempts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr import store, tasks
from fr.config import freeze
from fr.errors import UserError
from fr.interventions import OPERATORS
from fr.pipeline.profile_tables import deployment_weight, question_columns
from fr.profiles import WEIGHT, Profiles, read_profiles, write_profiles
from fr.runs.attempt_costs import recorded_attempts
from fr.workdir import PathLike, read_object


def retrofit(workdir: PathLike, into: PathLike) -> list[str]:
    """Complete every `profiles*.csv` of a run's folder and write it to another folder.

    Added are the attempts one by one, weights, and the words of the questions. Attempts
    and rollouts are read from the run's store, of any version, and questions from its
    task. The run's own files are left alone.

    Args:
        workdir: folder of the run.
        into: folder of the completed tables.

    Returns:
        Names of the tables.

    Raises:
        UserError: if the folder holds no run.
    """
    workdir, into = epath.Path(workdir), epath.Path(into)
    if not (workdir / "config.json").exists():
        raise UserError(f"{workdir}: holds no run (config.json is missing)")
    task_config = freeze(read_object(workdir / "config.json")).task
    task = tasks.make(task_config)
    asked = task.problems(task_config.split, task_config.problems)
    prompts = {problem.id: task.prompt(problem) for problem in asked}
    rollouts, attempts = (
        _by_problem(workdir / name) for name in ("rollouts", "attempts")
    )
    names = sorted(path.name for path in workdir.glob("profiles*.csv"))
    into.mkdir(parents=True, exist_ok=True)
    for name in names:
        first = (
            int(name.removeprefix("profiles-").removesuffix(".csv"))
            if "-" in name
            else 0
        )
        cells = read_profiles(workdir / name)
        write_profiles(
            into / name,
            [_completed(p, first, rollouts, attempts, prompts) for p in cells],
        )
    return names


def _by_problem(folder: epath.Path) -> dict[str, list[dict]]:
    """Attempts of each problem in the order of the shards, columns of all versions."""
    columns = [
        "problem",
        "attempt",
        "key",
        "operator",
        "grade",
        *(f"cost_{name}" for name in store.COSTS),
    ]
    groups: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("shard-*.parquet")):
        try:
            with path.open("rb") as source:
                rows = pq.ParquetFile(source).read(columns=columns).to_pylist()
        except (pa.ArrowException, KeyError) as error:
            raise UserError(f"{path}: cannot be read as attempts ({error})") from error
        for row in rows:
            groups.setdefault(row["problem"], []).append(row)
    return groups


def _completed(
    profiles: Profiles, first: int, rollouts: dict, attempts: dict, prompts: dict
) -> Profiles:
    problems = profiles.problems
    tried = [
        [[row for row in attempts[p] if row["operator"] == name] for p in problems]
        for name in profiles.operators
    ]
    columns = question_columns([prompts[p] for p in problems])
    if first:
        columns[WEIGHT] = [deployment_weight(rollouts[p], first) for p in problems]
    generated = [sum(row["cost_generated"] for row in rollouts[p]) for p in problems]
    columns["failures_generated"] = [
        0.0 if first else float(total) for total in generated
    ]
    texts = {
        name: tuple(f"{value:.6g}" for value in column)
        for name, column in columns.items()
    }
    return dataclasses.replace(
        profiles,
        extras=profiles.extras | texts,
        deterministic=tuple(
            o for o in profiles.operators if OPERATORS[o].deterministic
        ),
        recorded=recorded_attempts(tried, _ancestor_weight(profiles, tried)),
    )


def _ancestor_weight(profiles: Profiles, tried: list[list[list[dict]]]) -> float:
    """The price of an ancestor's forward token that gives the table's own mean costs.

    To four decimals, since a table has six digits of a mean.
    """
    own = lambda row: sum(
        row[f"cost_{name}"] for name in store.COSTS if name != "ancestor"
    )
    gap, read = 0.0, 0.0
    for name, groups in zip(profiles.operators, tried):
        for mean, group in zip(profiles.numbers(f"{name}_cost"), groups):
            gap += mean - np.mean([own(row) for row in group])
            read += np.mean([row["cost_ancestor"] for row in group])
    return round(float(gap / read), 4) if read else 0.0
