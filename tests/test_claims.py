"""Processes claim shards one at a time: each shard is claimed once, slow processes make
fewer, and a dead one's shard is made by another.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fr import distributed, locks, store, workdir
from fr.config import Config, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.runs import stages
from fr.runs.attempts import make_attempts
from fr.runs.claims import Claim, claimed
from fr.runs.planned import plan_attempt
from fr.runs.run import Run
from fr.sampling.devices import Devices
from fr.tasks.countdown import Countdown
from fr.types import ROLLOUT
from tests.test_store import shard_of

ROOT = pathlib.Path(__file__).parents[1]
# A process that makes the shards of a folder: slowly, or never. It prints each.
MAKER = """
import sys, time
from fr import distributed
from fr.runs.claims import claimed
from tests.test_store import shard_of

folder, count, seconds, heartbeat = sys.argv[1], *map(float, sys.argv[2:])
distributed.limits.heartbeat = heartbeat
with claimed(folder, range(int(count))) as claims:
    for claim in claims:
        print(claim.index, flush=True)
        time.sleep(seconds)
        claim.write(shard_of(claim.index))
"""


def maker(folder, count: int, seconds: float, heartbeat: float) -> subprocess.Popen:
    words = [sys.executable, "-c", MAKER, *map(str, (folder, count, seconds))]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*words, str(heartbeat)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )


def make(folder, count: int, seconds: float = 0.0, elsewhere=lambda i: None):
    """Make shards in this thread; returns the claimed ones."""
    found = []
    with claimed(folder, range(count), elsewhere) as claims:
        for claim in claims:
            found.append(claim.index)
            time.sleep(seconds)
            claim.write(shard_of(claim.index))
    return found


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole(folder: pathlib.Path, count: int) -> dict[str, bytes]:
    """The folder of one process."""
    assert make(folder, count) == [*range(count)]
    found = content(folder)
    assert sorted(found) == [f"shard-{i:06d}.parquet" for i in range(count)]
    return found


@pytest.fixture
def heartbeat(monkeypatch):
    """Seconds without a renewal after which a holder is gone."""
    monkeypatch.setattr(distributed.limits, "heartbeat", 2.0)
    return 2.0


def in_threads(count: int, call) -> list:
    found = []
    together = threading.Barrier(count)

    def run():
        together.wait()
        found.append(call())

    threads = [threading.Thread(target=run) for _ in range(count)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len(found) == count
    return found


def take(folder, index: int, generation: int) -> Claim | None:
    claim = Claim(folder, index, generation)
    return claim if claim.take() else None


def left_by(folder: pathlib.Path, index: int, generation: int = 0, **changes) -> None:
    """The claim of a dead process of this host, unless it is changed."""
    folder.mkdir(exist_ok=True)
    owner = {"host": socket.gethostname(), "pid": 2**22 + 1, "token": "dead"}
    path = folder / f".shard-{index:06d}.claim-{generation}"
    path.write_text(json.dumps(owner | {"beat": 0.0} | changes))


def test_each_shard_is_claimed_once(tmp_path):
    found = in_threads(8, lambda: make(tmp_path / "many", 50))
    assert sorted(i for own in found for i in own) == [*range(50)]
    assert content(tmp_path / "many") == whole(tmp_path / "one", 50)


def test_the_slower_of_two_processes_makes_fewer(tmp_path):
    several = tmp_path / "several"
    slow, fast = (maker(several, 24, seconds, 60) for seconds in (0.5, 0.02))
    counts = [len(p.communicate(timeout=100)[0].split()) for p in (slow, fast)]
    assert slow.returncode == fast.returncode == 0
    assert sum(counts) == 24 and 0 < 2 * counts[0] < counts[1]
    assert content(several) == whole(tmp_path / "one", 24)


def test_the_shard_of_a_silent_process_is_made_by_another(tmp_path, heartbeat, capsys):
    several, told = tmp_path / "several", []
    dead = maker(several, 6, 1000, heartbeat)
    first = int(dead.stdout.readline())
    dead.send_signal(signal.SIGKILL)  # not waited for: its number is still in use
    began = time.monotonic()
    assert (
        make(several, 6, elsewhere=told.append)
        == [1, 2, 3, 4, 5, first]
        == [
            *range(1, 6),
            0,
        ]
    )
    assert time.monotonic() - began > heartbeat and not told
    assert dead.wait() == -signal.SIGKILL
    line = f"shard-000000.parquet is made again: process {dead.pid} on "
    assert line in capsys.readouterr().err
    assert content(several) == whole(tmp_path / "one", 6)


def test_a_process_that_was_only_slow_does_no_harm(tmp_path, heartbeat):
    several, told = tmp_path / "several", []
    slow = maker(several, 3, 0.5, heartbeat)
    slow.stdout.readline()
    slow.send_signal(signal.SIGSTOP)
    assert make(several, 3, elsewhere=told.append) == [1, 2, 0]
    slow.send_signal(signal.SIGCONT)
    assert slow.communicate(timeout=100)[0] == "" and slow.returncode == 0
    assert content(several) == whole(tmp_path / "one", 3) and not told


def test_two_that_write_a_shard_at_once_do_not_share_a_file(tmp_path, monkeypatch):
    folder, together = tmp_path / "several", threading.Barrier(2)
    folder.mkdir()
    holders, seen = [take(folder, 0, generation) for generation in range(2)], set()

    def both_are_writing(file):
        together.wait()
        seen.update(path.name for path in folder.glob("*.tmp"))
        together.wait()

    monkeypatch.setattr(workdir, "sync", both_are_writing)
    turns = iter(holders)
    in_threads(2, lambda: next(turns).write(shard_of(0)))
    [claim.release() for claim in holders]
    assert seen == {".shard-000000.parquet.tmp", ".shard-000000.parquet.1.tmp"}
    monkeypatch.undo()
    assert content(folder) == whole(tmp_path / "one", 1)


def test_a_claim_is_renewed_while_its_holder_is_at_work(tmp_path, heartbeat):
    slow, told = maker(tmp_path, 1, 2.2 * heartbeat, heartbeat), []
    assert slow.stdout.readline() == "0\n"
    assert make(tmp_path, 1, elsewhere=told.append) == [] and told == [0]
    assert slow.wait() == 0


def test_the_claim_of_an_idle_process_is_not_renewed(tmp_path, monkeypatch):
    claim = take(tmp_path, 0, 0)
    distributed.beat()
    assert claim.works()
    monkeypatch.setattr(distributed.limits, "patience", 0.0)
    assert not claim.works()
    claim.release()


def test_a_claim_that_went_with_its_folder_writes_nothing(tmp_path):
    claim = take(tmp_path, 0, 0)
    claim.path.unlink()
    claim.write(shard_of(0))
    claim.release()
    assert not claim.works() and os.listdir(tmp_path) == []


def test_of_many_that_take_over_one_succeeds(tmp_path):
    left_by(tmp_path, 0)
    (winner,) = filter(None, in_threads(16, lambda: take(tmp_path, 0, 1)))
    winner.write(shard_of(0))
    winner.release()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-000000.parquet"]


def test_the_claims_of_a_killed_run_are_taken_over_at_once(tmp_path):
    several = tmp_path / "several"
    left_by(several, 1)
    # Killed twice, then while it wrote.
    left_by(several, 2), left_by(several, 2, 1)
    (several / ".shard-000002.parquet.1.tmp").write_bytes(b"half")
    # A container that is started again has the name and the number of its last run.
    left_by(several, 3, pid=os.getpid())
    # Killed while it made a claim.
    (several / ".shard-000000.claim-0.abc").write_text("")
    began = time.monotonic()
    assert sorted(make(several, 4)) == [*range(4)]
    assert time.monotonic() - began < distributed.limits.heartbeat / 2
    assert content(several) == whole(tmp_path / "one", 4)


def test_another_host_is_given_its_own_heartbeat(tmp_path, heartbeat):
    left_by(tmp_path, 0, host="elsewhere", heartbeat=4.0)
    left_by(tmp_path, 1, host="elsewhere")
    began = time.monotonic()
    assert make(tmp_path, 2) == [1, 0]
    assert time.monotonic() - began > 4.0


def test_shards_of_others_are_told_once(tmp_path):
    store.write_shard(tmp_path, 1, shard_of(1))
    told = []
    assert make(tmp_path, 3, elsewhere=told.append) == [0, 2] and told == [1]


def test_an_error_gives_the_shard_back(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, range(3)) as claims:
        for claim in claims:
            assert locks.is_own(locks.read_owner(claim.path))
            1 / 0
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        make(tmp_path / "file" / "rollouts", 1)


def test_processes_begin_with_different_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 3)
    first = []
    for index in range(3):
        monkeypatch.setattr(distributed, "index", lambda: index)
        first.append(make(tmp_path / str(index), 7))
    assert first == [
        [0, 3, 6, 4, 1, 5, 2],
        [1, 4, 5, 2, 6, 3, 0],
        [2, 5, 6, 3, 0, 4, 1],
    ]


# ------------------------------------------------------------------ joining


@pytest.fixture
def sampled(tiny_model, plain_engine, tmp_path):
    """Makes the rollouts of a run of three shards in a folder."""

    def sample(name: str, temperature: float = 1.0) -> Run:
        config = Config(
            task=TaskConfig(problems=3),
            sampling=SamplingConfig(
                rollouts=2, max_new_tokens=6, shard_rows=2, temperature=temperature
            ),
        )
        task, devices = Countdown(config.task), Devices("one")
        asked = task.problems("test", 3)
        engines = {(False, False, False): plain_engine}
        run = Run(
            *(config, tmp_path / name, task, asked, tiny_model, None, devices),
            _engines=engines,
        )
        of = lambda p: run.specialist.encode(task.prompt(p))
        make_attempts(
            run,
            [
                plan_attempt(run, of(p), p, ROLLOUT, i, {}, False)
                for p in asked
                for i in range(2)
            ],
            "rollouts",
        )
        return run

    return sample


def test_a_process_that_joins_makes_the_shards_that_are_missing(
    sampled, tmp_path, monkeypatch, capsys
):
    sampled("whole")
    write, written = store.write_shard, []

    def dies(*args, **given):
        if written:
            raise KeyboardInterrupt
        written.append(write(*args, **given))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "write_shard", dies)
        sampled("killed")
    killed = tmp_path / "killed"
    before = {p.name: p.read_bytes() for p in killed.iterdir() if p.is_file()}
    assert os.listdir(killed / "rollouts") == ["shard-000000.parquet"]
    with distributed.joined(60, 60):
        sampled("killed")
    assert "rollouts is whole; this process made 2 of 2" in capsys.readouterr().out
    assert content(killed / "rollouts") == content(tmp_path / "whole" / "rollouts")
    assert before == {p.name: p.read_bytes() for p in killed.iterdir() if p.is_file()}


def test_a_process_joins_no_stage_that_is_not_begun_or_is_another(sampled, tmp_path):
    with distributed.joined(60, 0.1), pytest.raises(UserError) as refused:
        sampled("run")
    assert "--join: no run has begun rollouts/ of" in str(refused.value)
    assert not (tmp_path / "run").exists()
    run = sampled("run")
    with distributed.joined(60, 60):
        run.follow("rollouts")
        with pytest.raises(UserError, match="sampling.temperature is 1.0 there"):
            sampled("run", temperature=0.5)
        stages.drop(run.workdir, ["rollouts"])
        with pytest.raises(UserError, match="was removed meanwhile"):
            run.follow("rollouts")


def test_a_stage_that_is_made_again_elsewhere_gets_no_shard(tmp_path):
    def follow():
        raise UserError("the stage has gone")

    with pytest.raises(UserError, match="has gone"):
        with claimed(tmp_path, range(3), follow=follow) as claims:
            list(claims)
    assert os.listdir(tmp_path) == []


def test_joining_leaves_other_flags_to_the_run():
    with pytest.raises(UserError, match="leave --redo to that one"):
        with distributed.joined(60, 60, ["redo"]):
            pass
    assert not distributed.is_joined() and distributed.is_first()
