"""Regimes of failed traces, and the gates that choose among them."""

import dataclasses
import random
from types import SimpleNamespace

import numpy as np
import pytest

from fr import tasks
from fr.config import Config, PolicyConfig, RewardsConfig, TaskConfig
from fr.diagnosis.trace_regimes import regime_of
from fr.errors import UserError
from fr.rewards import TERMS
from fr.tasks.countdown_rules import extract_expression
from fr.tasks.countdown_traces import TRACES
from fr.training.gates import GATES, TERMS_OF, gate_of
from fr.training.rollouts import GradedRollout
from fr.types import GRADER_ERROR, RIGHT, WRONG

TASK = TaskConfig(name="countdown")
PROBLEM = tasks.make(TASK).problems("train", 1)[0]
CAUSES = {
    "false": ("7 + 3 = 11 , 11 - 2 = 9 no answer ( 7 + 3 ) - 2", "execution"),
    "at once": ("answer ( 7 + 3 ) - 2", "premature"),
    "one step of two": ("7 + 3 = 10 , answer ( 7 + 3 ) - 2", "premature"),
    "one candidate": (
        "7 + 3 = 10 , 10 - 2 = 8 no answer ( 7 + 3 ) - 2",
        "underthinking",
    ),
    "three": (
        "7 + 3 = 10 , 10 - 2 = 8 no 10 * 2 = 20 no 10 + 2 = 12 up answer ( 7 + 3 ) - 2",
        "wandering",
    ),
    "no answer": ("7 + 3 = 10 , 10 - 2 = 8 no", "wandering"),
    "prose": ("I think so. However, maybe. The answer is 12", "premature"),
    "one thought": ("3 + 9 = 12 is what there is. The answer is 12", "underthinking"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_regimes_by_hand(case):
    text, wanted = CAUSES[case]
    answer = (
        None
        if case == "no answer"
        else "12"
        if "The answer" in text
        else extract_expression(text)
    )
    assert regime_of(text, answer, False, ("up", "However")) == wanted


def test_a_cut_search_wandered_unless_a_step_is_false():
    text = "7 + 3 = 10 , 10 - 2 = 8 no"
    assert regime_of(text, None, True, ()) == "wandering"
    assert regime_of(text.replace("8", "9"), None, True, ()) == "execution"


@pytest.mark.parametrize(
    "kind, regime, share",
    [
        ("premature", "premature", 0.95),
        ("false_results", "execution", 0.95),
        ("gives_up", "underthinking", 0.95),
        ("without_products", "wandering", 0.5),
    ],
)
def test_planted_causes_are_told_from_their_traces(kind, regime, share):
    """Failed traces of a planted defect; one without products searches in vain, and
    mostly as long as it may.
    """
    task, told = tasks.make(TASK), []
    for problem in task.problems("train", 200):
        text = TRACES[kind](random.Random(problem.id), problem)
        if task.grade(problem, text) != RIGHT:
            told.append(regime_of(text, extract_expression(text), False, ("up",)))
    assert len(told) > 50
    assert told.count(regime) / len(told) > share


def _row(text: str, grade: str = WRONG) -> GradedRollout:
    return GradedRollout(PROBLEM, SimpleNamespace(truncated=False), text, grade)


def _config(gate: str, *terms: tuple[str, float]) -> Config:
    rewards = RewardsConfig(terms=(("correctness", 1.0), *terms))
    return dataclasses.replace(
        Config(algorithm="grpo", task=TASK),
        policy=PolicyConfig(gate=gate),
        rewards=rewards,
    )


ROWS = [
    [_row(CAUSES["at once"][0]), _row(CAUSES["false"][0])],
    [_row(CAUSES["one candidate"][0]), _row(CAUSES["three"][0])],
    [_row(CAUSES["false"][0], RIGHT), _row("", GRADER_ERROR)],
]


@pytest.mark.parametrize(
    "gate, learned",
    [
        ("all", [1, 1, 1, 1, 1, 1]),
        ("none", [0, 0, 0, 0, 1, 1]),
        ("matched", [1, 0, 0, 0, 1, 1]),
        ("mismatched", [0, 0, 1, 1, 1, 1]),
        ("execution", [0, 1, 0, 0, 1, 1]),
    ],
)
def test_gates_by_hand(gate, learned):
    found = gate_of(_config(gate, ("pcs", 1.0), ("length", 0.0)))(ROWS)
    assert found.open.tolist() == [bool(x) for x in learned]
    assert found.metrics["gated"] == learned.count(0) / 4
    assert [found.metrics[f"regime/{name}"] for name in TERMS_OF] == [0.25] * 4


def test_what_is_matched_follows_from_the_terms_that_pay():
    told = lambda *terms: gate_of(_config("matched", *terms))(ROWS).open.tolist()
    assert told() == [False] * 4 + [True] * 2
    assert told(("length", 0.5)) == [False, False, False, True, True, True]
    assert told(("pcs", 0.0)) == told()
    assert gate_of(_config("")) is None
    with pytest.raises(
        UserError, match="unknown gate 'matchd'; did you mean 'matched'"
    ):
        gate_of(_config("matchd"))


def test_the_table_names_terms_and_gates_that_there_are():
    assert {name for names in TERMS_OF.values() for name in names} <= set(TERMS)
    assert set(GATES) == {"all", "none", "matched", "mismatched", "execution"}
    assert np.all(gate_of(_config("all"))(ROWS).open)
