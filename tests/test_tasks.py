"""Problem spaces are fixed, splits disjoint, answers true; question files are read or
refused by line.
"""

import hashlib
import json
import math
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make
from fr.tasks.task import SPLITS
from fr.tasks.word_problems import TEMPLATES

CONFIGS = {
    "sums": TaskConfig(name="sums"),
    "long_sums": TaskConfig(name="sums", terms=4, digits=3),
    "gcd": TaskConfig(name="gcd"),
    "letters": TaskConfig(name="letters"),
    "word_problems": TaskConfig(name="word_problems"),
}
# Hash of all ids in order, split by split: a change moves problems and makes results
# incomparable.
GOLDEN = {
    "sums": "aad096956679f8f6",
    "long_sums": "e5b3fb8ace3b3f16",
    "gcd": "00412246fc71f736",
    "letters": "ab201cf453d3e33b",
    "word_problems": "6fa92264fc607904",
}


@pytest.fixture(scope="module")
def made():
    return {name: make(config) for name, config in CONFIGS.items()}


def everything(task):
    return {split: task.problems(split) for split in SPLITS}


@pytest.mark.parametrize("name", CONFIGS)
def test_splits_are_fixed_and_disjoint(made, name):
    splits = everything(made[name])
    groups = [{p.meta["group"] for p in problems} for problems in splits.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    ids = [p.id for problems in splits.values() for p in problems]
    assert len(set(ids)) == len(ids)
    # 100 one-digit sums are 55 groups: too few for shares to be near a tenth
    assert all(
        (0.07 if len(ids) > 100 else 0.03) < len(splits[s]) / len(ids) < 0.13
        for s in SPLITS[1:]
    )
    text = json.dumps(
        {split: [p.id for p in problems] for split, problems in splits.items()}
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_count_is_a_prefix(made, name):
    assert made[name].problems("test", 5) == made[name].problems("test")[:5]
    with pytest.raises(UserError, match="'tset' is not known; did you mean 'test'"):
        made[name].problems("tset")


@pytest.mark.parametrize("name", CONFIGS)
def test_chains_are_true_and_end_in_the_answer(made, name):
    for problems in everything(made[name]).values():
        for p in problems[:2000]:
            for left, result in re.findall(
                r"(\d[\d +*/-]*) = ([\d +*/-]*\d)\.", p.meta["chain"]
            ):
                assert calculate(left) == calculate(result), p
            assert json.loads(json.dumps(p.meta)) == p.meta


def calculate(text: str) -> float:
    """Value of an expression of + - * / without brackets, by splitting at the weakest
    sign.
    """
    for sign in "+-*/":
        if f" {sign} " in text:
            left, right = text.rsplit(f" {sign} ", 1)
            a, b = calculate(left), calculate(right)
            return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else math.nan}[
                sign
            ]
    return float(text)


@pytest.mark.parametrize("name", ["sums", "long_sums"])
def test_answers_of_sums(made, name):
    config = CONFIGS[name]
    for problems in everything(made[name]).values():
        for p in problems:
            terms = re.findall(r"\d+", p.question)
            assert len(terms) == config.terms and all(
                len(term) == config.digits for term in terms
            )
            assert p.answer == str(sum(map(int, terms)))


def test_answers_of_gcd(made):
    for problems in everything(made["gcd"]).values():
        for p in problems:
            a, b = map(int, re.findall(r"\d+", p.question))
            assert p.answer == str(
                max(d for d in range(2, 100) if a % d == 0 and b % d == 0)
            )


def test_answers_of_letters(made):
    for problems in everything(made["letters"]).values():
        for p in problems:
            letter, word = re.findall('"([a-z]+)"', p.question)
            assert p.answer == str(len(re.findall(letter, word)))


# what each story asks, from the numbers in the order of its text; written apart from
# the templates
STORIES = {
    "more and then": lambda has, gets, gives: has + gets - gives,
    "boxes with": lambda boxes, each, had: had + boxes * each,
    "out. How many": lambda bags, each, taken: bags * each - taken,
    "have together": lambda own, times: own * (1 + times),
    "shares": lambda total, children, more: total // children + more,
    "dollars are left": lambda gets, spends, weeks: gets * weeks - spends * weeks,
    "years older": lambda age, older, years: age + older + years,
}


def test_answers_of_word_problems(made):
    assert len(STORIES) == len(TEMPLATES)
    seen = set()
    for problems in everything(made["word_problems"]).values():
        for p in problems:
            (story,) = [phrase for phrase in STORIES if phrase in p.question]
            answer = STORIES[story](*map(int, re.findall(r"\d+", p.question)))
            assert p.answer == str(answer) and answer > 0, p
            assert "{" not in p.question
            seen.add(story)
    assert seen == set(STORIES)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("split", SPLITS)
def test_worked_examples_come_from_other_training_problems(made, name, split):
    config = TaskConfig(**{**vars(CONFIGS[name]), "shots": 2})
    task = make(config)
    train = {p.question: p for p in task.problems("train")}
    for problem in task.problems(split, 30):
        *shots, last = task.prompt(problem)
        assert [m["role"] for m in shots] == ["user", "assistant"] * 2 and last[
            "role"
        ] == "user"
        assert last["content"].startswith(problem.question)
        for asked, told in zip(shots[::2], shots[1::2]):
            shot = train[asked["content"].rpartition("\n")[0]]
            assert shot.meta["group"] != problem.meta["group"]
            assert told["content"].endswith(f"\nAnswer: {shot.answer}")
            assert task.grade(shot, told["content"]) == "right"
    assert len(made[name].prompt(made[name].problems("test", 1)[0])) == 1


def test_unknown_task_and_sums_that_are_too_long():
    with pytest.raises(UserError, match="unknown task 'sum'; did you mean 'sums'"):
        make(TaskConfig(name="sum"))
    with pytest.raises(UserError, match="config.task.terms = 9 of digits = 9"):
        make(TaskConfig(name="sums", terms=9, digits=9))


# --- question files ---


def questions(tmp_path, lines, **settings):
    path = tmp_path / "some.jsonl"
    path.write_text(
        "".join(
            line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines
        )
    )
    return make(TaskConfig(name="questions", path=str(path), **settings))


def test_question_files_keep_their_splits_and_order(tmp_path):
    lines = [
        {"question": f"q{i}", "answer": i, "split": s}
        for i, s in enumerate(["test", "train", "test", "dev"])
    ]
    task = questions(tmp_path, ["\n", *lines])
    assert [(p.id, p.question, p.answer) for p in task.problems("test")] == [
        ("some-2", "q0", "0"),
        ("some-4", "q2", "2"),
    ]
    assert len(task.problems("validation")) == 1
    assert task.problems("test", 1) == task.problems("test")[:1]


def test_parquet_and_json_lines_hold_the_same(tmp_path):
    lines = [
        {"id": f"n{i}", "question": f"q {i}", "answer": f"{i}.50"} for i in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "some.parquet")
    shares = {"split_shares": (0.5, 0.2, 0.3)}
    one = questions(tmp_path, lines, **shares)
    other = make(
        TaskConfig(name="questions", path=str(tmp_path / "some.parquet"), **shares)
    )
    assert everything(one) == everything(other)
    # a question stays on its side for any other content of the file
    again = questions(tmp_path, lines[::-1], **shares)
    assert {p.id for p in again.problems("test")} == {
        p.id for p in one.problems("test")
    }


def test_solutions_state_their_answer_last_and_serve_as_examples(tmp_path):
    lines = [
        {"question": "a", "answer": "3 + 4 = 7\n#### 7", "split": "train"},
        {
            "question": "b",
            "answer": "so \\boxed{1} then \\boxed{\\frac{1}{2}}",
            "split": "train",
        },
        {"question": "c", "answer": "Paris", "split": "test"},
    ]
    task = questions(tmp_path, lines, shots=2)
    assert [p.answer for p in task.problems("train")] == ["7", "\\frac{1}{2}"]
    prompt = task.prompt(task.problems("test")[0])
    assert prompt[1]["content"] == "3 + 4 = 7\nAnswer: 7" and prompt[-1][
        "content"
    ].startswith("c\n")
    assert task.grade(task.problems("test")[0], "Answer: paris.") == "right"
    assert task.grade(task.problems("train")[1], "Answer: 0.5") == "right"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [{"question": "a", "answer": "1"}, {"question": "b"}],
            "some.jsonl:2: field 'answer' is missing",
        ),
        (
            [{"question": "a", "answer": None}],
            "some.jsonl:1: field 'answer' is missing",
        ),
        ([{"answer": "1"}], "some.jsonl:1: field 'question' is missing"),
        (
            [{"question": "a", "answer": " "}],
            "some.jsonl:1: field 'answer' = ' ' must be",
        ),
        ([{"question": "a", "answer": ["1"]}], "must be a text or a number"),
        ([{"question": "a", "answer": "think\n####"}], "ends without an answer"),
        (
            [{"question": "a", "answer": "1", "split": "tset"}],
            "some.jsonl:1: split 'tset' is not known",
        ),
        (
            [{"id": 1, "question": q, "answer": "1"} for q in "ab"],
            "some.jsonl:2: id '1' is taken by .*some.jsonl:1",
        ),
        (
            ['{"question": "a", "answer": "1"}\n', "{question}\n"],
            "some.jsonl:2: is not JSON",
        ),
        (["[1]\n"], "some.jsonl:1: is not a JSON object"),
        ([], "some.jsonl is empty"),
        (["\n\n"], "some.jsonl is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, said):
    with pytest.raises(UserError, match=said):
        questions(tmp_path, lines)


def test_bad_files_are_named(tmp_path):
    def of(path, **settings):
        return make(TaskConfig(name="questions", path=str(path), **settings))

    with pytest.raises(UserError, match="config.task.path is empty"):
        make(TaskConfig(name="questions"))
    with pytest.raises(UserError, match="none.jsonl': No such file"):
        of(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="must end in .jsonl, .parquet, .csv"):
        of(tmp_path / "x.txt")
    (tmp_path / "x.parquet").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="x.parquet is not a Parquet file"):
        of(tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(UserError, match="x.jsonl is not UTF-8"):
        of(tmp_path / "x.jsonl")
    pq.write_table(
        pa.table({"question": ["a"], "answer": pa.array([None], pa.float64())}),
        tmp_path / "y.parquet",
    )
    with pytest.raises(UserError, match="y.parquet:1: field 'answer' is missing"):
        of(tmp_path / "y.parquet")
    task = questions(tmp_path, [{"question": "a", "answer": "1", "split": "train"}])
    with pytest.raises(
        UserError, match="no question for config.task.split = 'test'; it has: train 1"
    ):
        task.problems("test")
    with pytest.raises(
        UserError, match="config.task.shots = 2 is more than the 1 training"
    ):
        questions(
            tmp_path, [{"question": "a", "answer": "1", "split": "train"}], shots=2
        )
