"""reasoning_gym: on a package of the same shape everywhere, and on the real one where
it is installed.
"""

import importlib
import sys

import pytest

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make, reasoning_gym
from fr.tasks.canonical import canonical_answer
from fr.tasks.task import SPLITS, split_of
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG

FACTORY = """
import time
from random import Random

class Dataset:
    def __init__(self, seed, size):
        assert (seed, size) == (0, 4000)

    def score_answer(self, answer, entry):
        return 1.0 if answer == entry["answer"] else 0.5 * (entry["answer"] in answer)

class Sums(Dataset):
    "Few enough questions that most come more than once."
    def __getitem__(self, index):
        a, b = Random(index).sample(range(12), 2)
        return {"question": f"{a} + {b}?", "answer": str(a + b), "metadata": {}}

class Grid(Dataset):
    def __getitem__(self, index):
        answer = f"1 {index}\\n2 3"
        return {"question": f"grid {index}", "answer": answer, "metadata": {}}

class Unfair(Grid):
    "Every other answer is not what the scorer wants."
    def score_answer(self, answer, entry):
        odd = int(entry["question"].split()[1]) % 2
        return super().score_answer(answer, entry) * odd

class Board(Dataset):
    "Answers of signs that Markdown has too."
    def __getitem__(self, index):
        answer = f"_ * {index}\\n* _ _"
        return {"question": f"board {index}", "answer": answer, "metadata": {}}

class Keys(Dataset):
    "Scored by what JSON would change, without a reference."
    def __getitem__(self, index):
        metadata = {index: (1, 2)}
        return {"question": f"keys {index}", "answer": None, "metadata": metadata}

    def score_answer(self, answer, entry):
        pairs = entry["metadata"].items()
        return float(any(answer == str(k) and type(pair) is tuple for k, pair in pairs))

class Order(Dataset):
    "Questions that depend on the order of a set of texts."
    def __getitem__(self, index):
        members = list({f"{index} {i}" for i in range(50)})
        return {"question": " ".join(members), "answer": "yes", "metadata": {}}

class Drifts(Dataset):
    made = 0
    def __getitem__(self, index):
        Drifts.made += 1
        return {"question": f"{index} {Drifts.made}", "answer": "yes", "metadata": {}}

class Breaks(Dataset):
    def __getitem__(self, index):
        raise ZeroDivisionError("no such item")

class Hangs(Grid):
    def score_answer(self, answer, entry):
        if answer == "for ever":
            time.sleep(1000)
        return super().score_answer(answer, entry)

MADE = Dataset.__subclasses__() + Grid.__subclasses__()
DATASETS = {c.__name__.lower(): c for c in MADE}
DATASETS["composite"] = Dataset
"""
PACKAGE = """
from reasoning_gym.factory import DATASETS

def create_dataset(name, **given):
    return DATASETS[name](**given)
"""


def fresh(monkeypatch, seconds=60.0):
    """Workers of this test's own: they keep the package that they began with."""
    monkeypatch.setattr(reasoning_gym, "_SECONDS", seconds)
    for workers in (reasoning_gym._maker, reasoning_gym._scorer):
        if workers.cache_info().currsize:
            workers().close()
        workers.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "package" / "reasoning_gym"
    folder.mkdir(parents=True)
    (folder / "factory.py").write_text(FACTORY)
    (folder / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder.parent))
    fresh(monkeypatch)
    yield
    fresh(monkeypatch)


def task_of(name, **settings):
    return make(TaskConfig(name=f"reasoning_gym:{name}", **settings))


def test_equal_questions_share_a_side_and_one_is_kept(package):
    task = task_of("sums")
    sides = {split: task.problems(split) for split in SPLITS}
    questions = [p.question for problems in sides.values() for p in problems]
    assert len(questions) == len(set(questions)) == 12 * 11
    assert all(
        split_of(p.question) == split
        for split, problems in sides.items()
        for p in problems
    )
    ids = [p.meta["index"] for p in sides["train"]]
    assert ids == sorted(ids) and sides["train"][0].task == "reasoning_gym:sums"


def test_problems_are_made_as_they_are_asked_for(package):
    task = task_of("grid")
    assert not task._made
    few = task.problems("test", 3)
    assert task._made == few[-1].meta["index"] + 1 < 200
    assert task.problems("test", 9)[:3] == few == task_of("grid").problems("test", 3)
    assert "reasoning_gym" not in sys.modules
    with pytest.raises(UserError, match="'tset' is not known; did you mean 'test'"):
        task.problems("tset")


def test_right_is_a_full_score(package):
    task = task_of("sums")
    problem = task.problems("test", 1)[0]
    for form in ("{}", "**{}**", "{}.", "\\boxed{{{}}}", "`{}`"):
        assert (
            task.grade(problem, f"Well.\nAnswer: {form.format(problem.answer)}")
            == RIGHT
        ), form
    assert (
        task.grade(problem, f"Answer: {problem.answer} or 99") == WRONG
    )  # 0.5 of a score
    assert task.grade(problem, "I do not know,\nsorry") == UNPARSED


def test_an_answer_may_have_lines(package):
    task = task_of("grid")
    problem = task.problems("test", 1)[0]
    assert task.grade(problem, f"So:\nAnswer:\n{problem.answer}\n") == RIGHT
    assert task.grade(problem, f"Answer: {problem.answer}") == RIGHT
    assert task.grade(problem, f"Answer: {problem.answer.splitlines()[0]}") == WRONG
    votes = {
        canonical_answer(problem.task, f"Answer: 1 1\n{line}")
        for line in ("2 3", " 2  3 ", "2 4")
    }
    assert len(votes) == 2


def test_a_score_may_need_what_json_would_lose_and_no_reference(package):
    task = task_of("keys")
    problem = task.problems("test", 1)[0]
    assert (
        problem.answer == ""
        and task.grade(problem, f"Answer: {problem.meta['index']}") == RIGHT
    )
    with pytest.raises(
        UserError,
        match="config.task.shots = 1: reasoning_gym:keys lacks answers to show",
    ):
        task_of("keys", shots=1)


def test_worked_examples_are_other_training_problems(package):
    task = task_of("sums", shots=2)
    train = {p.question: p.answer for p in task.problems("train")}
    for problem in [*task.problems("train", 5), *task.problems("test", 5)]:
        *shots, last = task.prompt(problem)
        asked = [m["content"].partition("\n")[0] for m in shots[::2]]
        assert (
            len(asked) == 2
            and problem.question not in asked
            and last["content"].startswith(problem.question)
        )
        assert [m["content"] for m in shots[1::2]] == [
            f"Answer: {train[question]}" for question in asked
        ]


def test_the_order_of_a_set_is_the_same_in_every_process(package, monkeypatch):
    first = task_of("order")
    problem = first.problems("test", 1)[0]
    fresh(monkeypatch)
    assert task_of("order").problems("test", 1) == [problem]
    assert first.grade(problem, "Answer: yes") == RIGHT


def test_items_that_cannot_be_made_again_are_not_judged(package):
    task = task_of("drifts")
    assert task.grade(task.problems("test", 2)[1], "Answer: yes") == GRADER_ERROR


def test_a_score_that_takes_for_ever_is_a_grader_error(package, monkeypatch):
    fresh(monkeypatch, seconds=0.5)
    task = task_of("hangs")
    problem = task.problems("test", 1)[0]
    assert task.grade(problem, "Answer: for ever") == GRADER_ERROR


def test_what_is_wrong_is_named(package, monkeypatch):
    with pytest.raises(
        UserError, match="reasoning_gym:NAME of a data set; did you mean 'sums'"
    ):
        task_of("sum")
    with pytest.raises(
        UserError,
        match="must be reasoning_gym:NAME of a data set; "
        "there are: board, breaks, drifts",
    ):
        make(TaskConfig(name="reasoning_gym"))
    with pytest.raises(UserError, match="did you mean|there are"):
        task_of("composite")  # needs more than its name
    with pytest.raises(
        UserError, match="reasoning_gym:breaks cannot make item 0: .*no such item"
    ):
        task_of("breaks").problems("test", 1)
    with pytest.raises(UserError, match="unknown task 'sums:1'"):
        make(TaskConfig(name="sums:1"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as told:
        task_of("sums")
    assert str(told.value) == (
        "config.task.name = 'reasoning_gym:sums' needs reasoning_gym; run pip install "
        "-e '.[tasks]'"
    )


def test_a_data_set_is_a_part_of_a_mixture(package):
    task = make(
        TaskConfig(
            name="mixed", parts=("gcd", "reasoning_gym:sums", "reasoning_gym:grid")
        )
    )
    problems = task.problems("test", 6)
    assert [p.task for p in problems] == [
        "gcd",
        "reasoning_gym:sums",
        "reasoning_gym:grid",
    ] * 2
    assert all(task.grade(p, f"Answer: {p.answer}") == RIGHT for p in problems)


@pytest.mark.parametrize(
    "name", ["leg_counting", "arc_1d", "isomorphic_strings", "tower_of_hanoi"]
)
def test_the_real_package(name, monkeypatch):
    pytest.importorskip("reasoning_gym")
    fresh(monkeypatch)
    task = task_of(name)
    for problem in task.problems("test", 3):
        assert task.grade(problem, f"So:\nAnswer: {problem.answer}") == RIGHT
        assert task.grade(problem, "Answer: 12345 no") == WRONG


def test_an_item_whose_own_answer_is_not_right_is_left_out(package):
    asked = task_of("unfair").problems("test", 5)
    assert len(asked) == 5 and all(problem.meta["index"] % 2 for problem in asked)


def test_an_answer_may_begin_with_signs_of_markdown(package):
    task = task_of("board")
    for problem in task.problems("test", 3):
        assert task.grade(problem, f"Let me see.\nAnswer: {problem.answer}") == RIGHT
