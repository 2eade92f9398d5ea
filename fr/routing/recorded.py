"""The attempts behind a table, one by one: what each cost and whether it was right.

They lie beside `NAME.csv` in `NAME.attempts.parquet`: one line an attempt, with the
columns cell, problem_id, operator, attempt, right and a cost for every one of AXES.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath
from jaxtyping import Bool, Float

from fr.errors import UserError
from fr.workdir import write_whole

# What an attempt costs: forward positions in units of the specialist's, tokens that it
# generated, and seconds where somebody has measured them.
AXES = ("forward", "generated", "seconds")
FORWARD = AXES[0]
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("cell", "problem_id", "operator")),
        ("attempt", pa.int32()),
        ("right", pa.bool_()),
        *((name, pa.float64()) for name in AXES),
    ]
)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Attempts [N, O, A] of the problems and operators of a table, in their order.

    Behind the last attempt of an operator at a problem `made` is False. A cost that
    nobody has measured is NaN.
    """

    made: Bool[np.ndarray, "N O A"]
    right: Bool[np.ndarray, "N O A"]
    costs: Mapping[str, Float[np.ndarray, "N O A"]]  # by name of AXES

    def knows(self, axis: str) -> bool:
        """Whether every attempt has its cost on this axis."""
        return not np.isnan(self.costs[axis][self.made]).any()

    def mean(self, axis: str) -> Float[np.ndarray, "N O"]:
        """Mean cost of an attempt of each operator at each problem."""
        total = np.where(self.made, self.costs[axis], 0.0).sum(axis=2)
        return total / np.maximum(self.made.sum(axis=2), 1)

    def kept(self, operators: Sequence[int]) -> "Recorded":
        """Of these operators alone."""
        cut = lambda values: values[:, list(operators)]
        costs = {axis: cut(values) for axis, values in self.costs.items()}
        return Recorded(cut(self.made), cut(self.right), costs)


def record(
    attempts: Sequence[Sequence[Sequence[tuple[bool, Mapping[str, float]]]]],
) -> Recorded:
    """From (right, costs by axis) of every attempt, by problem and operator."""
    shape = (len(attempts), len(attempts[0]) if len(attempts) else 0)
    most = max((len(group) for row in attempts for group in row), default=0)
    made, right = (np.zeros((*shape, most), bool) for _ in range(2))
    costs = {axis: np.full((*shape, most), np.nan) for axis in AXES}
    for i, row in enumerate(attempts):
        for o, group in enumerate(row):
            made[i, o, : len(group)] = True
            right[i, o, : len(group)] = [well for well, _ in group]
            for axis in AXES:
                found = [cost.get(axis, np.nan) for _, cost in group]
                costs[axis][i, o, : len(group)] = found
    return Recorded(made, right, costs)


def join(parts: Sequence[Recorded]) -> Recorded:
    """Of the problems of several tables with the same operators, one after the other."""
    most = max(part.made.shape[2] for part in parts)

    def stack(pick, fill):
        wide = lambda values: np.pad(
            values,
            ((0, 0), (0, 0), (0, most - values.shape[2])),
            constant_values=fill,
        )
        return np.concatenate([wide(pick(part)) for part in parts])

    costs = {axis: stack(lambda p, a=axis: p.costs[a], np.nan) for axis in AXES}
    made, right = (
        stack(lambda p, n=name: getattr(p, n), False) for name in ("made", "right")
    )
    return Recorded(made, right, costs)


def path_of(table: epath.Path) -> epath.Path:
    """Where the attempts behind a table lie."""
    return table.parent / f"{table.stem}.attempts.parquet"


def write_recorded(table: epath.Path, cells: Sequence) -> None:
    """Write the attempts of all cells that have them; none: no file is left there."""
    parts = [_lines(cell) for cell in cells if cell.recorded is not None]
    if not parts:
        path_of(table).unlink(missing_ok=True)
        return
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    write_whole(path_of(table), sink.getvalue().to_pybytes())


def _lines(cell) -> pa.Table:
    found = cell.recorded
    i, o, a = np.nonzero(found.made)
    names = np.array(cell.problems, object), np.array(cell.operators, object)
    columns = {
        "cell": np.full(len(i), cell.cell, object),
        "problem_id": names[0][i],
        "operator": names[1][o],
        "attempt": a.astype(np.int32),
        "right": found.right[i, o, a],
        **{axis: found.costs[axis][i, o, a] for axis in AXES},
    }
    arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in _SCHEMA]
    return pa.table(arrays, schema=_SCHEMA)


def read_recorded(table: epath.Path) -> dict[str, pa.Table]:
    """The lines of each cell beside a table; empty where there is no such file."""
    path = path_of(table)
    if not path.exists():
        return {}
    try:
        with path.open("rb") as source:
            lines = pq.ParquetFile(source).read()
        lines = lines.select(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as the attempts behind {table.name} ({error})"
        ) from error
    cells = np.asarray(lines["cell"].to_pylist(), object)
    return {
        name: lines.filter(pa.array(cells == name)) for name in dict.fromkeys(cells)
    }


def recorded_of(
    lines: pa.Table,
    problems: Sequence[str],
    operators: Sequence[str],
    rates: Float[np.ndarray, "N O"],
    attempts: np.ndarray | None,
    where: str,
) -> Recorded:
    """The lines of a cell in the order of its table; raises UserError if they differ."""
    rows = {name: i for i, name in enumerate(problems)}
    columns = {name: o for o, name in enumerate(operators)}
    data = {name: lines[name].to_pylist() for name in _SCHEMA.names}
    groups: dict[tuple[int, int], list] = {}
    for problem, operator, order, right, *costs in zip(
        *(data[name] for name in _SCHEMA.names if name != "cell")
    ):
        if problem in rows and operator in columns:
            known = {n: c for n, c in zip(AXES, costs) if c is not None}
            place = rows[problem], columns[operator]
            groups.setdefault(place, []).append((order, right, known))
    for i, o in np.ndindex(rates.shape):
        own = groups.setdefault((i, o), [])
        own.sort(key=lambda line: line[0])
        solved = sum(right for _, right, _ in own)
        fits = attempts is not None and len(own) == attempts[i, o]
        if not fits or abs(solved - rates[i, o] * len(own)) > 1e-3:
            raise UserError(
                f"{where} has {solved} of {len(own)} attempts of {operators[o]} at "
                f"{problems[i]} right, which is not what the table says; remove the "
                "file to go on with mean prices"
            )
        bad = [c for *_, known in own for c in known.values() if not 0 <= c < np.inf]
        if bad:
            raise UserError(f"{where}: {bad[0]} is not a cost of an attempt")
    return record(
        [
            [
                [(right, known) for _, right, known in groups[i, o]]
                for o in range(rates.shape[1])
            ]
            for i in range(rates.shape[0])
        ]
    )
