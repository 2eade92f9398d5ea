"""The audit set of graders: completions as models write them, with the grade that a
careful reader gives.
"""

import collections
import importlib.util
from concurrent.futures import ThreadPoolExecutor

import audit_set
import pytest

HAS_GYM = importlib.util.find_spec("reasoning_gym") is not None
MISSES = 0.01  # of what a reader can grade: right answers lost, wrong ones unparsed


@pytest.fixture(scope="module")
def graded() -> list[tuple[dict, str]]:
    """(record, grade) of the set; threads only wait for the graders' processes."""
    records = [
        r
        for r in audit_set.load()
        if HAS_GYM or not r["task"].startswith("reasoning_gym")
    ]
    for task in {record["task"] for record in records}:
        audit_set.grader(task)
    with ThreadPoolExecutor(8) as pool:
        return list(zip(records, pool.map(audit_set.grade, records)))


def test_no_answer_that_is_not_right_is_graded_right(graded):
    assert [r for r, got in graded if got == "right" != r["grade"]] == []


def test_at_most_one_percent_of_right_answers_is_lost(graded):
    right = [(r, got) for r, got in graded if r["grade"] == "right"]
    lost = [
        (r["task"], r["reference"], r["completion"], got)
        for r, got in right
        if got != "right"
    ]
    assert len(lost) <= MISSES * len(right), lost


def test_at_most_one_percent_of_readable_answers_is_unparsed(graded):
    readable = [(r, got) for r, got in graded if r["grade"] in ("right", "wrong")]
    unread = [
        (r["task"], r["completion"], got)
        for r, got in readable
        if got not in ("right", "wrong")
    ]
    assert len(unread) <= MISSES * len(readable), unread


def test_the_set_holds_every_task_and_many_answers_that_are_not_right():
    records = audit_set.load()
    grades = collections.Counter(record["grade"] for record in records)
    assert set(grades) == {"right", "wrong", "unparsed", audit_set.NOT_RIGHT}
    assert len(records) >= 1300 and 1 - grades["right"] / len(records) >= 0.35
    tasks = {record["task"].partition(":")[0] for record in records}
    arithmetic = {"sums", "gcd", "letters", "word_problems"}
    assert tasks >= arithmetic | {
        "countdown",
        "questions",
        "gsm8k",
        "math500",
        "cruxeval",
        "gpqa",
    }
    assert (
        len({r["task"] for r in records if r["task"].startswith("reasoning_gym:")})
        >= 10
    )
    assert sum("source" in record for record in records) >= 40  # what real models wrote


def test_no_record_of_the_set_comes_twice():
    keys = [
        (r["task"], r["question"], r["reference"], r["completion"])
        for r in audit_set.load()
    ]
    assert [key for key, times in collections.Counter(keys).items() if times > 1] == []


def test_the_page_of_graders_shows_the_stored_counts(monkeypatch):
    docs = audit_set.FOLDER.parents[1] / "docs"
    monkeypatch.syspath_prepend(str(docs / "generate"))
    table = "\n".join(importlib.import_module("render").table("graders").lines())
    assert table in (docs / "results" / "answers.md").read_text(encoding="utf-8")
