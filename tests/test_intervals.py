"""Intervals have one spelling in every JSON file that the commands leave."""

import json

import pytest
from interval_records import other_spellings

from fr.stats.bootstrap import Interval

GOOD = Interval(1.0, 0.5, 2.0).as_dict()


def test_the_record_passes():
    rows = [{"interval": GOOD, "p": 0.5}, {"gap": Interval(0.0).as_dict(), "n": 3}]
    found = {"rows": rows, "by": {"retry": GOOD, "hint": Interval(None).as_dict()}}
    assert list(other_spellings(json.loads(json.dumps(found)))) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"mean": 1, "low": 0, "high": 2},
        {"value": 1, "low": 0},
        {"low": 0, "high": 2},
        GOOD | {"p": 0.5},
        GOOD | {"low": 3.0},
        {"value": 1, "lo": 0, "hi": 2},
        {"ci": [0, 2]},
        {"interval": [0, 2]},
        {"accuracy_lower": 0.1},
        {"p2.5": 0, "p97.5": 2},
        {"q025": 0},
        {"low_rate": 0.1},
    ],
)
def test_any_other_spelling_is_found(bad):
    assert len(list(other_spellings({"rows": [{"x": bad}]}))) > 0
