"""Data sets of the hub, from small files of their real schema: what is asked, on which
side, and how it is graded.
"""

import csv
import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import grader_of, make
from fr.tasks.canonical import canonical_answer
from fr.tasks.datasets import HUB_SETS
from fr.tasks.grading import grade_letter, grade_literal
from fr.tasks.task import SPLITS, split_of
from fr.tasks.worked_examples import WORKED
from fr.types import RIGHT, UNPARSED, WRONG, Problem

GSM8K = [
    {
        "question": f"Ann has {n} apples and buys 2 more. How many are there?",
        "answer": f"She has {n}+2=<<{n}+2={n + 2}>>{n + 2} apples.\n#### {n + 2}",
    }
    for n in range(1000, 1120)
]
MATH = [
    {
        "problem": "What is $\\frac{1}{2} + \\frac{1}{4}$?",
        "solution": "It is $\\boxed{\\frac{3}{4}}$.",
        "answer": "\\frac{3}{4}",
        "subject": "Prealgebra",
        "level": 1,
        "unique_id": "test/prealgebra/1.json",
    }
]
CRUXEVAL = [
    {
        "code": "def f(s, n):\n    return [s] * n",
        "input": "'a', 2",
        "output": "['a', 'a']",
        "id": "sample_0",
    },
    {
        "code": "def f(d):\n    return d",
        "input": "{1: 'b'}",
        "output": "{1: 'b'}",
        "id": "sample_1",
    },
]
GPQA = [
    {
        "Pre-Revision Question": "an older text",
        "Question": f'Which "option"\nis the right one, of question {i}?',
        "Correct Answer": f"right {i}\n",
        "Incorrect Answer 1": f"wrong {i}, one",
        "Incorrect Answer 2": f"wrong {i}, two",
        "Incorrect Answer 3": f"wrong {i}, three",
        "Record ID": f"rec{i}",
        "Subdomain": "Physics (general)",
    }
    for i in range(40)
]


def parquet(path, records):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def table(path, records):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


@pytest.fixture
def folders(tmp_path):
    """A folder for every set, laid out as its repository is."""
    for name in HUB_SETS:
        (tmp_path / name).mkdir()
    for split, records in (("train", GSM8K[:100]), ("test", GSM8K[100:])):
        parquet(
            tmp_path / "gsm8k" / "main" / f"{split}-00000-of-00001.parquet", records
        )
    lines(tmp_path / "math500" / "test.jsonl", MATH)
    lines(tmp_path / "cruxeval" / "test.jsonl", CRUXEVAL)
    table(tmp_path / "gpqa" / "gpqa_diamond.csv", GPQA)
    return tmp_path


def read(folders, name, **settings):
    return make(TaskConfig(name=name, path=str(folders / name), **settings))


def test_the_hubs_test_questions_are_the_test_split(folders):
    sizes = {"gsm8k": 20, "math500": 1, "cruxeval": 2, "gpqa": 40}
    for name, size in sizes.items():
        task = read(folders, name)
        assert len(task.problems("test")) == size
        assert {p.task for p in task.problems("test")} == {name}
        if name != "gsm8k":
            with pytest.raises(
                UserError,
                match=f"no question for config.task.split = 'train'.*test {size}",
            ):
                task.problems("train")
            with pytest.raises(
                UserError,
                match="config.task.shots = 9 is more than the . examples that are "
                "known",
            ):
                read(folders, name, shots=9)


def test_validation_is_taken_from_the_training_questions_alone(folders):
    task = read(folders, "gsm8k")
    sides = {split: {p.question for p in task.problems(split)} for split in SPLITS}
    assert sides["train"] | sides["validation"] == {
        record["question"] for record in GSM8K[:100]
    }
    assert sides["test"] == {record["question"] for record in GSM8K[100:]}
    assert all(split_of(question) == "validation" for question in sides["validation"])
    assert (
        not sides["train"] & sides["validation"] and 3 < len(sides["validation"]) < 25
    )


@pytest.mark.parametrize("name", HUB_SETS)
def test_a_set_without_training_questions_shows_examples_of_ours(folders, name):
    for question, solution, answer in WORKED[name]:
        problem = Problem("w", question, answer, name, {"solution": solution})
        assert grader_of(name)(problem, f"{solution}\nAnswer: {answer}") == RIGHT
    (folders / "test").mkdir()
    test = {"gsm8k": "test.parquet", "gpqa": "test.csv"}.get(name, "test.jsonl")
    given = {
        "gsm8k": GSM8K[:3],
        "math500": MATH,
        "cruxeval": CRUXEVAL,
        "gpqa": GPQA[:2],
    }[name]
    write = {"parquet": parquet, "csv": table, "jsonl": lines}[test.rpartition(".")[2]]
    write(folders / "test" / test, given)
    task = make(
        TaskConfig(name=name, path=str(folders / "test" / test), shots=2, chat="plain")
    )
    prompt = task.prompt(task.problems("test")[0])
    assert prompt.count("Question: ") == 3 and prompt.endswith("\nSolution:")
    for _, solution, answer in WORKED[name][:2]:
        assert f"Solution: {solution}\nAnswer: {answer}\n\nQuestion: " in prompt


def test_references_and_worked_examples_of_gsm8k(folders):
    task = read(folders, "gsm8k", shots=1)
    problem = task.problems("test")[0]
    assert problem.answer == "1102" and problem.id == "gsm8k-test-1"
    shot = task.prompt(problem)[1]["content"]
    assert "<<" not in shot and shot.startswith("She has 1") and "\nAnswer: 1" in shot
    assert task.grade(problem, "So 1,102 apples.\nAnswer: 1,102.") == RIGHT
    assert task.grade(problem, "Answer: 1103") == WRONG


def test_what_is_asked_of_the_others(folders):
    math, crux = (
        read(folders, name).problems("test")[0] for name in ("math500", "cruxeval")
    )
    assert (math.question, math.answer, math.id) == (
        MATH[0]["problem"],
        "\\frac{3}{4}",
        "math500-test/prealgebra/1.json",
    )
    assert read(folders, "math500").grade(math, "so \\boxed{\\dfrac{3}{4}}") == RIGHT
    assert "f('a', 2)" in crux.question and CRUXEVAL[0]["code"] in crux.question
    assert crux.answer not in crux.question


def test_the_letter_of_gpqa_is_that_of_the_right_option(folders):
    problems = read(folders, "gpqa").problems("test")
    for i, problem in enumerate(problems):
        options = dict(
            line.split(") ", 1)
            for line in problem.question.splitlines()
            if ") " in line
        )
        assert options[problem.answer] == f"right {i}" and sorted(options) == list(
            "ABCD"
        )
        assert len(set(options.values())) == 4
    letters = [p.answer for p in problems]
    assert all(4 <= letters.count(letter) <= 18 for letter in "ABCD")
    # a record keeps its order for any other content of the file
    table(folders / "gpqa" / "gpqa_diamond.csv", GPQA[::-1])
    assert {p.id: p for p in read(folders, "gpqa").problems("test")} == {
        p.id: p for p in problems
    }


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Answer: B", RIGHT),
        ("Answer: (b)", RIGHT),
        ("Answer: **B) wrong 1**", RIGHT),
        ("Answer: B. wrong 1", RIGHT),
        ("Answer: B - because", RIGHT),
        ("thus \\boxed{\\text{B}}", RIGHT),
        ("The answer is option B", RIGHT),
        ("Answer: C", WRONG),
        ("Answer: A and B", UNPARSED),
        ("Answer: B, C", UNPARSED),
        ("Answer: B-cells", UNPARSED),
        ("Answer: Because of that", UNPARSED),
        ("I think\nof none", UNPARSED),
    ],
)
def test_letters(text, grade):
    assert grade_letter(text, "B") == grade


@pytest.mark.parametrize(
    ("reference", "text", "grade"),
    [
        ("['a', 'a']", 'Answer: ["a","a"]', RIGHT),
        ("['a', 'a']", "Answer: `['a', 'a']`", RIGHT),
        ("['a', 'a']", "Answer: ('a', 'a')", WRONG),
        ("{1: 'b', 2: 'c'}", "Answer: {2: 'c', 1: 'b'}", RIGHT),
        ("'ab'", "Answer: 'aB'", WRONG),
        ("'ab'", "Answer: ab", UNPARSED),
        ("'7'", "Answer: 7", WRONG),
        ("7", "Answer: assert f('x == y', (1)) == 7", RIGHT),
        ("True", "Answer: True", RIGHT),
        ("None", "Answer: None", RIGHT),
        ("8", "Answer: 2 ** 3", UNPARSED),
        ("8", "Answer: __import__('os').getpid()", UNPARSED),
        ("8", "Answer: " + "-" * 900 + "8", UNPARSED),
        ("8", "Answer: " + "(" * 900, UNPARSED),
        ("8", "it\nends", UNPARSED),
    ],
)
def test_literals_are_compared_by_value_and_never_run(reference, text, grade):
    assert grade_literal(text, reference) == grade


def test_votes_see_through_how_an_answer_is_written():
    assert (
        canonical_answer("gpqa", "Answer: (b) the second")
        == canonical_answer("gpqa", "Answer: B")
        == "B"
    )
    spaced, tight = (
        canonical_answer("cruxeval", f"Answer: {text}")
        for text in ("['a', 1]", '["a",1]')
    )
    assert spaced == tight == "['a', 1]"
    assert canonical_answer("cruxeval", "Answer: '7'") != canonical_answer(
        "cruxeval", "Answer: 7"
    )
    assert (
        canonical_answer("gpqa", "Answer: none")
        is canonical_answer("cruxeval", "Answer: f()")
        is None
    )


def test_a_set_comes_from_its_place_on_the_hub(folders, monkeypatch):
    import huggingface_hub

    def fetch(repository, file, repo_type):
        assert repo_type == "dataset"
        (name,) = (
            name for name, known in HUB_SETS.items() if known.repository == repository
        )
        return str(folders / name / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    for name in HUB_SETS:
        assert make(TaskConfig(name=name)).problems("test") == read(
            folders, name
        ).problems("test")


def test_a_hub_out_of_reach_is_one_line(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no route there\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError) as told:
        make(TaskConfig(name="gpqa"))
    assert str(told.value) == (
        "config.task.name = 'gpqa': Idavidrein/gpqa cannot be had from the hub "
        "(ConnectionError: no route "
        "there); give a copy of it by --config.task.path="
    )


def test_one_file_is_of_the_split_that_it_is_called_by(folders):
    for split in ("train", "test"):
        path = folders / f"{split}.jsonl"
        lines(path, GSM8K[:30])
        task = make(TaskConfig(name="gsm8k", path=str(path)))
        assert (len(task.problems(split)) == 30) == (split == "test")
    with pytest.raises(
        UserError, match="no question for config.task.split = 'test'; it has: train 2"
    ):
        make(TaskConfig(name="gsm8k", path=str(folders / "train.jsonl"))).problems(
            "test"
        )
    # of a set without training questions every file is for the test
    lines(folders / "training.jsonl", CRUXEVAL)
    assert (
        len(
            make(
                TaskConfig(name="cruxeval", path=str(folders / "training.jsonl"))
            ).problems("test")
        )
        == 2
    )


def test_what_is_wrong_with_a_copy_is_named(folders):
    with pytest.raises(
        UserError, match="holds no test.jsonl; give one file of HuggingFaceH4/MATH-500"
    ):
        make(TaskConfig(name="math500", path=str(folders)))
    with pytest.raises(UserError, match="none.csv': No such file"):
        make(TaskConfig(name="gpqa", path=str(folders / "none.csv")))
    with pytest.raises(
        UserError,
        match="test.jsonl:1: field 'id' is missing; every line needs 'id' and 'code'",
    ):
        make(TaskConfig(name="cruxeval", path=str(folders / "math500")))
    table(folders / "x.csv", [{**GPQA[0], "Incorrect Answer 2": " "}])
    with pytest.raises(
        UserError, match="x.csv:2: field 'Incorrect Answer 2' = ' ' must be"
    ):
        make(TaskConfig(name="gpqa", path=str(folders / "x.csv")))
    (folders / "y.csv").write_text('Question,Record ID\n"never closed')
    with pytest.raises(UserError, match="y.csv:2: is not CSV"):
        make(TaskConfig(name="gpqa", path=str(folders / "y.csv")))
    with pytest.raises(UserError, match="unknown task 'gsm8'; did you mean 'gsm8k'"):
        make(TaskConfig(name="gsm8"))


# --- several tasks as one ---

PARTS = ("sums", "gpqa", "cruxeval")


@pytest.fixture
def mixed(folders):
    config = TaskConfig(name="mixed", parts=PARTS, path=str(folders / "all"))
    (folders / "all").mkdir()
    table(folders / "all" / "gpqa_diamond.csv", GPQA)
    lines(folders / "all" / "test.jsonl", CRUXEVAL)
    return config, make(config)


def test_a_mixture_has_as_many_problems_of_every_part(mixed):
    config, task = mixed
    own = {
        part: make(dataclasses.replace(config, name=part)).problems("test")
        for part in PARTS
    }
    everything = task.problems("test")
    assert [p.task for p in everything] == [
        *PARTS
    ] * 2  # as many as the smallest part has
    assert [p for p in everything if p.task == "gpqa"] == own["gpqa"][:2]
    assert (
        task.problems("test", 4) == everything[:4]
        and task.problems("test", 99) == everything
    )


def test_a_problem_of_a_mixture_is_its_own_tasks(mixed):
    config, task = mixed
    for problem in task.problems("test"):
        own = make(dataclasses.replace(config, name=problem.task))
        assert task.prompt(problem) == own.prompt(problem)
        for answer in (problem.answer, f"({problem.answer})", "['a',\"a\"]", "7"):
            assert task.grade(problem, f"Answer: {answer}") == own.grade(
                problem, f"Answer: {answer}"
            )
    assert (
        task.grade(
            task.problems("test")[1], f"Answer: ({task.problems('test')[1].answer})"
        )
        == RIGHT
    )
    assert task.grade(task.problems("test")[2], "Answer: ['a',\"a\"]") == RIGHT


@pytest.mark.parametrize("parts", [(), ("sums",), ("sums", "sums"), ("sums", "mixed")])
def test_a_mixture_needs_two_parts(parts):
    with pytest.raises(
        UserError,
        match="config.task.parts = .* must be two other tasks or more, each once",
    ):
        make(TaskConfig(name="mixed", parts=parts))


def test_an_unknown_part_is_named():
    with pytest.raises(UserError, match="unknown task 'gdc'; did you mean 'gcd'"):
        make(TaskConfig(name="mixed", parts=("sums", "gdc")))
