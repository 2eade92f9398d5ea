"""One run at a time in a folder: a second is refused by name, a dead one is ignored."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from fr import locks
from fr.errors import UserError
from fr.workdir import write_json

HOLDER = """
import sys, time
from fr import locks
with locks.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_is_told_who_has_the_folder(holder, tmp_path):
    with pytest.raises(
        UserError, match=f"is in use by process {holder.pid} on .* since 20"
    ):
        with locks.hold(tmp_path / "run"):
            pass
    assert os.listdir(tmp_path / "run") == [locks.NAME]


def test_a_killed_run_leaves_no_lock(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks.hold(tmp_path / "run"):
        assert (
            json.loads((tmp_path / "run" / locks.NAME).read_text())["pid"]
            == os.getpid()
        )


def test_a_folder_that_nothing_was_written_to_is_removed(tmp_path):
    with locks.hold(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / locks.NAME).exists()
    assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), locks.hold(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "x").write_text("")
        1 / 0
    assert os.listdir(tmp_path / "a" / "b") == ["x"]


def test_who_holds_a_folder_may_hold_it_again(tmp_path):
    with locks.hold(tmp_path / "run"):
        with locks.hold(tmp_path / "." / "run"):
            pass
        assert (tmp_path / "run" / locks.NAME).exists()
    assert not (tmp_path / "run").exists()


def test_of_many_at_once_one_at_a_time_holds_the_folder(tmp_path):
    inside, seen, refused = [], [], []

    def contend():
        for _ in range(50):
            try:
                with locks.hold(tmp_path / "run"):
                    inside.append(1)
                    seen.append(len(inside))
                    inside.pop()
            except UserError:
                refused.append(1)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert set(seen) == {1} and len(seen) + len(refused) == 200


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be used"),
        locks.hold(tmp_path / "file" / "run"),
    ):
        pass


def marker(folder, **changes):
    return locks._Marker(epath.Path(folder), settle=0.0, beat=0.01, **changes)


def test_a_marker_refuses_a_second_and_goes_with_its_owner(tmp_path):
    first = marker(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        marker(tmp_path)
    first.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change", [{"pid": 2**22 + 1}, {"host": "elsewhere", "beat": 0.0}]
)
def test_a_marker_of_a_dead_owner_is_taken_over(tmp_path, change):
    first = marker(tmp_path)
    left = json.loads((tmp_path / ".lock.json").read_text())
    first.release()
    (tmp_path / ".lock.json").write_text(json.dumps(left | change))
    marker(tmp_path).release()
    assert os.listdir(tmp_path) == []


def left_by(folder, **changes) -> dict:
    first = marker(folder)
    left = json.loads((folder / ".lock.json").read_text()) | changes
    first.release()
    write_json(folder / ".lock.json", left)
    return left


def test_a_live_marker_of_another_host_is_respected(tmp_path):
    left = left_by(tmp_path, host="elsewhere")
    renew = lambda: write_json(tmp_path / ".lock.json", left | {"beat": time.time()})
    alive = threading.Timer(0.3, renew)
    alive.start()
    with pytest.raises(UserError, match="on elsewhere"):
        locks._Marker(epath.Path(tmp_path), settle=0.0, beat=0.2)
    alive.join()


def test_a_silent_marker_of_another_host_is_taken_over(tmp_path, capsys):
    left_by(tmp_path, host="elsewhere")
    marker(tmp_path).release()
    assert os.listdir(tmp_path) == []
    assert "on elsewhere still at work?" in capsys.readouterr().err
