"""The store keeps every attempt, in files that other tools open; a work folder belongs
to one run.
"""

import dataclasses
import glob
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr import store, workdir
from fr.errors import UserError
from fr.sampling.structs import LineageStats, TokenStats
from fr.types import Cost

CONFIDENCE = {
    "cuts": np.array([0, 2, 2], np.int32),
    "own_probability": np.array([0, 0.5, 1], np.float32),
    "own_mean_logp": np.array([-9, -2, 0], np.float32),
}


def attempt(
    index: int, length: int, lineage: bool = False, probed: bool = False
) -> store.Attempt:
    random = np.random.default_rng(index)
    names = store.TOKEN_STATS + (store.LINEAGE_STATS if lineage else ())
    fired = np.zeros(length, bool)
    fired[length // 2 :] = lineage
    return store.Attempt(
        row=f"p{index // 2}/retry/{index % 2}",
        problem=f"p{index // 2}",
        attempt=index % 2,
        task="sums",
        specialist="s",
        ancestor="a" if lineage else "",
        operator="retry",
        seed=7,
        question="What is 2 + 2?",
        reference="4",
        meta='{"group": "2"}',
        text="2 + 2 = 5\n¿año?",
        read=None if index else "so 2 + 2 = 5\n¿año?",
        answer="5" if index % 2 else None,
        grade="wrong",
        grader="1",
        truncated=index == 1,
        params={"temperature": np.float32(0.5), "geodesic": 1, "threshold": np.inf}
        if lineage
        else {},
        cost=Cost(prefill=9, generated=length),
        key=np.array([index, 2**32 - 1], np.uint32),
        prompt=np.arange(5, dtype=np.int32),
        tokens=random.integers(0, 9, length).astype(np.int32),
        forced=np.arange(length) == 0,
        fired=fired,
        sample_logp=np.full(length, -np.inf, np.float32),
        stats={name: random.normal(size=length).astype(np.float32) for name in names},
        confidence=CONFIDENCE if probed else {},
    )


def shard_of(index: int) -> list[store.Attempt]:
    """The attempts of a shard, the same for all its makers."""
    return [attempt(2 * index, 3), attempt(2 * index + 1, 5)]


ATTEMPTS = [
    attempt(0, 4),
    attempt(1, 0, probed=True),
    attempt(2, 6, lineage=True),
    attempt(3, 1),
]


def same(a: store.Attempt, b: store.Attempt) -> None:
    for field in dataclasses.fields(store.Attempt):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name in ("stats", "confidence"):
            assert x.keys() == y.keys()
            assert all(
                x[n].dtype == y[n].dtype and np.array_equal(x[n], y[n]) for n in x
            )
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype and np.array_equal(x, y), field.name
        else:
            assert x == y, field.name


def test_columns_are_those_of_the_records():
    names = lambda record: tuple(f.name for f in dataclasses.fields(record))
    assert store.TOKEN_STATS == names(TokenStats)
    assert store.LINEAGE_STATS == names(LineageStats)
    assert store.COSTS == names(Cost)


def test_what_is_written_is_read_in_shard_order(tmp_path):
    store.write_shard(tmp_path, 10, ATTEMPTS[2:])
    store.write_shard(tmp_path, 2, ATTEMPTS[:2])
    back = store.read(tmp_path)
    assert len(back) == 4
    for a, b in zip(ATTEMPTS, back):
        same(a, b)
    assert [a.fire_position for a in back] == [-1, -1, 3, -1]
    assert store.read_table(tmp_path, ["problem"]).to_pydict() == {
        "problem": ["p0", "p0", "p1", "p1"]
    }
    assert store.finished(tmp_path) == {2, 10}


def test_the_most_probable_tokens_have_columns_that_outlast_another_grade(tmp_path):
    top = [
        np.arange(2 * len(a.tokens), dtype=np.int32).reshape(-1, 2) for a in ATTEMPTS
    ]
    kept = [
        dataclasses.replace(a, top_tokens=t, top_logp=-t.astype(np.float32))
        for a, t in zip(ATTEMPTS, top)
    ]
    reason = pa.array(["a", "b", "c", "d"])
    store.write_shard(tmp_path, 0, kept, {"reason": reason})
    for a, b in zip(ATTEMPTS, store.read(tmp_path)):
        same(a, b)
    columns = ["top_tokens", "top_logp", "reason"]
    table = store.read_table(tmp_path, columns)
    assert table["top_tokens"].to_pylist() == [t.tolist() for t in top]
    assert table["top_logp"].to_pylist() == [(-t.astype(float)).tolist() for t in top]
    store.regrade_shard(tmp_path, 0, {"grade": ["wrong"] * 4})
    assert store.read_table(tmp_path, columns).equals(table)
    with pytest.raises(ValueError, match="top_logp has 1 places"):
        short = dataclasses.replace(kept[0], top_logp=np.zeros((1, 2), np.float32))
        store.write_shard(tmp_path, 1, [short])


def test_same_attempts_give_the_same_bytes(tmp_path):
    store.write_shard(tmp_path / "a", 0, ATTEMPTS)
    store.write_shard(tmp_path / "a", 1, [])
    store.write_shard(tmp_path / "b", 0, store.read(tmp_path / "a"))
    assert (
        store.shard_path(tmp_path / "a", 0).read_bytes()
        == store.shard_path(tmp_path / "b", 0).read_bytes()
    )


def test_folder_without_shards_is_empty(tmp_path):
    assert store.finished(tmp_path / "none") == set()
    assert store.read(tmp_path / "none") == []


def test_left_overs_of_a_kill_are_ignored_and_replaced(tmp_path):
    left_over = tmp_path / ".shard-000000.parquet.tmp"
    left_over.write_bytes(b"half a sha")
    assert store.finished(tmp_path) == set() and store.read(tmp_path) == []
    store.write_shard(tmp_path, 0, ATTEMPTS)
    assert [p.name for p in tmp_path.iterdir()] == ["shard-000000.parquet"]


def test_kill_while_writing_leaves_no_shard(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("etils.epath.gpath.PosixGPath.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write_shard(tmp_path, 0, ATTEMPTS)
    assert store.finished(tmp_path) == set()


def test_store_is_append_only(tmp_path):
    store.write_shard(tmp_path, 0, ATTEMPTS)
    with pytest.raises(ValueError, match="append-only"):
        store.write_shard(tmp_path, 0, [])


def test_what_does_not_fit_is_refused(tmp_path):
    short = dataclasses.replace(ATTEMPTS[0], forced=np.zeros(3, bool))
    unknown = dataclasses.replace(ATTEMPTS[0], params={"colour": 1.0})
    with pytest.raises(ValueError, match="forced has shape .3,. for 4 tokens"):
        store.write_shard(tmp_path, 0, [short])
    with pytest.raises(ValueError, match="colour"):
        store.write_shard(tmp_path, 0, [unknown])
    for bad, why in (
        ({"x_probability": np.zeros(2)}, "x_prob"),
        ({"cuts": np.zeros(2), "own_mean_logp": np.zeros(3)}, "every cut"),
    ):
        with pytest.raises(ValueError, match=why):
            store.write_shard(
                tmp_path, 0, [dataclasses.replace(ATTEMPTS[0], confidence=bad)]
            )
    assert not list(tmp_path.iterdir())


def test_other_versions_and_other_files_are_refused(tmp_path):
    path = store.shard_path(tmp_path, 3)
    of = lambda version: store.SCHEMA.with_metadata(
        {"fr_store_version": version}
    ).empty_table()
    # 1 had no confidence, 2 no question.
    for table, found in (
        (of("99"), "99"),
        (of("1"), "1"),
        (of("2"), "2"),
        (pa.table({"row": ["x"]}), "none"),
    ):
        pq.write_table(table, path)
        for look in (store.finished, store.read):
            with pytest.raises(
                UserError, match=f"shard-000003.parquet has schema version {found}"
            ):
                look(tmp_path)
    path.write_bytes(b"not parquet")
    with pytest.raises(
        UserError, match="is damaged or is not a Parquet file .*; remove it"
    ):
        store.read(tmp_path)


@pytest.mark.parametrize("tool", ["pandas", "polars", "duckdb"])
def test_other_tools_open_the_shards(tmp_path, tool):
    module = pytest.importorskip(tool)
    store.write_shard(tmp_path, 0, ATTEMPTS[:2])
    store.write_shard(tmp_path, 1, ATTEMPTS[2:])
    files = f"{tmp_path}/*.parquet"
    if tool == "pandas":
        frame = module.concat(
            [module.read_parquet(path) for path in sorted(glob.glob(files))]
        )
        tokens, demotion = frame["tokens"].tolist(), frame["demotion"].tolist()
    elif tool == "polars":
        frame = module.read_parquet(files)
        tokens, demotion = frame["tokens"].to_list(), frame["demotion"].to_list()
    else:
        rows = module.sql(
            f"select tokens, demotion from read_parquet('{files}') order by row"
        ).fetchall()
        tokens, demotion = [row[0] for row in rows], [row[1] for row in rows]
    assert [list(row) for row in tokens] == [a.tokens.tolist() for a in ATTEMPTS]
    assert np.array_equal(
        np.asarray(demotion[2], np.float32), ATTEMPTS[2].stats["demotion"]
    )
    assert demotion[0] is None


def test_store_needs_no_jax():
    code = "import sys, fr.store, fr.workdir; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- work folder ---


def test_json_is_sorted_and_strict(tmp_path):
    workdir.write_json(
        tmp_path / "a" / "x.json", {"b": np.float32(0.5), "a": np.arange(2)}
    )
    assert (
        tmp_path / "a" / "x.json"
    ).read_text() == '{\n  "a": [\n    0,\n    1\n  ],\n  "b": 0.5\n}\n'
    for bad in (float("nan"), np.float64("inf")):
        with pytest.raises(ValueError):
            workdir.write_json(tmp_path / "y.json", {"a": bad})
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_work_folder_belongs_to_one_config(tmp_path):
    mine = {"seed": 0, "task": {"name": "sums", "digits": 1}, "operators": ("retry",)}
    workdir.claim_workdir(tmp_path, mine)
    workdir.claim_workdir(tmp_path, json.loads(json.dumps(mine)))
    before = (tmp_path / "config.json").read_bytes()
    for other, line in (
        (
            {**mine, "task": {"name": "gcd", "digits": 1}},
            'config.task.name is "sums" there and "gcd" here',
        ),
        ({**mine, "operators": ()}, 'config.operators is ["retry"] there and [] here'),
        ({**mine, "new": 1}, "config.new is absent there and 1 here"),
    ):
        with pytest.raises(UserError) as refused:
            workdir.claim_workdir(tmp_path, other)
        assert line in str(refused.value) and "use another --workdir" in str(
            refused.value
        )
    assert (tmp_path / "config.json").read_bytes() == before


def test_work_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be"):
        workdir.claim_workdir(tmp_path / "file", {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        workdir.claim_workdir(tmp_path, {})
