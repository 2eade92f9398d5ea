"""Cuts of attempts and the cues after them, in the words of their tasks."""

import types

import pytest

from fr import tasks
from fr.config import TaskConfig
from fr.diagnosis import features
from fr.tasks.countdown import countdown_tokenizer
from fr.tasks.countdown_solver import solutions
from fr.tasks.formats import ANSWER_SETS, CUTS, answer_span, build_probe
from fr.tasks.thoughts import thought_ends
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
        vocab=128,
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


def test_countdown_is_cut_at_the_ends_of_thoughts(countdown):
    """`up` leaves a thought, `no` does not; the last cut ends the reasoning."""
    _, problem, codec = countdown
    probed = lambda text: [
        codec.decode(codec.encode(text)[:cut])
        for cut in build_probe(
            problem, codec.encode(text), codec, cuts_at="thoughts"
        ).cuts
    ]
    first, rest = "10 + 7 = 17 , 17 * 3 = 51 no 17 - 3 = 14", "10 - 3 = 7 , 7 * 7 = 49"
    assert probed(f"{first} up {rest} yes answer 7 * 7") == [
        first,
        f"{first} up {rest} yes",
    ]
    # The end of the reasoning is a cut also where a switch word is last.
    assert probed(f"{first} up up answer 7") == [first, f"{first} up up"]
    assert probed("answer 7 * 7") == [""]


def test_chat_is_cut_at_the_ends_of_thoughts(tiny_model):
    text = "We add 2. But wait, it is 3. However: 4 is more."
    problem = Problem("p", "", "3", "sums")
    probe = build_probe(
        problem, tiny_model.encode(text), tiny_model, cuts_at="thoughts"
    )
    written = [tiny_model.decode(tiny_model.encode(text)[:cut]) for cut in probe.cuts]
    assert written == ["We add 2.", "We add 2. But wait, it is 3.", text]


@pytest.mark.parametrize(
    "text, thoughts",
    [
        ("", []),
        ("up up", []),
        ("1 up", ["1"]),
        ("up 1 no 2", ["1 no 2"]),
        ("1 , up up 2 no 3 UP. 4", ["1 ,", "2 no 3", "4"]),
        ("up-to-date setup ups", ["up-to-date setup ups"]),
    ],
)
def test_thoughts_end_where_switch_words_begin(text, thoughts):
    ends, begin = thought_ends(text, ("up",)), 0
    assert len(ends) == len(thoughts)
    for end, thought in zip(ends, thoughts):
        assert text[begin:end].endswith(thought)
        begin = end
    # The words of `fr.diagnosis.features.thoughts`, by which signals count.
    ages = [age for age in features.thoughts(text, ("up",)) if age]
    assert ages == [len(thought.split()) for thought in thoughts]


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
        encode=encode,
        decode=tiny_model.decode,
        stop_tokens=(1, 3),
        opens_thought=False,
        vocab=tiny_model.vocab,
    )
    asked = build_probe(problem, tiny_model.encode("Well"), codec)
    assert tiny_model.decode(asked.cue) == "\nAnswer"
    nine = tiny_model.encode("9")[0]
    assert asked.answers == {"gold": ((500, nine, 1), (500, nine, 3))}
