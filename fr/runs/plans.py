"""Which rows the shards of a folder hold: fixed when a row is first planned, so that a run can grow and be checked.

`FOLDER.plan.parquet` lists every row with its shard and a hash of what it is asked. It stands beside the folder,
whose files are then attempts and nothing else. A larger plan adds rows in new shards; those that are there are
compared with it row by row, and keep their place.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr import store
from fr.errors import UserError, first_line
from fr.files import read_regular
from fr.workdir import PathLike, write_whole

_LARGEST = 1 << 32  # bytes of a plan
_SCHEMA = pa.schema(
    [("shard", pa.int32()), ("row", pa.string()), ("asked", pa.string())]
)
_REMEDY = "remove it and start the same command again"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A row as it is planned: its name, what it is asked, and the group that it shares shards with."""

    row: str
    prompt: np.ndarray  # int32, token ids
    key: np.ndarray  # uint32
    group: int = 0


Shards = list[
    list[tuple[str, str]]
]  # of each shard its rows: (row, hash of what it is asked)


def path_of(folder: PathLike) -> epath.Path:
    """Where the plan of a folder of shards stands."""
    folder = epath.Path(folder)
    return folder.parent / f"{folder.name}.plan.parquet"


def settle(folder: PathLike, rows: Sequence[Asked], size: int) -> list[list[int]]:
    """Extend the plan of `folder` to `rows` and check the shards that are there.

    Args:
      folder: of the shards.
      rows: all rows of the run, in the order in which new ones are cut into shards, by group.
      size: rows of one new shard.

    Returns, for every shard, the places of its rows in `rows`. Raises UserError for a row that is asked something
    else than it was, or is not planned any more, and for a shard that does not hold its rows.
    """
    shards = read_plan(folder) or _adopt(folder)
    planned = {
        asked.row: (place, _hash(asked.prompt, asked.key))
        for place, asked in enumerate(rows)
    }
    if len(planned) < len(rows):
        raise ValueError("two rows of a plan have one name")
    for row, hashed in (each for shard in shards for each in shard):
        if row not in planned:
            raise UserError(
                f"{folder}: holds {row}, which this run does not plan: a run may grow, not shrink; {_another(folder)}"
            )
        if planned[row][1] != hashed:
            raise UserError(
                f"{folder}: {row} was asked something else (its question, the tokenizer, the chat template or the "
                f"failure that it starts from has changed); {_another(folder)}"
            )
    known = {row for shard in shards for row, _ in shard}
    for group in sorted({asked.group for asked in rows}):
        new = [a for a in rows if a.group == group and a.row not in known]
        shards += [
            [(a.row, planned[a.row][1]) for a in new[i : i + size]]
            for i in range(0, len(new), size)
        ]
    if len(known) < len(rows):
        _write(folder, shards)
    check(folder, shards)
    return [[planned[row][0] for row, _ in shard] for shard in shards]


def complete(folder: PathLike, script: str) -> list[int]:
    """Indices of the shards of a folder, all of which are there and hold their rows.

    Raises UserError that names the first shard which is missing, foreign, cut, doubled or out of its place.
    """
    there, shards = sorted(store.finished(folder)), read_plan(folder)
    if shards is None:
        return there
    check(folder, shards)
    if missing := sorted(set(range(len(shards))) - set(there)):
        raise UserError(
            f"{store.shard_path(folder, missing[0])} is missing; run {script} again, which makes it"
        )
    return there


def check(folder: PathLike, shards: Shards) -> None:
    """Raise UserError for the first shard in a folder that does not hold the rows of its place in the plan."""
    for index in sorted(store.finished(folder)):
        path = store.shard_path(folder, index)
        if index >= len(shards):
            raise UserError(
                f"{path} is of another run: the plan has {len(shards)} shards; {_REMEDY}"
            )
        found = _held(folder, index)
        if found != shards[index]:
            raise UserError(f"{path} {_fault(found, shards, index)}; {_REMEDY}")


def read_plan(folder: PathLike) -> Shards | None:
    """The plan of a folder; None where there is none. Raises UserError for a damaged file."""
    path = path_of(folder)
    if not path.exists():
        return None
    data = read_regular(path, _LARGEST)
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        if not table.schema.equals(_SCHEMA):
            raise ValueError("other columns")
        table.validate(full=True)
        shard, row, asked = (table[name].to_pylist() for name in _SCHEMA.names)
        shards: Shards = [[] for _ in range(max(shard, default=-1) + 1)]
        for i, *each in zip(shard, row, asked):
            shards[i].append(tuple(each))
        if shard != sorted(shard) or not all(shards):
            raise ValueError("shards out of order")
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        IndexError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{path}: is damaged ({first_line(error)[:80]}); {_another(folder)}"
        ) from error
    return shards


def _write(folder: PathLike, shards: Shards) -> None:
    rows = [(i, *each) for i, shard in enumerate(shards) for each in shard]
    columns = [
        pa.array(column, kind) for column, kind in zip(zip(*rows), _SCHEMA.types)
    ]
    sink = pa.BufferOutputStream()
    table = pa.table(columns, schema=_SCHEMA)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_whole(path_of(folder), sink.getvalue().to_pybytes())


def _adopt(folder: PathLike) -> Shards:
    """The plan of a folder from before there were plans: what its shards hold."""
    there = sorted(store.finished(folder))
    for place, index in enumerate(there):
        if place != index:
            raise UserError(
                f"{store.shard_path(folder, place)} is missing, and the folder is of an older version, which has no "
                "plan; use another --workdir"
            )
    return [_held(folder, index) for index in there]


def _held(folder: PathLike, index: int) -> list[tuple[str, str]]:
    table = store.read_table(folder, ["row", "prompt", "key"], [index]).combine_chunks()
    prompts, keys = (_lists(table[name]) for name in ("prompt", "key"))
    hashes = (_hash(prompt, key) for prompt, key in zip(prompts, keys))
    return list(zip(table["row"].to_pylist(), hashes))


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    lists = (
        pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )
    values, offsets = (
        lists.values.to_numpy(zero_copy_only=False),
        lists.offsets.to_numpy(),
    )
    return [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]


def _hash(prompt, key) -> str:
    digest = hashlib.sha256(np.asarray(prompt, "<i4").tobytes())
    digest.update(np.asarray(key, "<u4").tobytes())
    return digest.hexdigest()[:16]


def _fault(found: list[tuple[str, str]], shards: Shards, index: int) -> str:
    for other, shard in enumerate(shards):
        if other != index and found == shard:
            return f"holds the rows of shard {other}"
    names, wanted = [row for row, _ in found], [row for row, _ in shards[index]]
    if names == wanted:
        place = next(i for i, (a, b) in enumerate(zip(found, shards[index])) if a != b)
        return f"holds another prompt for {names[place]}"
    if sorted(names) == sorted(wanted):
        return "holds its rows in another order"
    return f"holds {len(names)} rows that are not the {len(wanted)} of its place in the plan"


def _another(folder: PathLike) -> str:
    return f"use another --workdir, or --redo={epath.Path(folder).name}"
