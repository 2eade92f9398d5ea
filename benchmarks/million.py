"""A store of any size for the viewer: rows of a real run, repeated and renamed.

    python -m benchmarks.million --source=runs/quick --workdir=runs/million

Tokens and statistics of the source's attempts are joined to rows of one length, and
shards are written with the options of `fr.store`. Every problem has 16 rollouts and
34 attempts of three operators.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute  # noqa: F401
import pyarrow.parquet as pq
from absl import app, flags
from etils import epath

from fr.store import shard_path
from fr.store_columns import PER_TOKEN, SCHEMA
from fr.workdir import write_json, write_whole

SOURCE = flags.DEFINE_string("source", None, "A run with attempts of an ancestor.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the store is written.")
ROWS = flags.DEFINE_integer("attempts", 1_000_000, "Attempts of both folders.")
TOKENS = flags.DEFINE_integer("tokens", 200, "Tokens of an attempt.")
_SHARD = 4096  # rows
_VARIED = 16  # one shard of this number has real tokens, each other shard one value
_OPERATORS = {"retry": 12, "sparse_steer": 12, "local_temp": 10}
_ROLLOUTS = 16


def main(_) -> None:
    """Write rollouts/ and attempts/."""
    source, workdir = epath.Path(SOURCE.value), epath.Path(WORKDIR.value)
    long = _long_rows(source / "attempts")
    plain = _constant(long.take(pa.array(np.arange(_SHARD) % long.num_rows)))
    problems = ROWS.value // (_ROLLOUTS + sum(_OPERATORS.values()))
    kinds = [(o, i) for o, n in _OPERATORS.items() for i in range(n)]
    plans = {
        "rollouts": [("rollout", i) for i in range(_ROLLOUTS)],
        "attempts": kinds,
    }
    for folder, plan in plans.items():
        rows = problems * len(plan)
        for index, first in enumerate(range(0, rows, _SHARD)):
            some = range(first, min(first + _SHARD, rows))
            names = [(r // len(plan), *plan[r % len(plan)]) for r in some]
            own = long if index % _VARIED == 0 else plain
            write_whole(
                shard_path(workdir / folder, index), _shard(own, names, own is long)
            )
    config = json.loads((source / "config.json").read_text())
    write_json(workdir / "config.json", config)
    for path in (source / "specialist").glob("tokenizer*"):
        write_whole(workdir / "specialist" / path.name, path.read_bytes())


def _long_rows(folder: epath.Path) -> pa.Table:
    """Rows of one length that have every statistic, joined from the rows of a run."""
    table = pa.concat_tables(pq.read_table(p) for p in sorted(folder.glob("*.parquet")))
    table = table.filter(pa.compute.is_valid(table["demotion"]))
    length = TOKENS.value
    flat = {n: table[n].combine_chunks().flatten() for n in PER_TOKEN}
    count = len(flat["tokens"]) // length
    offsets = pa.array(np.arange(count + 1) * length, pa.int32())
    lists = {
        name: pa.ListArray.from_arrays(offsets, values[: count * length])
        for name, values in flat.items()
    }
    words = " ".join(table["text"].to_pylist()).split(" ")
    per = len(words) // count
    text = [" ".join(words[i * per : (i + 1) * per]) for i in range(count)]
    return pa.table({**lists, "text": text})


def _constant(long: pa.Table) -> pa.Table:
    """The same rows with the first value of every list at all tokens."""
    table = long
    for i, name in enumerate(long.column_names):
        if name in PER_TOKEN:
            lists = long[name].combine_chunks()
            first = pa.repeat(lists.values[0], len(lists.values))
            same = pa.ListArray.from_arrays(lists.offsets, first)
            table = table.set_column(i, name, same)
    return table


def _shard(long: pa.Table, names: list[tuple[int, str, int]], real: bool) -> bytes:
    """One shard; each of `names` is a problem, an operator and a number."""
    draw = np.random.default_rng(names[0][0])
    varied = pa.array(draw.integers(long.num_rows, size=len(names)))
    # The first rows are as good where all are equal, and cost no copy.
    rows = long.take(varied) if real else long.slice(0, len(names))
    easy = {p: np.random.default_rng(p).random() for p, *_ in names}
    problem = [f"countdown-{p}-{p % 97}-to-{p % 89}" for p, *_ in names]
    same = {"task": "countdown", "specialist": "sft-0", "ancestor": "countdown"}
    same |= {"meta": "{}", "grader": "fr 2", "truncated": False, "seed": 0}
    same |= {"key": [1, 2], "prompt": [19, 23, 24, 10, 101, 11]}
    same |= {"cost_generated": TOKENS.value, "fire_position": -1}
    given = {name: [value] * len(names) for name, value in same.items()}
    given |= {
        "row": [f"{p}/{o}/{i}" for p, (_, o, i) in zip(problem, names)],
        "problem": problem,
        "attempt": [i for *_, i in names],
        "operator": [o for _, o, _ in names],
        "question": [f"Reach {p % 89} from {p}, " + "5 7 9 " * 20 for p, *_ in names],
        "reference": [str(p) for p, *_ in names],
        "answer": [f"( {p} + 1 )" for p, *_ in names],
        "grade": ["right" if draw.random() < easy[p] else "wrong" for p, *_ in names],
    }
    columns = []
    for field in SCHEMA:
        if field.name in PER_TOKEN:
            columns.append(rows[field.name].cast(field.type))
        elif field.name == "text":
            columns.append(long["text"].take(varied))
        elif field.name in given:
            columns.append(pa.array(given[field.name], field.type))
        elif field.name.startswith("cost_"):
            columns.append(pa.array([0] * len(names), field.type))
        else:
            columns.append(pa.nulls(len(names), field.type))
    sink = pa.BufferOutputStream()
    table = pa.table(columns, schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


if __name__ == "__main__":
    flags.mark_flags_as_required(["source", "workdir"])
    app.run(main)
