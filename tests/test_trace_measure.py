"""The measure of plans and traces, counted by hand."""

import dataclasses
import types

import pytest

from fr.errors import UserError
from fr.evaluation import trace_measures  # noqa: F401  (it registers them)
from fr.evaluation.measures import MEASURES
from fr.types import Problem

COUNTDOWN = Problem("x", "", "", "countdown", {"numbers": [3, 7, 10], "target": 49})
VALID = "10 - 3 = 7 , 7 * 7 = 49 yes"
FALSE = "10 - 3 = 8 , 7 * 7 = 49 yes"
MISSES = "10 - 3 = 7 , 7 + 7 = 14 no"


def attempt(text: str, grade: str):
    """The part of an attempt that the measure reads."""
    return types.SimpleNamespace(text=f"{text} answer ( 10 - 3 ) * 7", grade=grade)


def test_shares_are_counted_by_plan_and_trace():
    attempts = [
        attempt(VALID, "right"),
        attempt(VALID, "right"),
        attempt(VALID, "wrong"),
        attempt(FALSE, "right"),
        attempt(MISSES, "right"),
        attempt("", "right"),
        attempt(MISSES, "wrong"),
        attempt("", "unparsed"),
    ]
    found = MEASURES["traces"](COUNTDOWN, attempts, None)
    assert {among for _, among in found.values()} == {8.0}
    assert {name: counted for name, (counted, _) in found.items()} == {
        "plan_valid": 5,
        "trace_valid": 3,
        "both": 2,
        "plan_only": 3,
        "trace_only": 1,
        "neither": 2,
        # 8 - 3 has no 7 to multiply: the second step of FALSE has one operand only
        "trace_legal": 5,
        "trace_true": 5,
        "trace_reaches": 3,
    }


def test_a_task_without_a_check_is_refused():
    other = dataclasses.replace(COUNTDOWN, task="sums")
    with pytest.raises(UserError, match="cannot check traces of 'sums'.*countdown"):
        MEASURES["traces"](other, [], None)
