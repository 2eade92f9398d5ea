"""Progress in a log, which is not a terminal."""

import io
import sys
import time

from fr import progress


def lines(monkeypatch, minute: float, work: float) -> list[str]:
    """Lines of bars where `minute` seconds lie between two lines."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "_MINUTE", minute)
    assert list(progress.Bar(range(4), desc="four")) == [0, 1, 2, 3]
    with progress.Bar(total=2, desc="two", unit="row") as bar:
        time.sleep(work)
        bar.update()
        time.sleep(work)
        bar.update()
    with progress.Bar(total=2, desc="none", disable=True) as bar:
        time.sleep(work)
    return log.getvalue().splitlines()


def test_short_work_writes_nothing_to_a_log(monkeypatch):
    assert lines(monkeypatch, 60, 0) == []


def test_long_work_writes_whole_lines_and_the_last_count_once(monkeypatch):
    found = lines(monkeypatch, 0.1, 0.35)
    assert all("\r" not in line and len(line) <= 88 for line in found)
    assert {line.split(":")[0] for line in found} == {"two"}
    counts = [count for line in found for count in range(3) if f" {count}/2 " in line]
    assert counts[0] == 0 and 1 in counts and counts[-1] == 2
    assert counts == sorted(counts) and counts.count(2) == 1
