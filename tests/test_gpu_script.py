"""The script for a GPU: parts end at their limits, and what was measured is kept."""

import json
import sys
import time

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import Job, jobs, main, run_all, without_gpu
from benchmarks.gpu_parts import gaps

QUIET = lambda line: None


def part(name: str, code: str, limit: float = 60) -> Job:
    return Job(name, limit, (sys.executable, "-S", "-c", code))


GOOD = 'print(\'a library speaks\'); print(\'{"platform": "cpu", "x": 1}\')'


def test_a_part_that_fails_or_hangs_takes_nothing_from_the_others(tmp_path):
    out = tmp_path / "new" / "gpu.json"
    seen = []
    say = lambda line: seen.append((line, json.loads(out.read_text())))
    # A child of the part that hangs would outlive it.
    hangs = (
        "import subprocess, sys, time\n"
        "sleeps = [sys.executable, '-S', '-c', 'import time; time.sleep(60)']\n"
        "subprocess.Popen(sleeps)\n"
        "time.sleep(60)"
    )
    todo = [
        part("device", GOOD),
        part("hangs", hangs, limit=0.5),
        part("dies", "raise SystemExit('no room')"),
        part("mute", "pass"),
        part("last", GOOD),
    ]
    start = time.monotonic()
    found = run_all(todo, out, 30, say)
    assert time.monotonic() - start < 25
    assert found["parts"].keys() == {"device", "last"}
    assert found["failed"] == {
        "hangs": "ended after 0 s",
        "dies": "no room",
        "mute": "it printed no result",
    }
    assert json.loads(out.read_text()) == found
    # What there was after each part had been written before the next one began.
    assert [len(kept["parts"]) for _, kept in seen] == [1, 1, 1, 1, 2]
    late = run_all(todo[:1], out, -1.0, QUIET)
    assert late["failed"] == {"device": "not started: no time was left"}


def test_without_a_gpu_it_ends_at_once_and_says_what_would_do(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        gpu, "jobs", lambda small: [part("device", GOOD), part("tests", "1 / 0")]
    )
    assert main([f"--out={tmp_path}/gpu.json"]) == 2
    assert not (tmp_path / "gpu.json").exists()
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "a CPU only" in line and "--small" in line
    assert without_gpu({"platform": "gpu"}) == ""
    assert main([f"--out={tmp_path}/gpu.json", "--small", "--parts=device"]) == 0


def test_all_parts_together_fit_ten_minutes():
    todo = jobs(small=False)
    assert todo[0].name == "device" and gpu.TOTAL < 600
    # Expected to need half of their limits.
    assert sum(job.limit for job in todo) / 2 < gpu.TOTAL
    with pytest.raises(SystemExit, match="2"):
        main(["--out=x", "--parts=speed"])


def test_gaps_by_hand():
    one, other = (
        [np.array([0.0, -1.0]), np.array([-2.0])],
        [np.zeros(2), np.array([-2.05])],
    )
    found = gaps(one, other)
    assert found["tokens"] == 3 and found["largest"] == 1.0
    assert found["mean"] == pytest.approx(1.05 / 3)
    assert found["share above 0.1"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_small_form_measures_every_part(tmp_path):
    assert main([f"--out={tmp_path}/gpu.json", "--small"]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["parts"].keys() == set(gpu.LIMITS) and not found["failed"]
    assert found["parts"]["tests"]["passed"] > 0
    assert found["parts"]["decode 128"]["rows"] == 2
    assert found["parts"]["grpo"]["metrics"][-1]["logp_gap"] < 1e-4
