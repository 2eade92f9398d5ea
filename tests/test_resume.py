"""A run that is killed, and killed again, ends with the bytes of one that was not."""

import os
import pathlib
import random
import signal
import subprocess
import sys

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


def _start(workdir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "scripts/reproduce.py", "--config=configs/quickstart.py", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in SHORT.items()]
    with open(workdir.with_suffix(".log"), "a") as log:
        # A group of its own, so that the kill reaches grader processes too.
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def _finish(workdir: pathlib.Path) -> None:
    assert _start(workdir).wait(timeout=600) == 0, workdir.with_suffix(".log").read_text()[-2000:]


def _results(workdir: pathlib.Path) -> dict[str, bytes]:
    files = [workdir / name for name in COMPARED]
    for folder in ("rollouts", "scores", "attempts", "plots"):
        files += sorted((workdir / folder).iterdir())
    files += sorted((workdir / "specialist").glob("*.safetensors"))
    return {str(file.relative_to(workdir)): file.read_bytes() for file in files}


def _killed_and_resumed(folder: pathlib.Path, seed: int, kills: int) -> None:
    _finish(folder / "whole")
    generator = random.Random(seed)
    moments = 0
    while moments < kills:
        process = _start(folder / "killed")
        try:
            process.wait(timeout=generator.uniform(4, 25))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments += 1
        else:
            assert process.returncode == 0
            break  # it was done before the moment came
    _finish(folder / "killed")
    whole, killed = _results(folder / "whole"), _results(folder / "killed")
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


def test_one_kill(tmp_path):
    _killed_and_resumed(tmp_path, seed=1, kills=1)


@pytest.mark.slow
def test_five_kills(tmp_path):
    _killed_and_resumed(tmp_path, seed=0, kills=5)
