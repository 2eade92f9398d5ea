"""Recorded attempts beside a profile table: `NAME.attempts.parquet`, one per line."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.errors import UserError
from fr.profiles.profile import AXES, Profiles, Recorded
from fr.workdir import write_whole

_PAIRED = b"paired"  # metadata: names of the cells whose operators share their keys
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("cell", "problem_id", "operator")),
        ("attempt", pa.int32()),
        ("right", pa.bool_()),
        *((axis, pa.float64()) for axis in AXES),
    ]
)


def attempts_path(table: epath.Path) -> epath.Path:
    """Name the file of the recorded attempts.

    Args:
        table: the CSV file.

    Returns:
        `NAME.attempts.parquet` beside it.
    """
    return table.parent / f"{table.stem}.attempts.parquet"


def write_attempts(table: epath.Path, cells: Sequence[Profiles]) -> None:
    """Write the attempts of all cells that have them; without any, remove the file.

    Args:
        table: the CSV file.
        cells: its cells.
    """
    parts = [_lines(cell, cell.recorded) for cell in cells if cell.recorded is not None]
    if not parts:
        attempts_path(table).unlink(missing_ok=True)
        return
    sink = pa.BufferOutputStream()
    lines = pa.concat_tables(parts)
    if paired := [cell.cell for cell in cells if cell.paired is not None]:
        lines = lines.replace_schema_metadata({_PAIRED: json.dumps(paired)})
    pq.write_table(lines, sink, compression="zstd")
    write_whole(attempts_path(table), sink.getvalue().to_pybytes())


def _lines(cell: Profiles, found: Recorded) -> pa.Table:
    i, o, a = np.nonzero(found.made)
    columns = {
        "cell": np.full(len(i), cell.cell, object),
        "problem_id": np.array(cell.problems, object)[i],
        "operator": np.array(cell.operators, object)[o],
        "attempt": a.astype(np.int32),
        "right": found.right[i, o, a],
        **{axis: found.costs[axis][i, o, a] for axis in AXES},
    }
    arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in _SCHEMA]
    return pa.table(arrays, schema=_SCHEMA)


def read_attempts(table: epath.Path, cells: Sequence[Profiles]) -> list[Profiles]:
    """Add the recorded attempts to the cells of a table.

    Args:
        table: the CSV file.
        cells: its cells.

    Returns:
        The cells; unchanged if there is no such file.

    Raises:
        UserError: for a file that cannot be read or does not agree with its table.
    """
    path = attempts_path(table)
    if not path.exists():
        return list(cells)
    try:
        with path.open("rb") as source:
            lines = pq.ParquetFile(source).read()
        paired = json.loads((lines.schema.metadata or {}).get(_PAIRED, b"[]"))
        lines = lines.select(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as the attempts of {table.name} ({error})"
        ) from error
    names = np.asarray(lines["cell"].to_pylist(), object)
    found = []
    for cell in cells:
        if (names == cell.cell).any():
            own = _recorded(lines.filter(pa.array(names == cell.cell)), cell, str(path))
            own = dataclasses.replace(own, paired=cell.cell in paired)
            cell = dataclasses.replace(cell, recorded=own)
        found.append(cell)
    return found


def _recorded(lines: pa.Table, cell: Profiles, where: str) -> Recorded:
    """Lines in the order of their table; raises UserError if the two differ."""
    rows = {name: i for i, name in enumerate(cell.problems)}
    columns = {name: o for o, name in enumerate(cell.operators)}
    groups: dict[tuple[int, int], list] = {}
    for line in lines.to_pylist():
        if line["problem_id"] in rows and line["operator"] in columns:
            known = {axis: line[axis] for axis in AXES if line[axis] is not None}
            place = rows[line["problem_id"]], columns[line["operator"]]
            groups.setdefault(place, []).append((line["attempt"], line["right"], known))
    attempts: list[list[list]] = [[] for _ in cell.problems]
    for i, o in np.ndindex(cell.rates.shape):
        own = sorted(groups.get((i, o), ()), key=lambda line: line[0])
        solved = sum(right for _, right, _ in own)
        fits = cell.attempts is not None and len(own) == cell.attempts[i, o]
        if not fits or abs(solved - cell.rates[i, o] * len(own)) > 1e-3:
            raise UserError(
                f"{where} has {solved} of {len(own)} attempts of {cell.operators[o]} "
                f"at {cell.problems[i]} right, which is not what the table says; "
                "remove the file to go on with mean prices"
            )
        bad = [c for *_, known in own for c in known.values() if not 0 <= c < np.inf]
        if bad:
            raise UserError(f"{where}: {bad[0]} is not a cost of an attempt")
        attempts[i].append([(right, known) for _, right, known in own])
    return Recorded.of(attempts)
