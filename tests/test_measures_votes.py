"""Measures of votes, of answers' entropy, of costs and of branches, by hand."""

import types

import numpy as np
import pytest

from fr.config import Config, EvaluationConfig
from fr.evaluation import measures_branches, measures_votes  # noqa: F401
from fr.evaluation.measures import MEASURES, MeasureContext, is_share
from fr.types import Cost, Problem

PROBLEM = Problem(
    "p", "3 7 10 -> 49 :", "( 10 - 3 ) * 7", "countdown", {"numbers": [3, 7, 10]}
)
CONTEXT = MeasureContext(Config(evaluation=EvaluationConfig(ks=(1, 2, 3, 16))), None)
RIGHT, WRONG = "( 10 - 3 ) * 7", "10 + 3 * 7"


def attempt(number, answer, margin=0.5, **cost):
    """An attempt with an answer of three tokens, or without one."""
    text = f"answer {answer}" if answer else "10 - 3 = 7 ,"
    grade = {RIGHT: "right", None: "unparsed"}.get(answer, "wrong")
    tokens = np.array([0, *[1] * 3 * (answer is not None), 2])
    stats = {"margin": np.full(len(tokens), margin)}
    return types.SimpleNamespace(
        attempt=number,
        text=text,
        read=None,
        grade=grade,
        tokens=tokens,
        stats=stats,
        cost=Cost(**cost),
    )


def measured(name, *attempts):
    """The sums of a measure."""
    return MEASURES[name](PROBLEM, attempts, CONTEXT)


def test_votes_by_hand():
    found = measured("votes", *(attempt(0, a) for a in (RIGHT, RIGHT, WRONG, None)))
    # Pairs: 2 of 6 tie, 2 with an abstention are right, 1 is wrong, 1 is right.
    assert found.keys() == {"vote@2", "vote@3"}
    assert found["vote@2"] == (pytest.approx((2 * 0.5 + 2 + 1) / 6), 1.0)
    # Triples: RRW and RR- are right, RW- twice a tie.
    assert found["vote@3"] == (pytest.approx((2 + 2 * 0.5) / 4), 1.0)


def test_entropy_is_of_stated_answers_alone():
    answers = (RIGHT, RIGHT, WRONG, WRONG, None)
    found = measured("answer_entropy", *(attempt(0, a) for a in answers))
    assert found == {"answer_entropy": (pytest.approx(np.log(2)), 1.0)}
    assert measured("answer_entropy", attempt(0, None)) == {
        "answer_entropy": (0.0, 0.0)
    }
    assert not is_share("answer_entropy") and is_share("vote@2")


def test_cost_leaves_probes_out():
    one = attempt(0, RIGHT, prefill=5, generated=20, forced=2, probe=99, scored=9)
    other = attempt(1, RIGHT, prefill=5, generated=10, ancestor=15)
    assert measured("cost", one, other) == {"cost": (66.0, 2.0)}


def test_branches_by_hand(monkeypatch):
    monkeypatch.setattr(
        "fr.evaluation.measures_branches.answer_span",
        lambda problem, tokens, codec: (1, 4) if len(tokens) > 2 else (0, 0),
    )
    ladder = [
        attempt(0, WRONG, 0.9),
        attempt(1, RIGHT, 0.5),
        attempt(2, RIGHT, 0.6),
        attempt(3, None, 1.0),
        attempt(4, "3 + 7 + 10", 0.2),
    ]
    found = measured("branches", *ladder[::-1])  # the order of the store does not count
    assert found["branch_greedy"] == found["branch_margin"] == (0.0, 1.0)
    assert found["branch_summed"] == found["branch_vote"] == (1.0, 1.0)
    assert found["margin_right"] == (pytest.approx(1.1), 2.0)
    assert found["margin_wrong"] == (pytest.approx(1.1), 2.0)
    nothing = measured("branches", attempt(0, None))
    assert all(nothing[f"branch_{n}"] == (0.0, 1.0) for n in ("margin", "vote"))
