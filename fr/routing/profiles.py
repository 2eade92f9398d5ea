"""Problem-level tables: what each failed problem looked like and how often each operator rescued it.

The columns are those of the released failure profiles (arXiv 2606.05145), so that released and own tables
meet the same router, plus `<operator>_n`, the attempts behind a rate. Whatever else a file holds is carried
along. The attempts themselves, with what each cost, lie beside it (`fr.routing.recorded`).
"""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.files import read_regular
from fr.registry import suggest
from fr.routing.recorded import (
    Recorded,
    path_of,
    read_recorded,
    recorded_of,
    write_recorded,
)
from fr.workdir import PathLike, write_whole

FEATURES = ("spread", "concentration", "logit_dispersion")
OPERATORS = (
    "retry",
    "sparse_steer",
    "sparse_steer_random",
    "local_temp",
    "dense_steer",
)
_LARGEST = 1 << 30  # bytes of a table
EXCLUDED = "excluded_problems"  # of the cell, the same number on every line
# Operators whose attempts at a problem are all the same one, joined by +; the same on every line.
DETERMINISTIC = "deterministic_operators"
# Released files say it nowhere: what their column of that name is, as published (arXiv 2606.05145).
_RELEASED_DETERMINISTIC = ("dense_steer",)
WEIGHT = "deployment_weight"  # how often a deployed router meets the problem, of 1; absent: always
REQUIRED = ("cell", "problem_id", "n_failed_rollouts", *FEATURES, *OPERATORS)
_PRINTED = 1e-6  # a rate printed with six decimals is this near to successes / attempts


@dataclasses.dataclass(frozen=True)
class Profiles:
    """The failed problems of one cell (a model on a task), in file order.

    `rates` are shares of attempts, in [0, 1]; `attempts` is None where the file does not say. A feature or an
    operator that the cell lacks (no ancestor) is a column of NaN. `excluded` problems had no failed rollout
    (or not as many as the table is of) and are left out.
    """

    cell: str
    problems: tuple[str, ...]
    n_failed: Int[np.ndarray, "N"]
    features: Float[np.ndarray, "N F"]  # FEATURES
    operators: tuple[str, ...]
    rates: Float[np.ndarray, "N O"]
    attempts: Int[np.ndarray, "N O"] | None = None
    extras: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )  # other columns, as text
    excluded: int = 0
    deterministic: tuple[
        str, ...
    ] = ()  # those of `operators` whose attempts are all the same
    recorded: Recorded | None = (
        None  # attempts one by one; None: only their rates and mean prices are known
    )

    def __len__(self) -> int:
        return len(self.problems)

    def numbers(self, name: str, gaps: bool = False) -> Float[np.ndarray, "N"] | None:
        """An extra column as numbers; None where the cell lacks it or leaves it empty; raises UserError.

        With `gaps` single problems may lack it, and have NaN.
        """
        if not any(self.extras.get(name, ())):
            return None
        where = f"cell {self.cell}, column {name!r}"
        return np.array(
            [
                np.nan if gaps and not text else _number(text, where)
                for text in self.extras[name]
            ]
        )


def read_profiles(path: PathLike) -> list[Profiles]:
    """The cells of one CSV file, in order of appearance; raises UserError that names file and column."""
    path = epath.Path(path)
    try:
        # Bytes, because reading text would turn a carriage return within a field into a line feed.
        text = read_regular(path, _LARGEST).decode("utf-8-sig")
    except UserError as error:
        raise UserError(f"{error}: cannot be read as a profile table") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot be read as a profile table ({_reason(error)})"
        ) from error
    # strict: an open quote is an error, not a field that swallows the rest of the file.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [{**row, "_where": f"{path}, line {reader.line_num}"} for row in reader]
        header = list(reader.fieldnames or ())
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: is not CSV ({error})"
        ) from error
    _check_header(path, header)
    if not rows:
        raise UserError(
            f"{path}: has no rows; a profile table holds one failed problem a line"
        )
    cells: dict[str, list[dict]] = {}
    for row in rows:
        if None in row or None in row.values():
            raise UserError(
                f"{row['_where']}: has not the {len(header)} fields of the header"
            )
        cells.setdefault(row["cell"], []).append(row)
    lines = read_recorded(path)
    found = [_cell(path, name, rows, header) for name, rows in cells.items()]
    return [
        _with_attempts(p, lines[p.cell], str(path_of(path))) if p.cell in lines else p
        for p in found
    ]


def _with_attempts(profiles: Profiles, lines, where: str) -> Profiles:
    named = profiles.problems, profiles.operators, profiles.rates, profiles.attempts
    return dataclasses.replace(profiles, recorded=recorded_of(lines, *named, where))


def weights_of(profiles: Profiles) -> Float[np.ndarray, "N"]:
    """How often a deployed router meets each problem, in (0, 1]; 1 where the table does not say.

    A router that sees the first K failures meets a problem that failed in f of G rollouts
    with the chance that its first K fail: prod_{j<K} (f − j) / (G − j).
    """
    weights = profiles.numbers(WEIGHT)
    if weights is None:
        return np.ones(len(profiles))
    if not ((weights > 0) & (weights <= 1)).all():
        raise UserError(
            f"cell {profiles.cell}: {WEIGHT} must be a share of the times, above 0 and up to 1"
        )
    return weights


def read_cells(
    paths: Sequence[PathLike], without: Sequence[str] = ()
) -> list[Profiles]:
    """The cells of several files, less the operators `without`: those, say, that use truth from outside.

    Raises UserError if two files hold the same cell, and for operators that no cell has or must keep.
    """
    found: dict[str, PathLike] = {}
    cells = []
    for path in paths:
        for profiles in read_profiles(path):
            if profiles.cell in found:
                raise UserError(
                    f"{path}: cell {profiles.cell!r} is in {found[profiles.cell]} already"
                )
            found[profiles.cell] = path
            cells.append(profiles)
    for name in without:
        if name == "retry" or not any(name in profiles.operators for profiles in cells):
            there = dict.fromkeys(
                o for profiles in cells for o in profiles.operators if o != "retry"
            )
            raise UserError(
                f"operator {name!r} cannot be left out{suggest(name, there)}"
            )
    cells = [_less(profiles, without) for profiles in cells]
    if alone := [profiles.cell for profiles in cells if len(profiles.operators) < 2]:
        raise UserError(
            f"cell {alone[0]!r}: with {', '.join(without)} left out only 'retry' is there"
        )
    return cells


def _less(profiles: Profiles, without: Sequence[str]) -> Profiles:
    kept = [i for i, name in enumerate(profiles.operators) if name not in without]
    return dataclasses.replace(
        profiles,
        operators=tuple(profiles.operators[i] for i in kept),
        rates=profiles.rates[:, kept],
        attempts=None if profiles.attempts is None else profiles.attempts[:, kept],
        deterministic=tuple(
            name for name in profiles.deterministic if name not in without
        ),
        recorded=profiles.recorded and profiles.recorded.kept(kept),
    )


def write_profiles(path: PathLike, cells: Iterable[Profiles]) -> None:
    """Write cells as one CSV file, whole or not at all; numbers read back exactly.

    Their attempts, where they are known, are written beside it, first.
    """
    cells = list(cells)
    write_recorded(epath.Path(path), cells)
    operators = list(
        dict.fromkeys([*OPERATORS, *(name for c in cells for name in c.operators)])
    )
    counted = [
        f"{name}_n" for name in operators if any(c.attempts is not None for c in cells)
    ]
    extras = list(dict.fromkeys(name for c in cells for name in c.extras))
    left_out = [EXCLUDED] if any(c.excluded for c in cells) else []
    left_out += [DETERMINISTIC] if any(c.deterministic for c in cells) else []
    fixed = [
        "cell",
        "problem_id",
        "n_failed_rollouts",
        *FEATURES,
        *operators,
        *counted,
        *left_out,
    ]
    names = fixed + extras
    lines = [
        names,
        *(
            [row.get(name, "") for name in names]
            for cell in cells
            for row in _rows(cell)
        ),
    ]
    text = "".join(",".join(map(_field, line)) + "\n" for line in lines)
    write_whole(path, text.encode())


def _field(value) -> str:
    """A field of CSV; Python's writer leaves a carriage return bare, which its reader takes for a line's end."""
    text = str(value)
    return (
        '"' + text.replace('"', '""') + '"'
        if any(c in text for c in ',"\r\n')
        else text
    )


def _rows(cell: Profiles) -> Iterable[dict]:
    for i, problem in enumerate(cell.problems):
        row = {
            "cell": cell.cell,
            "problem_id": problem,
            "n_failed_rollouts": int(cell.n_failed[i]),
        }
        row |= {name: _text(value) for name, value in zip(FEATURES, cell.features[i])}
        row |= {
            name: _text(value) for name, value in zip(cell.operators, cell.rates[i])
        }
        if cell.attempts is not None:
            tried = zip(cell.operators, cell.attempts[i], cell.rates[i])
            row |= {
                f"{name}_n": "" if np.isnan(rate) else int(n) for name, n, rate in tried
            }
        if cell.excluded:
            row[EXCLUDED] = cell.excluded
        if cell.deterministic:
            row[DETERMINISTIC] = "+".join(cell.deterministic)
        yield row | {name: values[i] for name, values in cell.extras.items()}


def _check_header(path: epath.Path, header: list[str]) -> None:
    if not header:
        raise UserError(
            f"{path}: is empty; a profile table starts with a line of column names"
        )
    for name in REQUIRED:
        if name not in header:
            raise UserError(
                f"{path}: column {name!r} is missing (empty fields stand for what a cell lacks)"
            )
    if twice := _twice(header):
        raise UserError(f"{path}: column {twice[0]!r} appears twice")


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _cell(path: epath.Path, name: str, rows: list[dict], header: list[str]) -> Profiles:
    failed = [_count(row, "n_failed_rollouts") for row in rows]
    excluded = sum(n == 0 for n in failed) + (
        _count(rows[0], EXCLUDED) if rows[0].get(EXCLUDED) else 0
    )
    rows = [row for row, n in zip(rows, failed) if n > 0]
    if not rows:
        raise UserError(
            f"{path}: cell {name!r} has no problem with a failed rollout (n_failed_rollouts > 0)"
        )
    problems = tuple(row["problem_id"] for row in rows)
    if twice := _twice(problems):
        raise UserError(
            f"{path}: problem_id {twice[0]!r} appears twice in cell {name!r}"
        )
    # An operator of our own is known by its column of attempts.
    there = set(header)
    known = [c for c in header if c in OPERATORS or f"{c}_n" in there]
    rates = {c: _column(rows, c) for c in known}
    operators = tuple(c for c in known if not np.isnan(rates[c]).all())
    _check_operators(path, name, operators, header)
    features = np.stack([_column(rows, c) for c in FEATURES], axis=1)
    if np.isnan(features).all():
        raise UserError(
            f"{path}: cell {name!r} has none of the features {', '.join(FEATURES)}"
        )
    values = np.stack([rates[c] for c in operators], axis=1)
    attempts = None
    if any(row.get(f"{c}_n") for row in rows for c in operators):
        attempts = np.array(
            [[_count(row, f"{c}_n") for c in operators] for row in rows]
        )
    _check_rates(rows, operators, values, attempts)
    taken = {*REQUIRED, EXCLUDED, DETERMINISTIC, *known, *(f"{c}_n" for c in known)}
    extras = {c: tuple(row[c] for row in rows) for c in header if c not in taken}
    n_failed = np.array([n for n in failed if n > 0])
    said = rows[0].get(DETERMINISTIC)
    same = (
        _RELEASED_DETERMINISTIC
        if said is None and attempts is None
        else (said or "").split("+")
    )
    same = tuple(c for c in operators if c in same)
    return Profiles(
        name,
        problems,
        n_failed,
        features,
        operators,
        values,
        attempts,
        extras,
        excluded,
        same,
    )


def _check_operators(
    path: epath.Path, cell: str, operators: tuple[str, ...], header: list[str]
) -> None:
    if "retry" not in operators or len(operators) < 2:
        raise UserError(
            f"{path}: cell {cell!r} needs rates of 'retry' and of one more operator (intervene gives them)"
        )
    counted = [f"{c}_n" in header for c in operators]
    if any(counted) and not all(counted):
        missing = operators[counted.index(False)]
        raise UserError(
            f"{path}: column '{missing}_n' is missing; attempts are given for all operators or none"
        )


def _check_rates(
    rows: list[dict], operators, rates: np.ndarray, attempts: np.ndarray | None
) -> None:
    for row, values, tried in zip(
        rows, rates, rates * 0 + 1 if attempts is None else attempts
    ):
        for name, rate, n in zip(operators, values, tried):
            if not 0 <= rate <= 1:
                raise UserError(
                    f"{row['_where']}: {name} = {row[name]} is not a rate in [0, 1]"
                )
            if n < 1:
                raise UserError(
                    f"{row['_where']}: {name}_n = {int(n)} must be 1 or more"
                )
            if attempts is not None and abs(round(rate * n) - rate * n) > n * _PRINTED:
                raise UserError(
                    f"{row['_where']}: {name} = {row[name]} is no share of {name}_n = {int(n)} attempts"
                )


def _column(rows: list[dict], name: str) -> Float[np.ndarray, "N"]:
    """Numbers of a column; NaN throughout if the cell leaves it empty (all problems have it or none)."""
    if all(row[name] == "" for row in rows):
        return np.full(len(rows), np.nan)
    return np.array(
        [_number(row[name], f"{row['_where']}, column {name!r}") for row in rows]
    )


def _count(row: dict, name: str) -> int:
    value = _number(row[name], f"{row['_where']}, column {name!r}")
    if value != int(value) or value < 0:
        raise UserError(
            f"{row['_where']}, column {name!r}: {row[name]!r} is not a count"
        )
    return int(value)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None
    if not np.isfinite(value):
        raise UserError(f"{where}: {text!r} is not finite")
    return value


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
