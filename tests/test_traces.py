"""Traces: true arithmetic, honest claims, a search in its genuine order, a vocabulary that loses nothing."""

import collections
import random
import re

import pytest

from fr.config import TaskConfig
from fr.tasks.countdown import Countdown
from fr.tasks.countdown_checker import step_errors, steps
from fr.tasks.countdown_solver import moves, solutions
from fr.tasks.countdown_tokenizer import VOCABULARY, countdown_tokenizer, word_level
from fr.tasks.countdown_traces import TRACES
from fr.types import RIGHT

TASK = Countdown(TaskConfig())
PROBLEMS = TASK.problems("train", 300)


def written(kind: str, problems=PROBLEMS) -> list[str]:
    rng = random.Random(f"test {kind}")
    return [TRACES[kind](rng, p) for p in problems]


@pytest.mark.parametrize("kind", TRACES)
def test_every_step_is_true(kind):
    assert all(step_errors(text).wrong == 0 for text in written(kind))


@pytest.mark.parametrize("kind", TRACES)
def test_success_is_claimed_exactly_when_it_is_true(kind):
    for p, text in zip(PROBLEMS, written(kind)):
        for step in steps(text):
            # The last step of a candidate is marked; an intermediate value may equal the target by chance.
            assert step.mark and (step.mark != "yes" or step.result == p.meta["target"])
        if " yes " in text:
            # Whoever has committed himself does not answer what he finds.
            assert text.count(" yes ") == 1 and (kind == "committed" or TASK.grade(p, text) == RIGHT)


@pytest.mark.parametrize("kind", ["answer_first", "anytime", "correct"])
def test_these_kinds_end_right_with_a_listed_solution(kind):
    for p, text in zip(PROBLEMS, written(kind)):
        assert TASK.grade(p, text) == RIGHT
        assert text.rsplit("answer ", 1)[1] in solutions(tuple(p.meta["numbers"]), p.meta["target"])


def test_natural_search_fails_at_times_and_starts_anywhere():
    grades = [TASK.grade(p, text) for p, text in zip(PROBLEMS, written("natural"))]
    assert 0.5 < grades.count(RIGHT) / len(grades) < 0.85
    # Each first move is as likely as any other, whether it leads to the target or not.
    rng, p = random.Random(0), PROBLEMS[0]
    first = collections.Counter(TRACES["natural"](rng, p).split(" = ")[0] for _ in range(600))
    legal = {f"{m.left} {m.op} {m.right}" for m in moves(tuple(sorted(p.meta["numbers"], reverse=True)))}
    assert set(first) == legal and min(first.values()) > 0.7 * 600 / len(legal)


def test_commitment_comes_first_and_costs_answers_that_were_found():
    found = 0
    for p, text in zip(PROBLEMS, written("committed")):
        first, search, last = re.fullmatch(r"answer (.*?) (\d+ . \d+ = .*) answer (.*)", text).groups()
        assert first == last and TASK.grade(p, f"answer {first}") == TASK.grade(p, text)
        found += " yes" in search and TASK.grade(p, text) != RIGHT
    assert found > len(PROBLEMS) / 4


def test_four_numbers_work():
    task = Countdown(TaskConfig(operands=4))
    problems = task.problems("train", 100)
    for kind in TRACES:
        for p, text in zip(problems, written(kind, problems)):
            assert step_errors(text).wrong == 0
            assert kind == "committed" or (" yes " in text) <= (task.grade(p, text) == RIGHT)


def test_same_rng_same_trace():
    assert written("natural") == written("natural") != written("anytime")


def test_tokenizer_roundtrip_one_token_a_number(tmp_path):
    from transformers import AutoTokenizer

    countdown_tokenizer().save_pretrained(tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), word_level()
    assert ours.get_vocab_size() == len(theirs) == VOCABULARY
    assert theirs.pad_token_id != theirs.eos_token_id
    texts = [f"{p.question} {text}" for p, text in zip(PROBLEMS, written("natural"))]
    for text in texts:
        ids = ours.encode(text).ids
        assert len(ids) == len(text.split()) and theirs.unk_token_id not in ids
        assert theirs(text).input_ids == ids and theirs.decode(ids) == ours.decode(ids) == text
