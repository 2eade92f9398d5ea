"""Attempts of a run as append-only Parquet shards that any table tool opens.

A shard is the unit of work. It is written whole under a temporary name and renamed, so
that a killed run repeats only the shards that it had not finished. The same attempts
give the same bytes. Nothing here imports jax.
"""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.errors import UserError, first_line
from fr.files import open_regular
from fr.store_columns import (
    COSTS,
    GRADING,
    LINEAGE_STATS,
    PARAMS,
    PER_CUT,
    PER_TOKEN,
    SCHEMA,
    SINGLE,
    TOKEN_STATS,
    TOP,
    VERSION,
    Attempt,
)
from fr.types import Cost
from fr.workdir import PathLike, write_whole

MAX_SHARD = 64 << 30  # bytes


def shard_path(folder: PathLike, index: int) -> epath.Path:
    """The file of a shard.

    Args:
      folder: of the shards.
      index: of the shard in the plan.

    Returns:
      Its path.
    """
    return epath.Path(folder) / f"shard-{index:06d}.parquet"


def write_shard(
    folder: PathLike,
    index: int,
    attempts: list[Attempt],
    more: dict[str, pa.Array] | None = None,
    again: bool = False,
    mark: str = "",
) -> None:
    """Write the attempts of one shard.

    Args:
      folder: of the shards.
      index: of the shard in the plan of the whole run, all processes together.
      attempts: of the shard.
      more: columns after the columns of SCHEMA.
      again: replace the shard that a killed run wrote.
      mark: of the temporary name, as in `write_whole`.

    Raises:
      ValueError: the shard exists (the store is append-only), or an attempt does not
        fit
        the columns.
    """
    path = shard_path(folder, index)
    if path.exists() and not again:
        raise ValueError(f"{path} exists; the store is append-only")
    for attempt in attempts:
        _check(attempt)
    table = pa.table([_column(attempts, field) for field in SCHEMA], schema=SCHEMA)
    if attempts and all(attempt.top_tokens is not None for attempt in attempts):
        more = {name: _top(attempts, name) for name in TOP} | (more or {})
    for name, values in (more or {}).items():
        table = table.append_column(name, values)
    _write(path, table, mark)


def regrade_shard(
    folder: PathLike, index: int, columns: dict[str, list[str | None]]
) -> None:
    """Replace columns of GRADING in a shard, whole or not at all.

    Args:
      folder: of the shards.
      index: of the shard.
      columns: a value for each attempt, by column.

    Raises:
      ValueError: a column is not in GRADING.
    """
    if others := set(columns) - set(GRADING):
        raise ValueError(f"column {min(others)!r} of a shard cannot be changed")
    path = shard_path(folder, index)
    table = _load(path, None)  # further columns stay
    for name, values in columns.items():
        array = pa.array(values, SCHEMA.field(name).type)
        table = table.set_column(
            SCHEMA.get_field_index(name), SCHEMA.field(name), array
        )
    _write(path, table)


def _write(path: epath.Path, table: pa.Table, mark: str = "") -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(SCHEMA.metadata),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    write_whole(path, sink.getvalue().to_pybytes(), mark)


def finished(folder: PathLike) -> set[int]:
    """Shards that are whole.

    Args:
      folder: of the shards.

    Returns:
      Their indices.

    Raises:
      UserError: a shard has another schema version.
    """
    shards = _shards(folder)
    for path in shards.values():
        _load(path, columns=[])
    return set(shards)


def read_table(
    folder: PathLike,
    columns: list[str] | None = None,
    shards: Collection[int] | None = None,
) -> pa.Table:
    """Attempts as an Arrow table.

    Args:
      folder: of the shards.
      columns: names of SCHEMA, or of further columns that every shard has; None: all
        of SCHEMA.
      shards: indices of the shards; None: all.

    Returns:
      A table in the order of the shards.

    Raises:
      UserError: a shard cannot be read or has another schema version.
    """
    columns = SCHEMA.names if columns is None else columns
    chosen = [
        path for i, path in _shards(folder).items() if shards is None or i in shards
    ]
    parts = [_load(path, columns) for path in chosen]
    if not parts:
        known = [SCHEMA.field(name) for name in columns if name in SCHEMA.names]
        parts = [pa.schema(known, SCHEMA.metadata).empty_table()]
    return pa.concat_tables(parts)


def read(
    folder: PathLike,
    shards: Collection[int] | None = None,
    stats: Collection[str] = TOKEN_STATS + LINEAGE_STATS,
) -> list[Attempt]:
    """Attempts of a folder.

    Args:
      folder: of the shards.
      shards: indices of the shards to read; None: all.
      stats: the statistics of tokens to read; the others are left out.

    Returns:
      Attempts in the order of the shards.

    Raises:
      UserError: a shard cannot be read or has another schema version.
    """
    left_out = set(TOKEN_STATS + LINEAGE_STATS) - set(stats)
    kept = [name for name in SCHEMA.names if name not in left_out]
    table = read_table(folder, kept, shards)
    single: dict[str, Any] = {
        name: table[name].to_pylist()
        for name in (*SINGLE, *PARAMS, *(f"cost_{c}" for c in COSTS))
    }
    lists: dict[str, Any] = {
        name: _arrays(table[name])
        for name in ("key", "prompt", *PER_TOKEN, *PER_CUT)
        if name in kept
    }
    return [
        Attempt(
            **{name: single[name][i] for name in SINGLE},
            params={
                name: single[name][i] for name in PARAMS if single[name][i] is not None
            },
            cost=Cost(**{name: single[f"cost_{name}"][i] for name in COSTS}),
            **{
                name: lists[name][i]
                for name in (
                    "key",
                    "prompt",
                    "tokens",
                    "forced",
                    "fired",
                    "sample_logp",
                )
            },
            stats={
                n: lists[n][i]
                for n in TOKEN_STATS + LINEAGE_STATS
                if n in lists and lists[n][i] is not None
            },
            confidence={n: lists[n][i] for n in PER_CUT if lists[n][i] is not None},
        )
        for i in range(table.num_rows)
    ]


def _shards(folder: PathLike) -> dict[int, epath.Path]:
    folder = epath.Path(folder)
    if not folder.exists():
        return {}
    # fullmatch, because a kill may leave a temporary file.
    found = (
        (re.fullmatch(r"shard-(\d{6})\.parquet", path.name), path)
        for path in folder.iterdir()
    )
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def _load(path: epath.Path, columns: list[str] | None) -> pa.Table:
    """Columns of a shard; None: all."""
    with open_regular(path, MAX_SHARD) as source:
        try:
            # Without the checksum a flipped bit would be another number.
            file = pq.ParquetFile(source, page_checksum_verification=True)
            held = file.schema_arrow.metadata or {}
            version = held.get(b"fr_store_version", b"none").decode()
            if version != str(VERSION):
                raise UserError(
                    f"{path} has schema version {version}, this code reads {VERSION}; "
                    "use another --workdir"
                )
            # More columns may follow.
            if not pa.schema(list(file.schema_arrow)[: len(SCHEMA)]).equals(SCHEMA):
                raise UserError(
                    f"{path} has other columns than this code writes; remove it"
                )
            columns = file.schema_arrow.names if columns is None else columns
            if lacking := set(columns) - set(file.schema_arrow.names):
                raise UserError(
                    f"{path} has no column {min(lacking)}: an older version wrote it; "
                    "use another --workdir"
                )
            table = file.read(columns=columns, use_threads=False).select(columns)
            table.validate(full=True)
            return table
        except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
            what = "is damaged" if path.stat().length else "is empty"
            raise UserError(
                f"{path} {what} or is not a Parquet file ({first_line(error)[:80]}); "
                "remove it to make its attempts again"
            ) from error


def _check(attempt: Attempt) -> None:
    for kind, given, known in (
        ("setting", attempt.params, PARAMS),
        ("statistic", attempt.stats, TOKEN_STATS + LINEAGE_STATS),
        ("confidence", attempt.confidence, tuple(PER_CUT)),
    ):
        if unknown := set(given) - set(known):
            raise ValueError(
                f"attempt {attempt.row}: no column for {kind} {min(unknown)}"
            )
    if len({np.shape(values) for values in attempt.confidence.values()}) > 1:
        raise ValueError(
            f"attempt {attempt.row}: its confidence must have a value for every cut"
        )


def _column(attempts: list[Attempt], field: pa.Field) -> pa.Array:
    name = field.name
    if name.startswith("cost_"):
        values = [getattr(a.cost, name.removeprefix("cost_")) for a in attempts]
    elif name in PARAMS:
        values = [
            None if name not in a.params else np.asarray(a.params[name]).item()
            for a in attempts
        ]
    elif name in TOKEN_STATS + LINEAGE_STATS:
        values = [
            _per_token(a, name, a.stats[name]) if name in a.stats else None
            for a in attempts
        ]
    elif name in PER_CUT:
        values = [a.confidence.get(name) for a in attempts]
    elif name in PER_TOKEN:
        values = [_per_token(a, name, getattr(a, name)) for a in attempts]
    else:
        values = [getattr(a, name) for a in attempts]
    return pa.array(values, type=field.type)


def _top(attempts: list[Attempt], name: str) -> pa.Array:
    """[T, K] of each attempt as a list of T lists."""
    tables = [np.asarray(getattr(attempt, name)) for attempt in attempts]
    for attempt, table in zip(attempts, tables):
        if len(table) != len(attempt.tokens):
            raise ValueError(f"attempt {attempt.row}: {name} has {len(table)} places")
    return pa.array([list(table) for table in tables], pa.list_(pa.list_(TOP[name])))


def _per_token(attempt: Attempt, name: str, values: np.ndarray) -> np.ndarray:
    if np.shape(values) != (len(attempt.tokens),):
        raise ValueError(
            f"attempt {attempt.row}: {name} has shape {np.shape(values)} for "
            f"{len(attempt.tokens)} tokens"
        )
    return np.asarray(values)


def _arrays(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    lists = (
        pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )
    values = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()
    parts = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    return [
        part if valid else None
        for part, valid in zip(parts, lists.is_valid().to_pylist())
    ]
