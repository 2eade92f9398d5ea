"""Plans: the rows of each shard of a folder, fixed when a row is first planned.

`FOLDER.plan.parquet` lists every row with its shard and a hash of its prompt and key.
It is beside the folder, which holds attempts alone. A larger plan adds rows in new
shards; the rows of existing shards are compared one by one and keep their place. So a
run can grow, and a changed input is noticed.
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
class PlannedRow:
    """A row of a plan: its name, its prompt and key, and its group."""

    row: str  # unique name
    prompt: np.ndarray  # int32, token ids
    key: np.ndarray  # uint32, of the row's random draws
    group: int = 0  # rows of different groups do not share a shard


Shards = list[list[tuple[str, str]]]  # rows by shard: (name, hash of prompt and key)


def plan_path(folder: PathLike) -> epath.Path:
    """Path of a folder's plan.

    Args:
        folder: The folder of shards.

    Returns:
        `FOLDER.plan.parquet`, beside the folder.
    """
    folder = epath.Path(folder)
    return folder.parent / f"{folder.name}.plan.parquet"


def extend_plan(
    folder: PathLike, rows: Sequence[PlannedRow], size: int
) -> list[list[int]]:
    """Extend the plan of a folder to all rows of a run and check its shards.

    Args:
        folder: The folder of shards.
        rows: All rows of the run; new ones are cut into shards in this order, by group.
        size: Rows per new shard.

    Returns:
        For every shard, the indices of its rows in `rows`.

    Raises:
        ValueError: Two rows have one name.
        UserError: A planned row has another prompt or key than before, or is not among
            `rows`, or a shard does not hold its rows.
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
                f"{folder}: holds {row}, which this run does not plan: "
                f"a run may grow, not shrink; {_another(folder)}"
            )
        if planned[row][1] != hashed:
            raise UserError(
                f"{folder}: {row} was asked something else (its question, the "
                "tokenizer, the chat template or the failure that it starts from has "
                f"changed); {_another(folder)}"
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
    check_shards(folder, shards)
    return [[planned[row][0] for row, _ in shard] for shard in shards]


def is_planned(folder: PathLike, rows: Sequence[PlannedRow]) -> bool:
    """Say whether a folder's plan has all rows of a run.

    Args:
        folder: The folder of shards.
        rows: The rows.

    Returns:
        True if it has; False also without a plan.
    """
    planned = {row for shard in read_plan(folder) or [] for row, _ in shard}
    return all(asked.row in planned for asked in rows)


def complete(folder: PathLike, script: str) -> list[int]:
    """List the shards of a folder after checking that it is whole.

    Args:
        folder: The folder of shards.
        script: Command that makes missing shards, for the message.

    Returns:
        Indices of the shards, in order; all that are there, for a folder without a
        plan.

    Raises:
        UserError: A shard is missing, or does not hold the rows of its place in the
            plan.
    """
    there, shards = sorted(store.finished(folder)), read_plan(folder)
    if shards is None:
        return there
    check_shards(folder, shards)
    if missing := sorted(set(range(len(shards))) - set(there)):
        raise UserError(
            f"{store.shard_path(folder, missing[0])} is missing; "
            f"run {script} again, which makes it"
        )
    return there


def check_shards(folder: PathLike, shards: Shards) -> None:
    """Check that every shard holds the rows of its place in the plan.

    Args:
        folder: The folder of shards.
        shards: The plan.

    Raises:
        UserError: A shard does not; the message names it and the fault.
    """
    for index in sorted(store.finished(folder)):
        path = store.shard_path(folder, index)
        if index >= len(shards):
            raise UserError(
                f"{path} is of another run: the plan has {len(shards)} shards; "
                f"{_REMEDY}"
            )
        found = _held(folder, index)
        if found != shards[index]:
            raise UserError(f"{path} {_fault(found, shards, index)}; {_REMEDY}")


def read_plan(folder: PathLike) -> Shards | None:
    """Read the plan of a folder.

    Args:
        folder: The folder of shards.

    Returns:
        Rows by shard; None if there is no plan.

    Raises:
        UserError: The file is damaged.
    """
    path = plan_path(folder)
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
            shards[i].append((each[0], each[1]))
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
    write_whole(plan_path(folder), sink.getvalue().to_pybytes())


def _adopt(folder: PathLike) -> Shards:
    """The plan of a folder from before there were plans: the rows of its shards."""
    there = sorted(store.finished(folder))
    for place, index in enumerate(there):
        if place != index:
            raise UserError(
                f"{store.shard_path(folder, place)} is missing, and the folder is of "
                "an older version, which has no plan; use another --workdir"
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
    count = f"{len(names)} rows that are not the {len(wanted)}"
    return f"holds {count} of its place in the plan"


def _another(folder: PathLike) -> str:
    return f"use another --workdir, or --redo={epath.Path(folder).name}"
