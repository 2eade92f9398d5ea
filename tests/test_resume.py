"""A run that is killed, and killed again, ends with the bytes of one that was not."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHORT = {
    "task.problems": 12,
    "sampling.rollouts": 4,
    "sampling.slots": 16,
    "sampling.shard_rows": 24,
    "sampling.max_new_tokens": 48,
    "intervention.attempts": 2,
    "training.steps": 30,
    "training.batch": 4,
    "training.warmup_steps": 5,
    "training.checkpoint_every": 5,
    "routing.bootstrap": 50,
    "routing.splits": 10,
    "routing.permutations": 10,
}
COMPARED = ("summary.json", "routing.json", "profiles.csv")


LONGER = {
    "task.problems": 48,
    "training.steps": 120,
    "intervention.attempts": 4,
    "sampling.shard_rows": 96,
}


def _start(workdir: pathlib.Path, settings: dict) -> subprocess.Popen:
    command = [
        sys.executable,
        "scripts/reproduce.py",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
    ]
    command += [f"--config.{name}={value}" for name, value in settings.items()]
    with open(workdir.with_suffix(".log"), "a") as log:
        # A group of its own, so that the kill reaches grader processes too.
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )


def _finish(workdir: pathlib.Path, settings: dict) -> None:
    assert _start(workdir, settings).wait(timeout=600) == 0, workdir.with_suffix(
        ".log"
    ).read_text()[-2000:]


def _results(workdir: pathlib.Path) -> dict[str, bytes]:
    files = [workdir / name for name in COMPARED]
    for folder in ("rollouts", "scores", "attempts", "plots"):
        files += sorted((workdir / folder).iterdir())
    files += sorted((workdir / "specialist").glob("*.safetensors"))
    found = {str(file.relative_to(workdir)): file.read_bytes() for file in files}
    # The page names the commit, which may move while this test runs, and when its
    # comparison was declared.
    page = (workdir / "report.html").read_bytes()
    return found | {
        "report.html": re.sub(rb"revision [\w-]+|declared on [\w:-]+", b"", page)
    }


def _killed_and_resumed(
    folder: pathlib.Path, settings: dict, seed: int, kills: int
) -> None:
    began = time.monotonic()
    _finish(folder / "whole", settings)
    # After start-up, so that each kill meets some stage at work; not so late that a
    # resumed run could be done.
    earliest, latest = 6.0, max(8.0, 0.35 * (time.monotonic() - began))
    generator = random.Random(seed)
    for _ in range(kills):
        process = _start(folder / "killed", settings)
        with pytest.raises(
            subprocess.TimeoutExpired
        ):  # or it was done before its moment came
            process.wait(timeout=generator.uniform(earliest, latest))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _finish(folder / "killed", settings)
    whole, killed = _results(folder / "whole"), _results(folder / "killed")
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


def test_one_kill(tmp_path):
    _killed_and_resumed(tmp_path, SHORT, seed=1, kills=1)


@pytest.mark.slow
def test_five_kills(tmp_path):
    _killed_and_resumed(tmp_path, SHORT | LONGER, seed=0, kills=5)
