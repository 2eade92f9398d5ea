"""The attempts of a run, failures first of all: append-only Parquet shards that any table tool opens.

A shard is the unit of work: written whole under a temporary name and renamed, so that a killed run redoes
only the shards that it had not finished. The same attempts give the same bytes. Nothing here imports jax.
"""

import dataclasses
import re
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.errors import UserError, first_line
from fr.files import open_regular
from fr.workdir import PathLike, write_whole

VERSION = 3
MAX_SHARD = 64 << 30  # bytes

# Spelled out because the columns are the file format; a test holds the names to the records of fr.types.
TOKEN_STATS = (
    "logp",
    "entropy",
    "varentropy",
    "margin",
    "top20_confidence",
    "self_certainty",
    "logit_var",
    "entropy_tau",
)
LINEAGE_STATS = (
    "delta_path",
    "g_cov",
    "demotion",
    "kl",
    "z_path",
    "path_mean",
    "path_sd",
)
COSTS = ("prefill", "generated", "forced", "ancestor", "scored", "probe")
# What a probe found behind every cut: of "own" and "gold" answers their probability, and the log-prob a token.
CONFIDENCE = ("own_probability", "own_mean_logp", "gold_probability", "gold_mean_logp")
# What an attempt may set of SamplingParams, worth a column; null where it left the default.
PARAMS = {
    "temperature": pa.float64(),
    "top_p": pa.float64(),
    "top_k": pa.int32(),
    "alpha": pa.float64(),
    "geodesic": pa.int32(),
    "detector": pa.int32(),
    "threshold": pa.float64(),
    "local_temperature": pa.float64(),
    "local_span": pa.int32(),
    "switch_penalty": pa.float64(),
    "switch_window": pa.int32(),
    "budget": pa.int32(),
}
_SINGLE = {
    "row": pa.string(),
    "problem": pa.string(),
    "attempt": pa.int32(),
    "task": pa.string(),
    "specialist": pa.string(),
    "ancestor": pa.string(),
    "operator": pa.string(),
    "seed": pa.int64(),
    "question": pa.string(),
    "reference": pa.string(),
    "meta": pa.string(),
    "text": pa.string(),
    "read": pa.string(),
    "answer": pa.string(),
    "grade": pa.string(),
    "grader": pa.string(),
    "earlier_grade": pa.string(),
    "earlier_grader": pa.string(),
    "truncated": pa.bool_(),
}
# What grading an attempt again may change; `earlier_grade` and `earlier_grader` then keep what stood there.
GRADING = ("answer", "grade", "grader", "earlier_grade", "earlier_grader")
_PER_TOKEN = {
    "tokens": pa.int32(),
    "forced": pa.bool_(),
    "fired": pa.bool_(),
    "sample_logp": pa.float32(),
    **dict.fromkeys(TOKEN_STATS + LINEAGE_STATS, pa.float32()),
}
_PER_CUT = {"cuts": pa.int32(), **dict.fromkeys(CONFIDENCE, pa.float32())}
SCHEMA = pa.schema(
    [
        *_SINGLE.items(),
        ("fire_position", pa.int32()),
        *PARAMS.items(),
        *((f"cost_{name}", pa.int64()) for name in COSTS),
        ("key", pa.list_(pa.uint32())),
        ("prompt", pa.list_(pa.int32())),
        *((name, pa.list_(kind)) for name, kind in (_PER_TOKEN | _PER_CUT).items()),
    ],
    metadata={"fr_store_version": str(VERSION)},
)


@dataclasses.dataclass
class Attempt:
    """One attempt at a problem, as it is kept: arrays are [T] over its own tokens, stop token included."""

    row: str
    problem: str
    attempt: int  # index among the problem's attempts by this operator
    task: str
    specialist: str  # the model that was sampled
    ancestor: str  # "": none in the loop
    operator: str
    seed: int
    question: str
    reference: str
    meta: str  # JSON of what else the grader needs of the problem
    text: str  # the new tokens, decoded
    read: str | None  # what the grader read; None: `text`
    answer: str | None  # what the grader took for the answer; None: it found none
    grade: str  # one of fr.types.GRADES
    grader: str  # version of the grader
    truncated: bool
    params: dict[str, float]  # what it sets of SamplingParams; names of PARAMS
    cost: "fr.types.Cost"  # noqa: F821 (a name for the reader: importing it would import jax)
    key: np.ndarray  # uint32
    prompt: np.ndarray  # int32, token ids
    tokens: np.ndarray  # int32
    forced: np.ndarray  # bool
    fired: np.ndarray  # bool
    sample_logp: np.ndarray  # float32
    stats: dict[
        str, np.ndarray
    ]  # float32: TOKEN_STATS; with an ancestor in the loop LINEAGE_STATS too
    # int32 and float32, [C]: `cuts` and those of CONFIDENCE that were asked for; empty without a probe
    confidence: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    earlier_grade: str | None = None  # before it was graded again
    earlier_grader: str | None = None

    @property
    def fire_position(self) -> int:
        """Index of the first token on which the detector fired; -1 if it did not."""
        return int(np.argmax(self.fired)) if np.any(self.fired) else -1


def shard_path(folder: PathLike, index: int) -> epath.Path:
    """Where shard `index` of the plan lies."""
    return epath.Path(folder) / f"shard-{index:06d}.parquet"


def write_shard(
    folder: PathLike,
    index: int,
    attempts: list[Attempt],
    more: dict[str, pa.Array] | None = None,
    again: bool = False,
) -> None:
    """Write the attempts of shard `index`: its place in the plan of the whole run, of all processes.

    Columns `more` stand behind those of SCHEMA. Raises ValueError if the shard exists (the store is append-only:
    `again` replaces what a killed run wrote) or an attempt does not fit the columns.
    """
    path = shard_path(folder, index)
    if path.exists() and not again:
        raise ValueError(f"{path} exists; the store is append-only")
    for attempt in attempts:
        _check(attempt)
    table = pa.table([_column(attempts, field) for field in SCHEMA], schema=SCHEMA)
    for name, values in (more or {}).items():
        table = table.append_column(name, values)
    _write(path, table)


def regrade_shard(
    folder: PathLike, index: int, columns: dict[str, list[str | None]]
) -> None:
    """Replace columns of GRADING in a shard, a value for each of its attempts; readers see the old one or the new.

    Raises ValueError for another column.
    """
    if others := set(columns) - set(GRADING):
        raise ValueError(f"column {min(others)!r} of a shard cannot be changed")
    path = shard_path(folder, index)
    table = _load(path, SCHEMA.names)
    for name, values in columns.items():
        array = pa.array(values, SCHEMA.field(name).type)
        table = table.set_column(
            SCHEMA.get_field_index(name), SCHEMA.field(name), array
        )
    _write(path, table)


def _write(path: epath.Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(SCHEMA.metadata),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    write_whole(path, sink.getvalue().to_pybytes())


def finished(folder: PathLike) -> set[int]:
    """Indices of the shards that are whole; raises UserError if one is of another schema version."""
    shards = _shards(folder)
    for path in shards.values():
        _load(path, columns=[])
    return set(shards)


def read_table(
    folder: PathLike,
    columns: list[str] | None = None,
    shards: Collection[int] | None = None,
) -> pa.Table:
    """Attempts in shard order as an Arrow table: all `columns` of SCHEMA and all `shards` if None.

    Raises UserError if a shard cannot be read or is of another schema version.
    """
    columns = SCHEMA.names if columns is None else columns
    empty = pa.schema(
        [SCHEMA.field(name) for name in columns], SCHEMA.metadata
    ).empty_table()
    chosen = [
        path for i, path in _shards(folder).items() if shards is None or i in shards
    ]
    return pa.concat_tables([empty, *(_load(path, columns) for path in chosen)])


def read(folder: PathLike, shards: Collection[int] | None = None) -> list[Attempt]:
    """Attempts in shard order, those of `shards` or all; raises like `read_table`."""
    from fr.types import (
        Cost,
    )  # here, because fr.types needs jax and the rest of the store does not

    table = read_table(folder, shards=shards)
    single = {
        name: table[name].to_pylist()
        for name in (*_SINGLE, *PARAMS, *(f"cost_{c}" for c in COSTS))
    }
    lists = {
        name: _arrays(table[name]) for name in ("key", "prompt", *_PER_TOKEN, *_PER_CUT)
    }
    return [
        Attempt(
            **{name: single[name][i] for name in _SINGLE},
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
                if lists[n][i] is not None
            },
            confidence={n: lists[n][i] for n in _PER_CUT if lists[n][i] is not None},
        )
        for i in range(table.num_rows)
    ]


def _shards(folder: PathLike) -> dict[int, epath.Path]:
    folder = epath.Path(folder)
    if not folder.exists():
        return {}
    # fullmatch: a temporary file that a kill left is no shard
    found = (
        (re.fullmatch(r"shard-(\d{6})\.parquet", path.name), path)
        for path in folder.iterdir()
    )
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def _load(path: epath.Path, columns: list[str]) -> pa.Table:
    with open_regular(path, MAX_SHARD) as source:
        try:
            # A flipped bit would otherwise be another number.
            file = pq.ParquetFile(source, page_checksum_verification=True)
            version = (
                (file.schema_arrow.metadata or {})
                .get(b"fr_store_version", b"none")
                .decode()
            )
            if version != str(VERSION):
                raise UserError(
                    f"{path} has schema version {version}, this code reads {VERSION}; use another --workdir"
                )
            if not pa.schema(list(file.schema_arrow)[: len(SCHEMA)]).equals(
                SCHEMA
            ):  # more may follow
                raise UserError(
                    f"{path} has other columns than this code writes; remove it"
                )
            table = file.read(columns=columns, use_threads=False).select(columns)
            table.validate(full=True)
            return table
        except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
            what = "is damaged" if path.stat().length else "is empty"
            raise UserError(
                f"{path} {what} or is no Parquet file ({first_line(error)[:80]}); "
                "remove it to make its attempts again"
            ) from error


def _check(attempt: Attempt) -> None:
    for kind, given, known in (
        ("setting", attempt.params, PARAMS),
        ("statistic", attempt.stats, TOKEN_STATS + LINEAGE_STATS),
        ("confidence", attempt.confidence, tuple(_PER_CUT)),
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
    elif name in TOKEN_STATS:
        values = [_per_token(a, name, a.stats[name]) for a in attempts]
    elif name in LINEAGE_STATS:
        values = [
            _per_token(a, name, a.stats[name]) if name in a.stats else None
            for a in attempts
        ]
    elif name in _PER_CUT:
        values = [a.confidence.get(name) for a in attempts]
    elif name in _PER_TOKEN:
        values = [_per_token(a, name, getattr(a, name)) for a in attempts]
    else:
        values = [getattr(a, name) for a in attempts]
    return pa.array(values, type=field.type)


def _per_token(attempt: Attempt, name: str, values: np.ndarray) -> np.ndarray:
    if np.shape(values) != (len(attempt.tokens),):
        raise ValueError(
            f"attempt {attempt.row}: {name} has shape {np.shape(values)} for {len(attempt.tokens)} tokens"
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
