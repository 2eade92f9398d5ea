"""Cuts of attempts and the cues after them, in the words of their tasks."""

import types

import pytest

from fr import tasks
from fr.config import TaskConfig
from fr.tasks.countdown import countdown_tokenizer
from fr.tasks.countdown_solver import solutions
from fr.tasks.formats import ANSWER_SETS, CUTS, answer_span, build_probe
from fr.types import RIGHT, Problem

TRACE = (
    "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14 no up 10 - 3 = 7 , 7 * 7 = 49 yes "
    "answer ( 10 - 3 ) * 7"
)


@pytest.fixture(scope="module")
def countdown():
    """A problem, its task, and a codec of words."""
    tokenizer = countdown_tokenizer()
    codec = types.SimpleNamespace(
        encode=lambda text: tuple(tokenizer(text)["input_ids"]),
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        stop_tokens=(1,),
        opens_thought=False,
    )
    task = tasks.make(TaskConfig())
    problem = next(
        p
        for split in ("train", "validation", "test")
        for p in task.problems(split)
        if p.meta == {"numbers": [3, 7, 10], "target": 49}
    )
    return task, problem, codec


def test_countdown_is_cut_after_steps(countdown):
    _, problem, codec = countdown
    ids = (*codec.encode(TRACE), 1)
    asked = build_probe(problem, ids, codec, cuts=101)
    texts = [codec.decode(ids[:cut]) for cut in dict.fromkeys(asked.cuts)]
    assert texts == [
        "",
        "10 + 7 = 17 ,",
        "10 + 7 = 17 , 17 * 3 = 51 no",
        "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14 no up",
        "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14 no up 10 - 3 = 7 ,",
        "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14 no up 10 - 3 = 7 , 7 * 7 = 49 yes",
    ]
    few = build_probe(problem, ids, codec)
    assert (
        len(few.cuts) == CUTS
        and set(few.cuts) <= set(asked.cuts)
        and list(few.cuts) == sorted(few.cuts)
    )


def test_countdown_answers_are_right_and_whole(countdown):
    task, problem, codec = countdown
    ids = (*codec.encode(TRACE), 1)
    asked = build_probe(problem, ids, codec)
    assert codec.decode(asked.cue) == "answer"
    assert asked.answers["own"] == ((*codec.encode("( 10 - 3 ) * 7"), 1),)
    gold = asked.answers["gold"]
    assert [codec.decode(answer) for answer in gold] == list(solutions((3, 7, 10), 49))
    assert all(
        answer[-1] == 1
        and task.grade(problem, "answer " + codec.decode(answer)) == RIGHT
        for answer in gold
    )
    assert asked.answers["own"][0] in gold


@pytest.mark.parametrize("text, stop, last", [
    (TRACE, (), 31),  # cut off in its answer
    (TRACE.split(" answer")[0], (1,), 31),  # came to no answer
    (TRACE.split(" answer")[0] + " answer", (1,), 31),  # an empty one
    ("", (1,), 0),
])  # fmt: skip
def test_without_an_own_answer_there_is_gold(countdown, text, stop, last):
    _, problem, codec = countdown
    asked = build_probe(problem, (*codec.encode(text), *stop), codec)
    assert (
        set(asked.answers) == {"gold"} and asked.cuts[0] == 0 and asked.cuts[-1] == last
    )


def test_a_span_is_where_the_own_answer_is(countdown):
    _, problem, codec = countdown
    ids = (*codec.encode(TRACE), 1)
    start, end = answer_span(problem, ids, codec)
    assert codec.decode(ids[start:end]) == "( 10 - 3 ) * 7" and end == len(ids) - 1
    assert (ids[start:],) == build_probe(problem, ids, codec).answers["own"]
    for text, stop in (
        (TRACE, ()),
        (TRACE.split(" answer")[0], (1,)),
        ("answer", (1,)),
        ("", ()),
    ):
        assert answer_span(problem, (*codec.encode(text), *stop), codec) == (0, 0)


def test_only_what_is_asked_for_is_probed(countdown):
    _, problem, codec = countdown
    ids = (*codec.encode(TRACE), 1)
    both = build_probe(problem, ids, codec)
    for name in ANSWER_SETS:
        one = build_probe(problem, ids, codec, sets=(name,))
        assert one.answers == {name: both.answers[name]} and (one.cuts, one.cue) == (
            both.cuts,
            both.cue,
        )
    assert build_probe(problem, ids[:-1], codec, sets=("own",)) is None


def test_chat_answers_follow_the_cue(tiny_model):
    problem = Problem("p", "What is 3 + 4 + 2?", "9", task="sums")
    text = "3 + 4 = 7. 7 + 2 = 8.\nDone.\nAnswer: 8"
    ids = (*tiny_model.encode(text), 1)
    asked = build_probe(problem, ids, tiny_model, cuts=60)
    ends = ["", "3 + 4 = 7.", "3 + 4 = 7. 7 + 2 = 8.", "3 + 4 = 7. 7 + 2 = 8.\nDone."]
    assert [tiny_model.decode(ids[:cut]) for cut in dict.fromkeys(asked.cuts)] == ends
    assert tiny_model.decode(asked.cue) == "\nAnswer:"
    assert asked.answers == {
        "own": ((*tiny_model.encode(" 8"), 1),),
        "gold": ((*tiny_model.encode(" 9"), 1),),
    }


def test_ids_that_join_cue_and_answer_are_cut_before_the_join(tiny_model):
    problem = Problem("p", "?", "9", task="sums")
    joined = {tiny_model.encode(": ")[0:2]: (500,)}

    def encode(text):
        ids = tiny_model.encode(text)
        for pair, one in joined.items():
            i = next((i for i in range(len(ids) - 1) if ids[i : i + 2] == pair), None)
            ids = ids if i is None else (*ids[:i], *one, *ids[i + 2 :])
        return (2, *ids)  # and a token before every text

    codec = types.SimpleNamespace(
        encode=encode, decode=tiny_model.decode, stop_tokens=(1, 3), opens_thought=False
    )
    asked = build_probe(problem, tiny_model.encode("Well"), codec)
    assert tiny_model.decode(asked.cue) == "\nAnswer"
    nine = tiny_model.encode("9")[0]
    assert asked.answers == {"gold": ((500, nine, 1), (500, nine, 3))}
