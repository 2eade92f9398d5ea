"""The alphabet task and sums of several lengths: known answers, splits, noise."""

import codecs
import dataclasses
import re

import pytest

from fr.config import Config, TaskConfig, default, freeze
from fr.config.puzzles import NOISES, AlphabetConfig
from fr.config.reads import difference
from fr.errors import UserError
from fr.tasks import make, tokenizer_of
from fr.tasks.alphabet import disturb, transform

PLAIN = AlphabetConfig()


def alphabet(shots=0, **settings):
    return make(
        TaskConfig(name="alphabet", shots=shots, alphabet=AlphabetConfig(**settings))
    )


def test_transformations_by_hand():
    assert transform("abxz", "f1", PLAIN) == "nokm" == codecs.encode("abxz", "rot13")
    assert transform("abcd", "f2", PLAIN) == "bcda"
    three = AlphabetConfig(rotation=3, shift=-1)
    assert transform("abxz", "f1", three) == "deac"
    assert transform("abcd", "f2", three) == "dabc"
    assert transform("a", "f2", PLAIN) == "a"


def test_a_problem_by_hand():
    (problem,) = alphabet(chains=("f1 f2 f2",), letters="a", length=2).problems("train")
    assert problem.id == "alphabet-aa-f1f2f2"
    assert problem.question == "a a : f1 f2 f2 ->"
    assert problem.meta["chain"] == "f1 n n . f2 n n . f2 n n ."
    assert problem.answer == "n n" and problem.meta["functions"] == "f1 f2 f2"
    assert problem.meta["intact"] is True


def test_chains_are_true_and_a_string_has_one_split():
    task = alphabet(length=3)
    elements = {}
    for split in ("train", "validation", "test"):
        for p in task.problems(split, 500):
            element, functions = re.fullmatch(
                r"([a-z ]+) : ([f12 ]+) ->", p.question
            ).groups()
            state = element.replace(" ", "")
            assert elements.setdefault(state, split) == split
            for function, step in zip(functions.split(), p.meta["chain"].split(" .")):
                state = (
                    codecs.encode(state, "rot13")
                    if function == "f1"
                    else state[1:] + state[:1]
                )
                assert step.split() == [function, *state]
            assert p.answer.split() == list(state)
    assert {p.meta["functions"] for p in task.problems("test", 200)} == set(
        PLAIN.chains
    )


def test_the_grader_reads_the_letters_after_the_last_marker():
    task = alphabet(letters="ab", length=2, chains=("f2",))
    problem = next(p for p in task.problems("train", 9) if p.question[:3] == "a b")
    grades = {
        "f2 b a . Answer: b a": "right",
        "f2 a b .\nAnswer: b  a\n": "right",
        "Answer: b a Answer: a b": "wrong",
        "Answer: b a .": "wrong",
        "Answer:": "wrong",
        "b a": "unparsed",
        "": "unparsed",
    }
    assert {text: task.grade(problem, text) for text in grades} == grades


def test_noise_grows_with_its_share_and_is_the_same_every_time():
    words = ["a", "b", ":", "f1", "->"]
    for kind in NOISES:
        noisy = lambda share: disturb(
            words, AlphabetConfig(noise=kind, noise_share=share), "x"
        )
        assert noisy(0.3) == noisy(0.3)
        assert noisy(0) == (words, True)
        sizes = [len([w for w in noisy(s / 20)[0] if w != "?"]) for s in range(21)]
        assert sizes == ([5] * 21 if kind == "insert" else sorted(sizes, reverse=True))
    every = lambda kind: disturb(
        words, AlphabetConfig(noise=kind, noise_share=1.0), "x"
    )
    assert every("insert") == ("? a ? b ? : ? f1 ? ->".split(), True)
    assert every("change") == (["?"] * 5, False)
    assert every("delete") == (["->"], False)  # one word stays
    # signs carry nothing
    assert disturb([":", "->"], AlphabetConfig(noise="change", noise_share=1.0), "x")[1]


def test_the_share_of_noise_is_the_one_asked_for():
    task = alphabet(noise="change", noise_share=0.1)
    words = [w for p in task.problems("train", 4000) for w in p.question.split()]
    assert abs(words.count("?") / len(words) - 0.1) < 0.01  # 5 sd
    # letters and functions are 6 of 8 words
    kept = [p.meta["intact"] for p in task.problems("train", 4000)]
    assert abs(sum(kept) / len(kept) - 0.9**6) < 0.04


def test_every_word_has_a_token_and_shots_stand_before_the_question():
    task = alphabet(shots=1, noise="insert", noise_share=0.5)
    tokenizer = tokenizer_of(task.config)
    assert len(tokenizer) == 64
    for problem in task.problems("test", 20):
        shot, question = task.prompt(problem).split("\n")
        assert question == problem.question and "Answer:" in shot
        ids = tokenizer.encode(task.prompt(problem))
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).split() == task.prompt(problem).split()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chains": ()}, "chains"),
        ({"chains": ("f1 f3",)}, "texts such as 'f1 f2'"),
        ({"letters": "aab"}, "different letters"),
        ({"noise": "swap"}, "noise"),
        ({"noise_share": 1.5}, "noise_share"),
    ],
)
def test_bad_settings_are_named(settings, said):
    c = default()
    for name, value in settings.items():
        c.task.alphabet[name] = value
    with pytest.raises(UserError, match=said):
        freeze(c)


def test_other_tasks_do_not_read_its_settings():
    from fr.config import as_dict

    def rotated(name):
        task = TaskConfig(name=name, alphabet=AlphabetConfig(rotation=3))
        return as_dict(Config(task=task))

    usual = lambda name: as_dict(Config(task=TaskConfig(name=name)))
    assert difference("rollouts", usual("sums"), rotated("sums")) is None
    found = difference("rollouts", usual("alphabet"), rotated("alphabet"))
    assert found == ("task.alphabet.rotation", 13, 3)


def test_sums_of_several_lengths_take_turns():
    config = TaskConfig(name="sums", digits=2, term_counts=(3, 2, 12), shots=2)
    task, counts = make(config), (3, 2, 12)
    for split in ("train", "test"):
        for i, p in enumerate(task.problems(split, 60)):
            terms = list(map(int, re.findall(r"\d+", p.question)))
            assert len(terms) == p.meta["terms"] == counts[i % 3]
            assert p.answer == str(sum(terms))
            asked = [m["content"] for m in task.prompt(p) if m["role"] == "user"]
            assert [a.count("+") for a in asked] == [p.meta["terms"] - 1] * 3
    # the problems of one number of terms are the ones that the task has without others
    alone = make(dataclasses.replace(config, terms=3, term_counts=())).problems(
        "test", 9
    )
    assert [p.id for p in task.problems("test", 27)[::3]] == [p.id for p in alone]
    assert "terms" not in alone[0].meta
    with pytest.raises(UserError, match="digits in all"):
        make(TaskConfig(name="sums", digits=4, term_counts=(2, 12)))
