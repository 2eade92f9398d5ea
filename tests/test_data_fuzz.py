"""Damaged files of questions and shards are read, or refused in one line: no crash, no
hang, no other content.
"""

import csv
import io
import json
import pathlib
import random
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_store import ATTEMPTS

from fr import store
from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make

ROWS = [
    {
        "id": f"n{i}",
        "question": f"What is {i} + 2? 😀",
        "answer": i + 2,
        "split": ("train", "test")[i % 2],
    }
    for i in range(24)
]


def originals(folder: pathlib.Path) -> dict[str, bytes]:
    """A good file of each format; two layouts of Parquet."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(ROWS[0]))
    table.writeheader()
    table.writerows(ROWS)
    arrow = pa.Table.from_pylist(ROWS)
    pq.write_table(arrow, folder / "a.parquet", compression="zstd", row_group_size=7)
    pq.write_table(
        arrow,
        folder / "b.parquet",
        compression="none",
        use_dictionary=False,
        version="1.0",
    )
    return {
        "x.jsonl": "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS
        ).encode(),
        "x.csv": text.getvalue().encode(),
        "a.parquet": (folder / "a.parquet").read_bytes(),
        "b.parquet": (folder / "b.parquet").read_bytes(),
    }


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Some of: flipped bits, other bytes, a cut, a repeated, a removed or a foreign
    piece.
    """
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, size = draw.randrange(len(out) + 1), draw.choice((1, 2, 4, 16, 200))
        how = draw.randrange(7)
        if how == 0 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif how == 1:
            out[at : at + size] = draw.randbytes(size)
        elif how == 2:
            del out[at:]
        elif how == 3:
            out[at:at] = out[at : at + size]
        elif how == 4:
            del out[at : at + size]
        elif how == 5:
            odd = (
                b"\0",
                b"\r",
                b'"',
                b"\\ud83d",
                b"\xff\xfe",
                b",",
                b"[" * 99,
                b"9" * 5000,
                b"NaN",
                b"\xe2\x80\xa8",
            )
            out[at:at] = draw.choice(odd)
        else:
            out[at : at + 4] = draw.choice(
                (b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff")
            )
    return bytes(out)


def read_questions(path: pathlib.Path) -> None:
    task = make(TaskConfig(name="questions", path=str(path)))
    for problems in task._splits.values():
        for problem in problems:
            assert (
                problem.question.strip()
                and problem.answer
                and len(problem.id.splitlines()) == 1
            )
            f"{problem.id}{problem.question}{problem.answer}".encode()


def tried(read, path: pathlib.Path, data: bytes, name: str) -> bool:
    """True if a file is accepted.

    Anything but one line or its content fails the test and names the seed.
    """
    path.write_bytes(data)
    begin = time.process_time()
    try:
        read(path)
        accepted = True
    except UserError as error:
        accepted = False
        assert str(error) and "\n" not in str(error) and len(str(error)) < 700, (
            name,
            str(error),
        )
    except BaseException as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    assert time.process_time() - begin < 20, name
    return accepted


def fuzz(tmp_path, seeds) -> dict[str, int]:
    files, accepted = originals(tmp_path), {}
    for name, data in files.items():
        assert tried(read_questions, tmp_path / name, data, name)
        for seed in seeds:
            draw = random.Random(f"{name}/{seed}")
            path = tmp_path / f"m-{name}"
            good = tried(
                read_questions, path, mutated(data, draw), f"{name}, seed {seed}"
            )
            accepted[name] = accepted.get(name, 0) + good
    return accepted


def test_damaged_files_of_questions_are_refused_in_one_line(tmp_path, capsys):
    fuzz(tmp_path, range(25))


@pytest.mark.slow
def test_a_thousand_damaged_files_of_questions(tmp_path, capsys):
    accepted = fuzz(tmp_path, range(1000, 1250))
    with capsys.disabled():
        print(f"\nseeds 1000 to 1249 of each format; accepted: {accepted}")


def fuzz_shards(tmp_path, seeds) -> int:
    """No damaged shard is read as another one than was written."""
    store.write_shard(tmp_path, 0, ATTEMPTS)
    path = store.shard_path(tmp_path, 0)
    data, whole = path.read_bytes(), store.read_table(tmp_path)

    def read(_: pathlib.Path) -> None:
        store.finished(tmp_path)
        store.read(tmp_path)
        assert store.read_table(tmp_path).equals(whole)

    changed = (mutated(data, random.Random(f"shard/{seed}")) for seed in seeds)
    return sum(
        tried(read, path, each, f"shard, seed {seed}")
        for seed, each in zip(seeds, changed)
        if each != data
    )


def test_damaged_shards_are_refused_in_one_line(tmp_path):
    fuzz_shards(tmp_path, range(40))


@pytest.mark.slow
def test_a_thousand_damaged_shards(tmp_path, capsys):
    accepted = fuzz_shards(tmp_path, range(1000, 2000))
    with capsys.disabled():
        print(f"\nseeds 1000 to 1999; read with the same content: {accepted}")
