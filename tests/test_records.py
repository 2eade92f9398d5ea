"""Files of questions: what a field may hold in each format, and one line for what is
wrong, in little memory.
"""

import decimal
import json
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr.config import TaskConfig
from fr.errors import UserError
from fr.tasks import make
from fr.tasks.boxed import boxed_parts
from fr.types import RIGHT


def read(path, **settings):
    """(id, question, reference) of the test questions of a file."""
    task = make(TaskConfig(name="questions", path=str(path), **settings))
    return [(p.id, p.question, p.answer) for p in task.problems("test")]


def refused(path, said, **settings):
    with pytest.raises(UserError, match=said) as told:
        read(path, **settings)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def lines(tmp_path, *given: str | bytes | dict):
    path = tmp_path / "q.jsonl"
    raw = [json.dumps(line) if isinstance(line, dict) else line for line in given]
    path.write_bytes(
        b"\n".join(line.encode() if isinstance(line, str) else line for line in raw)
    )
    return path


GOOD = {"question": "What is 3 + 4?", "answer": "7"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"question": "3 \\ud83d ?", "answer": "7"}',
            ":2: field 'question' holds half a character",
        ),
        (
            '{"question": "a", "answer": "\\udc00"}',
            ":2: field 'answer' holds half a character",
        ),
        (
            '{"question": "a", "answer": "7", "id": "\\ud83d"}',
            ":2: field 'id' holds half a character",
        ),
        ('{"question": "a\\u0000", "answer": "7"}', ":2: field 'question' holds a NUL"),
        (b'{"question": "a\0", "answer": "7"}', ":2: holds a NUL"),
        (
            b'{"question": "\xe9", "answer": "7"}',
            r"is not UTF-8 text \(line 2, byte 15\)",
        ),
        (
            '{"question": "a", "answer": NaN}',
            ":2: field 'answer' = nan is not a finite number",
        ),
        (
            '{"question": "a", "answer": -Infinity}',
            ":2: field 'answer' = -inf is not a finite number",
        ),
        (
            '{"question": "a", "answer": {"value": 7}}',
            ":2: field 'answer' = .* must be a text or a number",
        ),
        (
            '{"question": ["a"], "answer": 7}',
            ":2: field 'question' = .* must be a text or a number",
        ),
        (
            '{"question": "a", "answer": true}',
            ":2: field 'answer' = 'True' must be a text",
        ),
        ('{"question": "", "answer": "7"}', ":2: field 'question' = '' must be"),
        (
            '{"question": " \\u200b\\n", "answer": "7"}',
            ":2: field 'question' = .* must be",
        ),
        (
            '{"question": "a", "question": "b", "answer": "7"}',
            ":2: is not JSON .'question' occurs twice",
        ),
        (
            '{"question": "a", "answer": "7", "id": "x\\ry"}',
            r":2: id 'x\\ry' holds '\\r'",
        ),
        ('{"question": "a", "answer": "7", "id": "x\\u2028y"}', r":2: id 'x.*y' holds"),
        (
            '{"question": "a", "answer": "7", "id": {"n": 1}}',
            ":2: field 'id' = .* must be a text",
        ),
        ('{"question": "a", "answer": "7", "id": ""}', ":2: field 'id' = '' must be"),
        ('{"question": "a", "answer": "7", "split": 3}', ":2: split '3' is not known"),
        (
            '{"question": "a", "answer": "7", "split": ["test"]}',
            ":2: field 'split' = .* must be a text",
        ),
        (
            '{"prompt": "a", "target": "7"}',
            ":2: field 'question' is missing.*it has: 'prompt', 'target'",
        ),
        (
            '{"question": "a", "answer": ' + "[" * 100_000,
            ":2: its JSON is nested too deeply",
        ),
        ('{"question": "a"} {"answer": "7"}', ":2: is not JSON"),
        ("question,answer", ":2: is not JSON"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path, line, said):
    refused(
        lines(tmp_path, GOOD, line, GOOD),
        f"q.jsonl{said}" if said.startswith(":") else said,
    )


def test_ids_differ_after_blanks_are_gone(tmp_path):
    refused(
        lines(tmp_path, {"id": "a", **GOOD}, {"id": " a ", **GOOD}),
        "q.jsonl:2: id 'a' is taken by .*:1",
    )
    refused(
        lines(tmp_path, {"id": "a" * 301, **GOOD}),
        "q.jsonl:1: id 'a.*' has 301 characters",
    )
    path = tmp_path / "two\rlines.jsonl"
    path.write_text(json.dumps(GOOD))
    refused(path, "id .* holds '.r'")


def test_numbers_blanks_and_ends_of_lines_of_json(tmp_path):
    big = "1" + "0" * 5000
    path = lines(
        tmp_path,
        b"\xef\xbb\xbf"
        + json.dumps({"question": " q\r\n", "answer": 0.1, "note": math.nan}).encode()
        + b"\r",
        b"\r",
        '{"question": "\\ud83d\\ude00", "answer": 12, "id": 7, "note": ' + big + "}\r",
    )
    assert read(path) == [("q-1", "q", "0.1"), ("7", "😀", "12")]


def test_what_is_no_file_or_too_long_is_refused_soon_and_in_little_memory(tmp_path):
    """In a process of its own, whose memory is bounded."""
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder.parquet").mkdir()
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(1 << 42)
    with (tmp_path / "holes.jsonl").open("wb") as file:
        file.truncate(1 << 31)  # one line of 2 GiB of NULs
    (tmp_path / "long.jsonl").write_text(
        json.dumps({"question": "x" * 50_000_000, "answer": "7"})
    )
    (tmp_path / "field.jsonl").write_text(
        json.dumps({"question": "x" * 2_000_000, "answer": "7"})
    )
    (tmp_path / "field.csv").write_text(
        'question,answer\n"' + "x\n" * 2_000_000 + '",7\n'
    )
    # a dictionary of one long text, and a million rows of it in a few kilobytes
    rows = pa.array(np.zeros(1_000_000, np.int32))
    bomb = pa.table(
        {
            "question": pa.DictionaryArray.from_arrays(rows, pa.array(["x" * 999_000])),
            "answer": rows,
        }
    )
    pq.write_table(bomb, tmp_path / "bomb.parquet", compression="zstd")
    names = sorted(path.name for path in tmp_path.iterdir())
    code = f"""
        import resource, time
        from fr.config import TaskConfig
        from fr.errors import UserError
        from fr.tasks import make
        make(TaskConfig(name="sums"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in {names!r}:
            begin = time.perf_counter()
            try:
                make(TaskConfig(name="questions", path={str(tmp_path)!r} + "/" + name))
                print(name, "was read")
            except UserError as error:
                now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                seconds, grown = time.perf_counter() - begin, (now - before) >> 10
                print(f"{{name}} {{seconds:.1f}} {{grown}} {{error}}")
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = {
        line.split(" ", 3)[0]: line.split(" ", 3)[1:]
        for line in done.stdout.splitlines()
    }
    assert sorted(said) == names, done.stdout + done.stderr
    for name, (seconds, grown, _) in said.items():
        assert float(seconds) < 10 and int(grown) < 200, (name, said[name])
    expected = {
        "fifo.jsonl": "is a named pipe",
        "zero.jsonl": "is a device",
        "loop.csv": "symbolic links",
        "folder.parquet": "is a folder",
        "huge.csv": "has 4398046511104 bytes or more",
        "holes.jsonl": "holes.jsonl:1: is longer than",
        "long.jsonl": "long.jsonl:1: is longer than",
        "field.jsonl": "field.jsonl:1: field 'question' has 2000000 characters",
        "field.csv": "field.csv:2: is not CSV (field larger",
        "bomb.parquet": "from a file of its size; split it",
    }
    for name, words in expected.items():
        assert words in said[name][2], said[name]


# --- CSV ---


def table(tmp_path, text: str | bytes):
    path = tmp_path / "q.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "question,answer\na,7\nAnn, Ben and Carl?,7\n",
            "q.csv:3: has 3 fields, the header has 2.*double quotes",
        ),
        ("question,answer\na,7\nb\n", "q.csv:3: has 1 fields, the header has 2"),
        ('question,answer\n"a\nb",7\nc,7,8\n', "q.csv:4: has 3 fields"),
        (
            "question;answer\na;7\n",
            "q.csv:2: field 'question' is missing.*it has: 'question;answer'",
        ),
        (
            "question,question,answer\na,b,7\n",
            "q.csv:1: two columns are called 'question'",
        ),
        (
            "question,answer\ra,7\r",
            "q.csv:1: is not CSV .a carriage return stands alone",
        ),
        ('question,answer\n"a,7\nb,8\n', "q.csv:2: is not CSV .unexpected end"),
        ('question,answer\n"a"b,7\n', "q.csv:2: is not CSV"),
        ("question,answer\na,\n", "q.csv:2: field 'answer' is missing"),
        ("question,answer\n", "q.csv is empty"),
        ("", "q.csv is empty"),
        ("question,answer\na\0,7\n", "q.csv:2: holds a NUL"),
        ("question,answer\né,7\n".encode("latin-1"), r"is not UTF-8 text \(line 2"),
        ("question,answer\na,7\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("question,answer\na,7\n".encode("utf-16-le"), "q.csv:1: holds a NUL"),
    ],
)
def test_a_bad_line_of_csv_is_named(tmp_path, text, said):
    refused(table(tmp_path, text), said)


def test_csv_as_table_tools_write_it(tmp_path):
    path = table(
        tmp_path,
        '\ufeffquestion , answer,split,id\r\n"a, ""b""\nc",7,,\r\n\r\nd, 1/2 ,,x\r\n',
    )
    assert read(path) == [("q-2", 'a, "b"\nc', "7"), ("x", "d", "1/2")]


# --- Parquet ---


def parquet(tmp_path, **columns):
    pq.write_table(pa.table({"question": ["a"], **columns}), tmp_path / "q.parquet")
    return tmp_path / "q.parquet"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([0.1], pa.float64()), "0.1"),
        (pa.array([np.float16(0.1)], pa.float16()), "0.1"),
        (pa.array([16777216.0], pa.float32()), "16777216"),
        (pa.array([1e-5], pa.float32()), "0.00001"),
        (pa.array([3.4e20], pa.float32()), "340000000000000000000"),
        (pa.array([-0.0], pa.float64()), "-0"),
        (pa.array([2**63], pa.uint64()), "9223372036854775808"),
        (pa.array([decimal.Decimal("1E-8")], pa.decimal128(20, 8)), "0.00000001"),
        (pa.array([b"7"], pa.binary()), "7"),
        (pa.array([b"7"], pa.binary(1)), "7"),
        (pa.array(["7"], pa.large_string()), "7"),
        (pa.array(["7"]).dictionary_encode(), "7"),
        (pa.array([b"7"]).dictionary_encode(), "7"),
    ],
)
def test_a_column_of_parquet_is_read_as_the_shortest_text(tmp_path, column, text):
    path = parquet(tmp_path, answer=column)
    assert read(path) == [("q-1", "a", text)]
    task = make(TaskConfig(name="questions", path=str(path)))
    assert task.grade(task.problems("test")[0], f"Answer: {text}") == RIGHT


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"answer": pa.array([b"\xff"])},
            "q.parquet:1: column 'answer' holds bytes that are not UTF-8",
        ),
        ({"answer": pa.array([[1]])}, "q.parquet: column 'answer' is of type list"),
        ({"answer": pa.array([{"x": 1}])}, "column 'answer' is of type struct"),
        ({"answer": pa.array([True])}, "column 'answer' is of type bool"),
        (
            {"answer": pa.array([0], pa.timestamp("s"))},
            "column 'answer' is of type timestamp",
        ),
        (
            {"answer": pa.array([math.inf])},
            "q.parquet:1: field 'answer' = inf is not a finite number",
        ),
        ({"answer": pa.array([math.nan])}, "q.parquet:1: field 'answer' is missing"),
        ({"answer": pa.nulls(1)}, "q.parquet:1: field 'answer' is missing"),
        ({"reply": pa.array(["7"])}, "q.parquet:1: field 'answer' is missing"),
        ({"answer": ["7"], "id": pa.array([[1]])}, "column 'id' is of type list"),
    ],
)
def test_a_bad_column_of_parquet_is_named(tmp_path, columns, said):
    refused(parquet(tmp_path, **columns), said)


def test_parquet_without_any_wanted_column_names_those_it_has(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "q.parquet")
    refused(tmp_path / "q.parquet", "has no column 'question'; it has: 'prompt'")
    twice = pa.Table.from_arrays(
        [["a"], ["b"], ["7"]], ["question", "question", "answer"]
    )
    pq.write_table(twice, tmp_path / "q.parquet")
    refused(tmp_path / "q.parquet", "two columns are called 'question'")
    nothing = pa.array([], pa.string())
    pq.write_table(
        pa.table({"question": nothing, "answer": nothing}), tmp_path / "q.parquet"
    )
    refused(tmp_path / "q.parquet", "q.parquet is empty")


# --- fields, splits, prompts ---


def test_fields_may_have_other_names(tmp_path):
    path = lines(
        tmp_path,
        {
            "prompt": "a",
            "target": 7,
            "part": "Test",
            "key": "k",
            "question": "not me",
            "id": [1],
        },
    )
    names = {
        "question_field": "prompt",
        "answer_field": "target",
        "split_field": "part",
        "id_field": "key",
    }
    assert read(path, **names) == [("k", "a", "7")]


def test_without_a_split_all_are_test_and_that_is_said(tmp_path, capsys):
    some = [{"question": f"q{i}", "answer": i} for i in range(40)]
    path = lines(tmp_path, *some)
    assert len(read(path)) == 40
    assert (
        "test 40 (no line has a field 'split', so all are test)"
        in capsys.readouterr().out
    )
    task = make(TaskConfig(name="questions", path=str(path)))
    with pytest.raises(
        UserError, match="'train'; it has: train 0.*config.task.split_shares"
    ):
        task.problems("train")
    divided = make(
        TaskConfig(name="questions", path=str(path), split_shares=(0.5, 0.25, 0.25))
    )
    sizes = [len(divided.problems(split)) for split in ("train", "validation", "test")]
    assert sum(sizes) == 40 and 12 < sizes[0] < 28 and min(sizes) > 3
    assert "(all by a hash of the question" in capsys.readouterr().out
    path = lines(tmp_path, {**some[0], "split": "test"}, some[1])
    refused(path, "q.jsonl:2: has no field 'split', and other lines have one")
    assert len(read(path, split_shares=(0.0, 0.0, 1.0))) == 2


def test_worked_examples_may_come_from_a_file_of_their_own(tmp_path):
    shown = tmp_path / "shown.csv"
    shown.write_text(
        "question,answer\nWhat is 1 + 1?,it is so: #### 2\nWhat is 3 + 4?,7\n"
    )
    path = lines(tmp_path, GOOD)
    settings = {"examples": str(shown), "chat": "plain", "system": "Sys."}
    task = make(TaskConfig(name="questions", path=str(path), shots=1, **settings))
    assert task.prompt(task.problems("test")[0]) == (
        "Sys.\n\nQuestion: What is 1 + 1?\n"
        'End with a line "Answer:" and the answer.\nSolution: it is so:\nAnswer: 2\n\n'
        'Question: What is 3 + 4?\nEnd with a line "Answer:" and the answer.\nSolution:'
    )
    with pytest.raises(
        UserError,
        match="shots = 3 is more than the 2 questions of .*shown.csv'; lower it",
    ):
        make(TaskConfig(name="questions", path=str(path), shots=3, examples=str(shown)))


def test_system_prompt_template_and_instruction_are_settings(tmp_path):
    path = lines(tmp_path, {"question": "What is {instruction}?", "answer": "7"})
    config = TaskConfig(
        name="questions",
        path=str(path),
        system="You count.",
        template="{instruction}\n> {question}",
        instruction="Box it.",
    )
    task = make(config)
    assert task.prompt(task.problems("test")[0]) == [
        {"role": "system", "content": "You count."},
        {"role": "user", "content": "Box it.\n> What is {instruction}?"},
    ]


def test_a_reference_that_does_not_grade_itself_right_is_refused_by_its_line(tmp_path):
    path = lines(tmp_path, GOOD, {"question": "a", "answer": "not so"})
    refused(
        path,
        "q.jsonl:2: the reference 'not so' is graded .* when it is given as the answer",
    )


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (
            r"so \boxed{1} then \boxed{\frac{1}{2}}. The answer is clear.",
            r"\frac{1}{2}",
        ),
        (r"\boxed{x \in \{1, 2\}}", r"x \in \{1, 2\}"),
        (r"\boxed{\text{a \boxed{b} c}}", r"\text{a \boxed{b} c}"),
        (r"\boxed{7", None),
        (r"\boxed{7} and \boxed{8", "7"),
        ("}" * 10 + r"\fbox{7}", None),
        (r"\boxed{" * 50_000, None),
    ],
)
def test_the_last_box_of_a_solution(text, held):
    assert boxed_parts(text) == [held] * (held is not None)
