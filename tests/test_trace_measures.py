"""Measures of left out reasoning, of confidence along it, and of regimes, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from fr import tasks
from fr.config import Config, TaskConfig
from fr.evaluation import trace_measures  # noqa: F401  (it registers them)
from fr.evaluation.measures import MEASURES, MeasureContext

PROBLEM = tasks.make(TaskConfig(name="countdown")).problems("test", 1)[0]
CONTEXT = MeasureContext(Config(), None)


def _attempt(text: str, answer: str | None, grade: str = "wrong", own=(), cut=False):
    found = {"own_probability": np.array(own, np.float32)} if len(own) else {}
    return SimpleNamespace(
        text=text, answer=answer, grade=grade, truncated=cut, confidence=found
    )


ATTEMPTS = [
    _attempt("answer 3 + 4", "3 + 4", own=(0.5, 0.5, 0.25)),
    _attempt("3 + 4 = 7 , 7 - 2 = 5 no answer 3 + 4 - 2", "3 + 4 - 2", own=(0, 1, 1)),
    _attempt("3 + 4 = 7 , 7 - 2 = 5 yes answer ...", "( 3 + 4 ) - 2", "right"),
    _attempt("3 + 4 = 8 , 8 - 2", None, "unparsed", cut=True),
]


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("stepless", {"stepless": (1, 3)}),
        ("confidence", {"c_0": (0.5, 2), "c_end": (1.25, 2)}),
        (
            "regimes",
            {
                "regime/execution": (1, 3),
                "regime/premature": (1, 3),
                "regime/underthinking": (1, 3),
                "regime/wandering": (0, 3),
            },
        ),
    ],
)
def test_measures_by_hand(name, wanted):
    assert MEASURES[name](PROBLEM, ATTEMPTS, CONTEXT) == wanted
    # A problem without a case counts for nothing.
    assert all(among == 0 for _, among in MEASURES[name](PROBLEM, [], CONTEXT).values())
