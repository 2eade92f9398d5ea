"""Graders that raise, hang, die or fill the memory cost only their attempt's grade."""

import subprocess
import sys
import time

import pytest

from fr.bounded import Bounded, GraderFailure
from fr.tasks.grading import grade_all
from fr.types import GRADER_ERROR, RIGHT, WRONG, Problem

GRADERS = """
import os, time

def hang(text):
    time.sleep(1000)

def once(path):
    "Hangs at the first call only."
    if not os.path.exists(path):
        open(path, "w").close()
        time.sleep(1000)
    return "right"

def die(text):
    os._exit(3)

def explode(text):
    raise ZeroDivisionError(text)

def chatty(text):
    print("noise on stdout")
    return "wrong"

def modules(text):
    import sys
    return "jax" in sys.modules or "flax" in sys.modules

def memory(text):
    return len(bytearray(8 << 30))
"""


@pytest.fixture
def graders(tmp_path, monkeypatch):
    (tmp_path / "odd_graders.py").write_text(GRADERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make_one(name, seconds=20.0):
        made.append(Bounded(f"odd_graders:{name}", seconds, workers=1))
        return made[-1]

    yield make_one
    for bounded in made:
        bounded.close()


PROBLEM = Problem("p", "?", "7", "t")


class Odd:
    """A task whose grader is somebody else's code."""

    def __init__(self, grader):
        self.grader = grader

    def grade(self, problem, completion):
        """Ask the grader."""
        return self.grader(completion)


def test_hanging_grader_is_a_grader_error_after_one_retry(graders):
    bounded = graders("hang", seconds=0.3)
    start = time.monotonic()
    assert grade_all(Odd(bounded.call), [(PROBLEM, "a"), (PROBLEM, "b")]) == [
        GRADER_ERROR,
        GRADER_ERROR,
    ]
    assert time.monotonic() - start < 60


def test_time_out_is_tried_again(graders, tmp_path):
    # the first call writes its mark within the limit, which must leave room for a busy
    # machine
    assert graders("once", seconds=3).call(str(tmp_path / "mark")) == "right"


def test_dead_worker_does_not_hang_the_pool(graders):
    bounded = graders("die")
    for _ in range(2):
        with pytest.raises(GraderFailure, match="the process ended"):
            bounded.call("x")


def test_exception_is_a_grader_error_and_the_worker_lives_on(graders):
    bounded = graders("explode")
    for _ in range(2):
        with pytest.raises(GraderFailure, match="ZeroDivisionError: x"):
            bounded.call("x")

    def explode(_):
        raise RecursionError

    assert grade_all(Odd(explode), [(PROBLEM, "a")]) == [GRADER_ERROR]
    assert grade_all(Odd(bounded.call), [(PROBLEM, "a")]) == [GRADER_ERROR]


def test_a_grade_that_does_not_exist_is_a_grader_error():
    assert grade_all(
        Odd(lambda text: text), [(PROBLEM, g) for g in ("right", "good", "wrong")]
    ) == [
        RIGHT,
        GRADER_ERROR,
        WRONG,
    ]


def test_unknown_grader_is_refused_and_does_not_hang():
    with pytest.raises(GraderFailure):
        Bounded("no_such_module:grade", workers=1).call("x")


def test_workers_print_what_they_like_and_import_no_jax(graders):
    assert graders("chatty").call("x") == "wrong"
    assert graders("modules").call("x") is False


@pytest.mark.skipif(
    sys.platform != "linux", reason="the memory of a process is limited on Linux only"
)
def test_runaway_memory_fails_in_the_worker(graders):
    with pytest.raises(GraderFailure, match="MemoryError"):
        graders("memory").call("x")


def test_worker_ends_with_its_parent(graders):
    bounded = graders("chatty")
    bounded.call("x")
    worker = bounded._idle.queue[0].process
    worker.stdin.close()  # what the end of the parent does
    assert worker.wait(timeout=30) == 0


def test_importing_the_grader_process_costs_no_jax():
    code = "import sys, fr.worker, fr.bounded; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
