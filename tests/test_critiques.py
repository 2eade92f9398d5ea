"""Critiques by an exact checker, and the examples that a run gives of them."""

import types

import numpy as np
import pytest
from run_of_the_past import config

from fr.models.model import Model
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.tasks.critiques import ASK, ask_critique, critique
from fr.training.critique_examples import critique_examples
from fr.training.past_runs import Completion
from fr.types import Problem

PROBLEM = Problem(
    "p",
    "10 7 3 -> 49 :",
    "( 10 - 3 ) * 7",
    "countdown",
    {"numbers": [3, 7, 10], "target": 49},
)
SUM = Problem("s", "What is 3 + 4?", "7", "sums")
RESPONSES = {
    # right steps and a right answer
    "10 - 3 = 7 , 7 * 7 = 49 yes answer ( 10 - 3 ) * 7": (
        "right",
        "10 - 3 = 7 : yes , 7 * 7 = 49 : yes , answer ( 10 - 3 ) * 7 = 49 : yes",
    ),
    # a false result, and a step with numbers that are not there
    "10 + 3 = 12 , 9 * 7 = 63 no answer ( 10 + 3 ) * 7": (
        "wrong",
        "10 + 3 = 12 : no 13 , 9 * 7 = 63 : up , "
        "answer ( 10 + 3 ) * 7 = 91 : no ( 10 - 3 ) * 7",
    ),
    # the right result has no word: neither 1000 nor -4 nor 7 / 3
    "10 * 7 = 71 , 71 * 3 = 13 no answer ( 10 * 7 ) * 3": (
        "wrong",
        "10 * 7 = 71 : no 70 , 71 * 3 = 13 : no , "
        "answer ( 10 * 7 ) * 3 : no ( 10 - 3 ) * 7",
    ),
    # no answer
    "10 - 3 = 7 ,": ("unparsed", "10 - 3 = 7 : yes , answer : no ( 10 - 3 ) * 7"),
    "": ("unparsed", "answer : no ( 10 - 3 ) * 7"),
}


@pytest.mark.parametrize("response", RESPONSES)
def test_critiques_of_countdown_by_hand(response):
    grade, wanted = RESPONSES[response]
    assert critique(PROBLEM, response, grade) == wanted
    tokenizer = countdown_tokenizer()
    asked = ask_critique(PROBLEM.question, "countdown", response)
    for text in (wanted, asked):
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_critiques_in_sentences_by_hand():
    text = critique(SUM, "3 + 4 = 8.\nAnswer: 8", "wrong")
    assert text == "3 + 4 = 8: wrong, it is 7.\nThe answer 8 is wrong: it is 7."
    assert critique(SUM, "3 + 4 = 7.\nAnswer: 7", "right") == (
        "3 + 4 = 7: right.\nThe answer 7 is right."
    )
    assert critique(SUM, "I think", "unparsed").endswith("There is no answer: it is 7.")
    turns = [{"role": "user", "content": SUM.question}]
    asked = ask_critique(turns, "sums", "Answer: 8 ")
    assert asked[0]["content"] == f"{SUM.question}\n\nResponse:\nAnswer: 8\n\n{ASK}"
    assert turns[0]["content"] == SUM.question


class Past:
    """A run of two problems: two different responses of one, one of the other."""

    def responses(self):
        """Responses as stored."""
        empty = np.zeros(0, np.int32)
        make = lambda name, text: Completion(
            name, empty, empty, empty.astype(bool), None, text, RESPONSES[text][0]
        )
        first, second, *_ = RESPONSES
        return [make("a", first), make("a", second), make("b", first)]

    def problem(self, name):
        """The same problem under both names."""
        return PROBLEM


@pytest.mark.parametrize("shuffled", [False, True])
def test_examples_learn_the_critique_and_nothing_before_it(shuffled):
    tokenizer = countdown_tokenizer()
    shape = types.SimpleNamespace(vocab=VOCABULARY)
    model = Model(shape, None, tokenizer, (tokenizer.eos_token_id,), "words")
    found = critique_examples(Past(), config("", "sft", "critiques"), model, shuffled)
    texts = list(RESPONSES)
    pairs = [(0, 1), (1, 0)] if shuffled else [(0, 0), (1, 1), (0, 0)]
    assert len(found) == len(pairs)
    for one, (shown, judged) in zip(found, pairs):
        assert model.decode(one.prompt) == f"{PROBLEM.question} {texts[shown]} :"
        assert model.decode(one.tokens[:-1]) == RESPONSES[texts[judged]][1]
        assert one.tokens[-1] == tokenizer.eos_token_id
        assert one.learnt.all() and len(one.learnt) == len(one.tokens)
