"""Measures of underthinking and wandering, on attempts written by hand."""

import dataclasses
import types

import numpy as np
import pytest

from fr.config import Config
from fr.errors import UserError
from fr.evaluation import accuracy  # noqa: F401  registers all measures
from fr.evaluation.measures import (
    MEASURES,
    MeasureContext,
    group_of,
    is_share,
    prepare_measures,
    sums_of,
)
from fr.tasks.countdown import countdown_tokenizer, problem_id
from fr.tasks.formats import build_probe
from fr.types import RIGHT, WRONG, Problem

NUMBERS, TARGET = [3, 7, 10], 49
FOUND = "10 - 3 = 7 , 7 + 7 = 14 no 7 * 7 = 49 yes answer ( 10 - 3 ) * 7"
LEFT = "10 - 3 = 7 up 10 + 3 = 13 , 13 + 7 = 20 up answer 7 + 7"


@pytest.fixture(scope="module")
def codec():
    tokenizer = countdown_tokenizer()
    return types.SimpleNamespace(
        encode=lambda text: tuple(tokenizer(text)["input_ids"]),
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        stop_tokens=(1,),
        opens_thought=False,
        vocab=128,
    )


@pytest.fixture(scope="module")
def problem():
    meta = {"numbers": NUMBERS, "target": TARGET}
    return Problem(problem_id(NUMBERS, TARGET), "", "", "countdown", meta)


def attempt(codec, problem, text, grade, gold=None, ended=True):
    """A finished attempt; `gold` has the probability at each cut of its thoughts."""
    tokens = np.array([*codec.encode(text), *[1] * ended])
    confidence = {}
    if gold is not None:
        cuts = build_probe(problem, tokens, codec, cuts_at="thoughts").cuts
        assert len(cuts) == len(gold)
        confidence = {"cuts": np.array(cuts), "gold_probability": np.array(gold)}
    return types.SimpleNamespace(
        text=text,
        tokens=tokens,
        grade=grade,
        truncated=not ended,
        confidence=confidence,
    )


def measured(codec, problem, attempts, *names, by=(), cuts_at="thoughts"):
    config = Config()
    asks = dataclasses.replace(
        config.evaluation, measures=names, by=by, cuts_at=cuts_at
    )
    config = dataclasses.replace(config, evaluation=asks)
    prepared = prepare_measures(names, [(problem, attempts)])
    return sums_of(problem, attempts, MeasureContext(config, codec, prepared))


def test_underthinking_by_hand(codec, problem):
    """LEFT has 22 tokens without the stop, thoughts end after 5 and 17 of them, and a
    switch word ends the reasoning: a cut more, at 18.
    """
    responses = [
        attempt(codec, problem, LEFT, WRONG, [0.5, 0.9, 1.0]),  # correct at 5 of 22
        attempt(codec, problem, LEFT, WRONG, [0.4, 0.6, 0.0]),  # correct at 17
        attempt(codec, problem, LEFT, WRONG, [0.4, 0.4, 0.9]),  # no thought is correct
        attempt(codec, problem, FOUND, RIGHT, [1.0]),  # right: not counted
        attempt(codec, problem, "answer 7 + 7", WRONG, [0.9]),  # no thought at all
    ]
    assert responses[0].confidence["cuts"].tolist() == [5, 17, 18]
    assert len(responses[0].tokens) - 1 == 22
    found = measured(codec, problem, responses, "underthinking")
    assert found["underthinking"] == (pytest.approx(2 - (5 + 17) / 22), 4)
    assert found["left_correct"] == (2, 4)
    assert found["thoughts"] == (2 + 2 + 2 + 1, 5)
    assert found["thought_tokens"] == (3 * 17 + 18, 7)
    assert not is_share("tip:thoughts[solutions=1]") and is_share("tip:underthinking")


def test_underthinking_leaves_out_what_was_not_probed(codec, problem):
    found = measured(
        codec, problem, [attempt(codec, problem, LEFT, WRONG)], "underthinking"
    )
    assert found["underthinking"] == (0, 0) and found["thoughts"] == (2, 1)
    with pytest.raises(UserError, match="cuts_at = 'thoughts'"):
        measured(codec, problem, [], "underthinking", cuts_at="shares")


def test_confidence_before_the_reasoning_needs_cuts_at_shares(codec, problem):
    with pytest.raises(UserError, match="cuts_at = 'shares'"):
        measured(codec, problem, [], "confidence")
    assert measured(codec, problem, [], "confidence", cuts_at="shares") == {
        "c_0": (0, 0),
        "c_end": (0, 0),
    }


def test_a_truncated_response_has_no_stop_token(codec, problem):
    cut = attempt(codec, problem, "10 - 3 = 7 up 10 + 3 = 13 ,", WRONG, [1, 0], False)
    found = measured(codec, problem, [cut], "underthinking")
    assert found["underthinking"] == (pytest.approx(1 - 5 / 12), 1)


def test_wandering_by_hand(codec, problem):
    attempts = [
        attempt(codec, problem, FOUND, RIGHT),
        attempt(codec, problem, LEFT, WRONG),
        attempt(codec, problem, "answer ( 10 - 3 ) * 7", RIGHT),  # no search
    ]
    found = measured(
        codec, problem, attempts, "wandering", by=("solutions", "operands")
    )
    assert found["valid"] == (2, 2) and found["effective"] == (1, 2)
    assert found["necessary"] == found["systematic"] == (1, 2)
    assert found["procedure_omission"] == (1, 2) and found["revisiting"] == (0, 2)
    # LEFT left the start with 2 of 9 children, (7, 7) with 0 of 3, (13, 7) with 1 of 3.
    assert found["omission"] == (12, 15)
    assert found["omission[numbers=2]"] == (5, 6)
    assert found["omission[numbers=3]"] == (7, 9)
    # One way leads to 49, with two visits: FOUND made the move, LEFT did not.
    assert found["hits_left"] == (1, 2)
    assert found["predicted"] == (pytest.approx(2 * 2 / 9 * 1 / 6), 2)
    assert found["predicted_informed"] == (pytest.approx(2 * 2 / 9 * 1 / 2), 2)
    assert found["accuracy[solutions=2]"] == (2, 3)
    assert found["effective[operands=3]"] == found["effective"]
    # Metrics that are split already are not split again.
    assert not [name for name in found if name.count("[") > 1]


def test_groups_of_countdown(problem):
    easy = Problem("e", "", "", "countdown", {"numbers": [2, 2, 4, 4], "target": 8})
    assert group_of(problem, "solutions") == "2" and group_of(problem, "operands") == 3
    assert group_of(easy, "solutions") == "5+" and group_of(easy, "operands") == 4
    other = Problem("s", "", "3", "sums", {})
    with pytest.raises(UserError, match="of countdown"):
        group_of(other, "solutions")
    with pytest.raises(UserError, match="of countdown"):
        prepare_measures(["wandering"], [(other, [types.SimpleNamespace()])])


def test_every_measure_prepares_itself_alone():
    assert prepare_measures(["cost"], []) == {}
    assert prepare_measures(["wandering", "cost"], []).keys() == {"wandering"}
    assert {"wandering", "underthinking"} <= set(MEASURES)
