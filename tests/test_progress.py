"""Progress in a log, which is no terminal."""

import io
import sys

from fr import progress


def lines(monkeypatch, minute: float) -> list[str]:
    """What three bars write where `minute` seconds lie between two lines."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "_MINUTE", minute)
    assert list(progress.Bar(range(4), desc="four")) == [0, 1, 2, 3]
    with progress.Bar(total=2, desc="two", unit="row") as bar:
        bar.update()
        bar.update()
    with progress.Bar(total=2, desc="none", disable=True) as bar:
        bar.update()
    return log.getvalue().splitlines()


def test_short_work_writes_nothing_to_a_log(monkeypatch):
    assert lines(monkeypatch, 60) == []


def test_long_work_writes_whole_lines_and_the_last_count_once(monkeypatch):
    found = lines(monkeypatch, 0)
    assert all("\r" not in line and len(line) <= 88 for line in found)
    assert [line.split(":")[0] for line in found][-2:] == ["two", "two"]
    assert "1/2" in found[-2] and "2/2" in found[-1]
    assert sum("4/4" in line for line in found) == 1
