"""Profile tables as CSV files, one failed problem per line.

The columns follow the released failure profiles (arXiv 2606.05145), so that released
and own tables meet the same routers, plus `<operator>_n`, the attempts of a
rate. All other columns are carried along.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from fr.errors import UserError
from fr.files import check_commas, parse_number, read_regular, utf8_text
from fr.profiles.attempts_table import read_attempts, write_attempts
from fr.profiles.profile import FEATURES, OPERATORS, PRINTED, Profiles
from fr.registry import suggest
from fr.workdir import PathLike, write_whole

_REQUIRED = ("cell", "problem_id", "n_failed_rollouts", *FEATURES, *OPERATORS)
_FEWEST = ("cell", "problem_id", "n_failed_rollouts", "retry")  # of any table
_LARGEST = 1 << 30  # bytes of a table
# The largest count of attempts, whose exact tests would not end with more, and the
# largest of anything else.
_MOST_TRIED, _MOST = 10_000, 10**9
_EXCLUDED = "excluded_problems"  # of the cell, the same number on every line
# Operators whose attempts at a problem are all the same one, joined by +.
_DETERMINISTIC = "deterministic_operators"
# Released files do not say it: dense_steer is, as published (arXiv 2606.05145).
_RELEASED_DETERMINISTIC = ("dense_steer",)


def read_profiles(path: PathLike, others: bool = False) -> list[Profiles]:
    """Read the cells of one CSV file and their recorded attempts.

    Args:
        path: the CSV file.
        others: the table may come from elsewhere, without the features and with
            operators of its own only.

    Returns:
        The cells in order of appearance.

    Raises:
        UserError: names file, line and column of what is wrong.
    """
    path = epath.Path(path)
    header, rows = read_lines(path, "a profile table")
    _check_header(path, header, _FEWEST if others else _REQUIRED)
    if not rows:
        raise UserError(
            f"{path}: has no rows; a profile table holds one failed problem per line"
        )
    check_fields(header, rows)
    cells: dict[str, list[dict]] = {}
    for row in rows:
        for name in ("cell", "problem_id"):
            if others and not row[name].strip():
                raise UserError(
                    f"{row['_where']}: {name} is empty; every line needs one"
                )
        cells.setdefault(row["cell"], []).append(row)
    found = [_cell(path, name, rows, header, others) for name, rows in cells.items()]
    return read_attempts(path, found)


def read_lines(path: epath.Path, kind: str) -> tuple[list[str], list[dict]]:
    """Read the lines of a CSV file.

    Args:
        path: the file.
        kind: what it is, for an error.

    Returns:
        Names of the columns, and for each line its fields by column, with `_where`,
        which names file and line.

    Raises:
        UserError: it is not CSV, or its columns are not separated by commas.
    """
    try:
        # Bytes: reading text turns a carriage return in a field into a line feed.
        data = read_regular(path, _LARGEST)
    except UserError as error:
        raise UserError(f"{path}: cannot be read as {kind} ({error})") from error
    text = utf8_text(data, f"{path}: cannot be read as {kind}")
    check_commas(text.split("\n", 1)[0], os.fspath(path))
    # strict: an open quote is an error, not a field that swallows the rest of the file.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [{**row, "_where": f"{path}, line {reader.line_num}"} for row in reader]
        header = list(reader.fieldnames or ())
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: is not CSV ({error})"
        ) from error
    return header, rows


def check_fields(header: Sequence[str], rows: Sequence[dict]) -> None:
    """Check that every line has the fields of the header.

    Args:
        header: names of the columns.
        rows: lines of `read_lines`.

    Raises:
        UserError: a line has more or fewer fields.
    """
    for row in rows:
        if None in row or None in row.values():
            raise UserError(
                f"{row['_where']}: has not the {len(header)} fields of the header"
            )


def read_cells(
    paths: Sequence[PathLike], without: Sequence[str] = (), others: bool = False
) -> list[Profiles]:
    """Read the cells of several files.

    Args:
        paths: CSV files.
        without: operators to leave out, such as those that use truth from outside.
        others: as of `read_profiles`.

    Returns:
        The cells in order.

    Raises:
        UserError: if two files hold the same cell, and for an operator that no cell has
            or that cells must keep.
    """
    found: dict[str, PathLike] = {}
    cells = []
    for path in paths:
        for profiles in read_profiles(path, others):
            if profiles.cell in found:
                there = found[profiles.cell]
                raise UserError(f"{path}: cell {profiles.cell!r} is in {there} already")
            found[profiles.cell] = path
            cells.append(profiles)
    known = dict.fromkeys(name for profiles in cells for name in profiles.operators)
    for name in without:
        if name == "retry" or name not in known:
            rest = [other for other in known if other != "retry"]
            raise UserError(
                f"operator {name!r} cannot be left out{suggest(name, rest)}"
            )
    cells = [profiles.without(without) for profiles in cells] if without else cells
    if alone := [profiles.cell for profiles in cells if len(profiles.operators) < 2]:
        left = ", ".join(without)
        raise UserError(
            f"cell {alone[0]!r}: with {left} left out only 'retry' is there"
        )
    return cells


def write_profiles(path: PathLike, cells: Iterable[Profiles]) -> None:
    """Write cells as one CSV file, atomically, and their attempts before it.

    Args:
        path: the CSV file; numbers read back exactly.
        cells: the cells.
    """
    cells = list(cells)
    write_attempts(epath.Path(path), cells)
    operators = list(
        dict.fromkeys([*OPERATORS, *(o for c in cells for o in c.operators)])
    )
    columns = ["cell", "problem_id", "n_failed_rollouts", *FEATURES, *operators]
    if any(cell.attempts is not None for cell in cells):
        columns += [f"{name}_n" for name in operators]
    columns += [_EXCLUDED] if any(cell.excluded for cell in cells) else []
    columns += [_DETERMINISTIC] if any(cell.deterministic for cell in cells) else []
    columns += list(dict.fromkeys(name for cell in cells for name in cell.extras))
    rows = (row for cell in cells for row in _rows(cell))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    text = "".join(",".join(map(_field, line)) + "\n" for line in lines)
    write_whole(path, text.encode())


def _field(value) -> str:
    """A CSV field; Python's writer does not quote a carriage return."""
    text = str(value)
    if any(c in text for c in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _rows(cell: Profiles) -> Iterable[dict]:
    for i, problem in enumerate(cell.problems):
        row: dict = {"cell": cell.cell, "problem_id": problem}
        row["n_failed_rollouts"] = int(cell.n_failed[i])
        row |= {name: _text(value) for name, value in zip(FEATURES, cell.features[i])}
        row |= {
            name: _text(value) for name, value in zip(cell.operators, cell.rates[i])
        }
        if cell.attempts is not None:
            tried = zip(cell.operators, cell.attempts[i], cell.rates[i])
            row |= {f"{o}_n": "" if np.isnan(rate) else int(n) for o, n, rate in tried}
        if cell.excluded:
            row[_EXCLUDED] = cell.excluded
        if cell.deterministic:
            row[_DETERMINISTIC] = "+".join(cell.deterministic)
        yield row | {name: values[i] for name, values in cell.extras.items()}


def _check_header(path: epath.Path, header: list[str], required: Sequence[str]) -> None:
    if not header:
        raise UserError(
            f"{path}: is empty; a profile table starts with a line of column names"
        )
    for name in required:
        if name not in header:
            raise UserError(
                f"{path}: column {name!r} is missing (empty fields stand for what a "
                "cell lacks)"
            )
    if twice := _twice(header):
        raise UserError(f"{path}: column {twice[0]!r} appears twice")


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _cell(
    path: epath.Path, name: str, rows: list[dict], header: list[str], others: bool
) -> Profiles:
    failed = [_count(row, "n_failed_rollouts") for row in rows]
    excluded = sum(n == 0 for n in failed)
    excluded += _count(rows[0], _EXCLUDED) if rows[0].get(_EXCLUDED) else 0
    rows = [row for row, n in zip(rows, failed) if n > 0]
    if not rows:
        raise UserError(
            f"{path}: cell {name!r} has no problem with a failed rollout "
            "(n_failed_rollouts > 0)"
        )
    problems = tuple(row["problem_id"] for row in rows)
    if twice := _twice(problems):
        raise UserError(
            f"{path}: problem_id {twice[0]!r} appears twice in cell {name!r}"
        )
    # An operator of one's own is known by its column of attempts.
    known = [c for c in header if c in OPERATORS or f"{c}_n" in header]
    rates = {c: _column(rows, c) for c in known}
    operators = tuple(c for c in known if not np.isnan(rates[c]).all())
    _check_operators(path, name, operators, header)
    features = np.stack([_column(rows, c) for c in FEATURES], axis=1)
    if np.isnan(features).all() and not others:
        names = ", ".join(FEATURES)
        raise UserError(f"{path}: cell {name!r} has none of the features {names}")
    values = np.stack([rates[c] for c in operators], axis=1)
    attempts = None
    if any(row.get(f"{c}_n") for row in rows for c in operators):
        attempts = np.array(
            [[_count(row, f"{c}_n", _MOST_TRIED) for c in operators] for row in rows]
        )
    _check_rates(rows, operators, values, attempts)
    counts = (f"{c}_n" for c in known)
    taken = {*_REQUIRED, _EXCLUDED, _DETERMINISTIC, *known, *counts}
    stated = rows[0].get(_DETERMINISTIC)
    released = stated is None and attempts is None
    same = _RELEASED_DETERMINISTIC if released else (stated or "").split("+")
    return Profiles(
        name,
        problems,
        np.array([n for n in failed if n > 0]),
        features,
        operators,
        values,
        attempts,
        {c: tuple(row[c] for row in rows) for c in header if c not in taken},
        excluded,
        tuple(c for c in operators if c in same),
    )


def _check_operators(
    path: epath.Path, cell: str, operators: tuple[str, ...], header: list[str]
) -> None:
    if "retry" not in operators or len(operators) < 2:
        raise UserError(
            f"{path}: cell {cell!r} needs rates of 'retry' and of one more operator "
            "(intervene gives them; an operator NAME of your own is known by a column "
            "NAME_n, its attempts)"
        )
    counted = [f"{c}_n" in header for c in operators]
    if any(counted) and not all(counted):
        missing = operators[counted.index(False)]
        raise UserError(
            f"{path}: column '{missing}_n' is missing; attempts are given for all "
            "operators or none"
        )


def _check_rates(
    rows: list[dict], operators, rates: np.ndarray, attempts: np.ndarray | None
) -> None:
    tried_of = np.ones_like(rates) if attempts is None else attempts
    for row, values, tried in zip(rows, rates, tried_of):
        for name, rate, n in zip(operators, values, tried):
            where = f"{row['_where']}: {name}"
            if not 0 <= rate <= 1:
                raise UserError(f"{where} = {row[name]} is not a rate in [0, 1]")
            if n < 1:
                raise UserError(f"{where}_n = {int(n)} must be 1 or more")
            off = abs(round(rate * n) - rate * n)
            if attempts is not None and off > n * PRINTED:
                raise UserError(
                    f"{where} = {row[name]} is not a share of {name}_n = {int(n)} "
                    "attempts"
                )


def _column(rows: list[dict], name: str) -> Float[np.ndarray, "N"]:
    """Numbers of a column; NaN if the cell leaves it empty (all problems or none)."""
    if all(row.get(name, "") == "" for row in rows):
        return np.full(len(rows), np.nan)
    return np.array(
        [parse_number(row[name], f"{row['_where']}, column {name!r}") for row in rows]
    )


def _count(row: dict, name: str, most: int = _MOST) -> int:
    where = f"{row['_where']}, column {name!r}"
    value = parse_number(row[name], where)
    if value > most:
        raise UserError(f"{where}: {row[name]!r} is more than {most:,}")
    if value != int(value) or value < 0:
        raise UserError(f"{where}: {row[name]!r} is not a count")
    return int(value)


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
