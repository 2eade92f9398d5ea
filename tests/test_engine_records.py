"""Records of other tools with values of wrong types: one line names file and record."""

import gzip
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fr.errors import UserError
from fr.exchange.reading import completions
from fr.exchange.sampled import FORMATS, Format, Sampled
from fr.exchange.tool_formats import format_of

CHAT = [{"role": "user", "content": "2 + 2"}]
VLLM = {
    "prompt": "2 + 2",
    "prompt_token_ids": [1, 2],
    "outputs": [
        {
            "text": "4",
            "token_ids": [3, 4],
            "logprobs": [{"3": {"logprob": -1}}, {"4": -0.5}],
            "finish_reason": "stop",
        }
    ],
}
OPENAI = {
    "request": {"body": {"messages": CHAT, "temperature": 1.0, "top_k": -1}},
    "response": {
        "body": {
            "choices": [
                {
                    "message": {"content": "4"},
                    "logprobs": {
                        "content": [{"token": "4", "logprob": -1, "bytes": [52]}]
                    },
                    "finish_reason": "stop",
                }
            ]
        }
    },
}
OWN = {"text": "4", "token_ids": [3], "logprobs": [-1], "prompt": "2", "top_p": 1}
NODES = [
    {"message": CHAT[0], "token_ids": [1, 2]},
    {
        "message": {"role": "assistant", "content": "4"},
        "sampled": True,
        "token_ids": [3],
        "mask": [True],
        "logprobs": [-1],
    },
]
PRIME = {"nodes": NODES, "calls": [{"model": "m"}], "task": {"data": {"id": 1}}}
OLDER = {
    "trajectory": [{"tokens": {"completion_ids": [3], "completion_logprobs": [-1]}}],
    "completion": "4",
    "prompt": "2 + 2",
}
INSPECT = {
    "eval": {"model": "m"},
    "plan": {"config": {"temperature": 0.5}},
    "samples": [
        {
            "id": 1,
            "input": "2 + 2",
            "target": "4",
            "messages": CHAT,
            "output": {
                "choices": [{"message": {"content": "4"}, "stop_reason": "stop"}]
            },
            "metadata": {"prompt_token_ids": [1]},
            "attachments": {},
        }
    ],
}
VERL = {"input": "2 + 2", "output": "4", "score": 1.0}
GOOD = {
    "vllm": VLLM,
    "openai": OPENAI,
    "fr": OWN,
    "prime": PRIME,
    "inspect": INSPECT,
    "verl": VERL,
}
HALF = "\ud83d"
OUT, CHOICE = ("outputs", 0), ("response", "body", "choices", 0)
TOKEN = (*CHOICE, "logprobs", "content", 0)
FLAT = {"start_indices": [0, 1], "end_indices": [1, 2]}
FLAT |= {"token_ids": [3, 4], "logprobs": [-1, -1]}
SAMPLE = ("samples", 0)

BAD = [
    ("vllm", (*OUT, "text"), 5),
    ("vllm", (*OUT, "text"), HALF),
    ("vllm", (*OUT, "finish_reason"), {"a": 1}),
    ("vllm", (*OUT, "token_ids"), [True, 1]),
    ("vllm", (*OUT, "token_ids"), [2**31, 1]),
    ("vllm", (*OUT, "token_ids"), {}),
    ("vllm", (*OUT, "logprobs"), ["x", "y"]),
    ("vllm", (*OUT, "logprobs"), [{"3": {"logprob": "x"}}, None]),
    ("vllm", (*OUT, "logprobs"), FLAT | {"start_indices": ["a", 1]}),
    ("vllm", (*OUT, "logprobs"), FLAT | {"end_indices": [1, 10**12]}),
    ("vllm", (*OUT, "logprobs"), FLAT | {"start_indices": [-2, 1]}),
    ("vllm", (*OUT, "logprobs"), FLAT | {"logprobs": [-1]}),
    ("vllm", ("prompt_token_ids",), "abc"),
    ("vllm", ("prompt_token_ids",), [10**30]),
    ("vllm", ("prompt_token_ids",), [-1]),
    ("vllm", ("prompt",), {"a": 1}),
    ("vllm", ("reward",), 10**400),
    ("openai", (*TOKEN, "bytes"), 10**15),
    ("openai", (*TOKEN, "bytes"), [300]),
    ("openai", (*TOKEN, "bytes"), "abc"),
    ("openai", (*TOKEN, "bytes"), [True]),
    ("openai", (*TOKEN, "token"), HALF),
    ("openai", (*TOKEN, "token"), 5),
    ("openai", (*TOKEN, "logprob"), "x"),
    ("openai", (*CHOICE, "logprobs"), "x"),
    ("openai", (*CHOICE, "logprobs"), {"tokens": ["4"], "token_logprobs": [-1, -2]}),
    ("openai", (*CHOICE, "token_ids"), 5),
    ("openai", (*CHOICE, "message", "reasoning_content"), [1]),
    ("openai", ("request", "body"), "x"),
    ("openai", ("request", "body", "temperature"), float("nan")),
    ("openai", ("request", "body", "top_k"), 10**12),
    ("openai", ("request", "body", "messages"), 5),
    ("fr", ("logprobs",), 5),
    ("fr", ("token_ids",), 5),
    ("fr", ("text",), ["a"]),
    ("fr", ("top_p",), [1]),
    ("prime", ("calls",), 5),
    ("prime", ("task", "data"), "x"),
    ("prime", ("nodes", 1, "mask"), 5),
    ("prime", ("nodes", 1, "mask"), [True] * 4),
    ("prime", ("nodes", 1, "logprobs"), {"a": 1}),
    ("prime", ("nodes", 1, "message"), "x"),
    ("prime", ("nodes", 0, "token_ids"), 5),
    ("inspect", ("plan",), "x"),
    ("inspect", (*SAMPLE, "metadata"), "x"),
    ("inspect", (*SAMPLE, "messages"), 5),
    ("inspect", (*SAMPLE, "attachments"), [1]),
    ("inspect", (*SAMPLE, "output", "choices", 0, "message"), "x"),
    ("inspect", ("samples",), 5),
    ("inspect", SAMPLE, 5),
    ("verl", ("output",), HALF),
    ("verl", ("output",), None),
]


def changed(record, path: tuple, value):
    record = json.loads(json.dumps(record))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return record


def read(tmp_path, name: str, record) -> list[Sampled]:
    path = tmp_path / ("a.json" if name == "inspect" else "a.jsonl")
    path.write_text(json.dumps(record))
    return list(completions(name, format_of(name), str(path)))


def refusal(tmp_path, name: str, record) -> str:
    with pytest.raises(UserError) as error:
        read(tmp_path, name, record)
    said = str(error.value)
    assert len(said) < 300 and said.isprintable()
    return said


@pytest.mark.parametrize("name", GOOD)
def test_the_records_that_are_changed_below_are_read(tmp_path, name):
    (found,) = read(tmp_path, name, GOOD[name])
    assert found.text == "4" and not found.unread


@pytest.mark.parametrize(("name", "path", "value"), BAD)
def test_a_value_of_a_wrong_type_is_one_line(tmp_path, name, path, value):
    said = refusal(tmp_path, name, changed(GOOD[name], path, value))
    assert ("a.json" if name == "inspect" else "a.jsonl:1: ") in said


@pytest.mark.parametrize("value", [5, "x", {"a": 1}])
def test_older_outputs_of_verifiers(tmp_path, value):
    assert read(tmp_path, "prime", OLDER)[0].tokens == [3]
    tokens = ("trajectory", 0, "tokens")
    names = ["completion_ids", "completion_logprobs", "prompt_ids", "is_truncated"]
    for path in [("trajectory",), tokens[:2], *((*tokens, n) for n in names)]:
        if (value, path) != ({"a": 1}, tokens[:2]):  # a step without tokens
            refusal(tmp_path, "prime", changed(OLDER, path, value))


@pytest.mark.parametrize(
    "error", [KeyError("a"), MemoryError(), OverflowError("big"), AttributeError("get")]
)
def test_what_no_check_foresaw_is_one_line_too(error):
    def broken(where, record):
        raise error

    kind = Format((), lambda path: iter([(f"{path}:7", {})]), broken, lambda *a: None)
    with pytest.raises(UserError, match=r"^f␛:7: is not a record of mine \("):
        list(completions("mine", kind, "f\x1b"))


def test_damaged_archives_are_one_line(tmp_path):
    packed = bytearray(gzip.compress(json.dumps(VLLM).encode() * 9))
    packed[30] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("header.json", "{}")
        archive.writestr("samples/1.json", "{}" * 99, zipfile.ZIP_DEFLATED)
    data = bytearray((tmp_path / "a.eval").read_bytes())
    at = data.rindex(b"PK\x01\x02")
    for place, value in ((10, b"\x5d\0"), (20, b"\xff\xff\xff\x7f"), (8, b"\0\x08")):
        damaged = data[:]
        damaged[at + place : at + place + len(value)] = value
        damaged[at + 46] |= 128 * (place == 8)  # a name that is not UTF-8
        (tmp_path / f"{place}.eval").write_bytes(damaged)
    late = pa.array([2**62], pa.timestamp("us"))  # no date of Python
    table = pa.table({"prompt": ["2 + 2"], "completion": ["4"], "time": late})
    pq.write_table(table, tmp_path / "a.parquet")
    files = {"a.jsonl.gz": "vllm", "a.parquet": "trl"}
    for name, kind in files.items() | {(f"{i}.eval", "inspect") for i in (10, 20, 8)}:
        with pytest.raises(UserError) as error:
            list(completions(kind, FORMATS[kind], str(tmp_path / name)))
        assert len(str(error.value)) < 300, name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "a.jsonl:1: is a gzip file"),
        (b"PAR1\x15\x04\x15", "a.jsonl:1: is a Parquet file"),
        (b"PK\x03\x04", "a.jsonl:1: is a zip archive"),
        ("{}".encode("utf-16"), "a.jsonl:1: is UTF-16 text"),
        (b'{"a": "\xff"}', r"a.jsonl:1: is not UTF-8 text \(byte 7\)"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, data, said):
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(UserError, match=said):
        list(completions("vllm", FORMATS["vllm"], str(tmp_path / "a.jsonl")))
