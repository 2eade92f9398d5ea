"""Completions that TRL and verl write while they train: texts without token ids."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fr.errors import UserError
from fr.exchange.record_fields import (
    QUESTIONS,
    REFERENCES,
    first_text,
    ids_of,
    last_turn,
    messages_of,
    number,
    prompt_of,
    unread_end,
)
from fr.exchange.record_files import json_records, parquet_records, write_line
from fr.exchange.sampled import FORMATS, Format, Row, Sampled
from fr.types import RIGHT

# The last turn of a chat whose special tokens were left out, as verl decodes it. A
# template may open a thought, or open and close it.
_LAST_TURN = re.compile(
    r"(?:\A|\n)user\n(.*)\n(?:assistant|model)\s*(?:<(\w+)>\s*(?:</\2>\s*)?)?\Z",
    re.DOTALL,
)
_TABLE = ("step", "prompt", "completion", "advantage")
_ROWS = 1024  # of a row group that is written


def _of_trl(where: str, row: dict[str, Any]) -> Iterator[Sampled]:
    """A table of `log_completions`: further columns of numbers are rewards, summed."""
    if "prompt" not in row or "completion" not in row:
        raise UserError(f"{where}: has no columns 'prompt' and 'completion'")
    prompt = prompt_of(row["prompt"], where)
    text, unread = _reply(row["completion"], where)
    rewards = [
        value
        for name, value in row.items()
        if name not in _TABLE and isinstance(value, float)
    ]
    yield Sampled(
        where,
        ids=ids_of(row),
        question=first_text(row, QUESTIONS) or last_turn(prompt),
        reference=first_text(row, REFERENCES),
        prompt=prompt,
        decoded=isinstance(prompt, str),
        text=text,
        reward=sum(rewards) if rewards else float("nan"),
        unread=unread,
    )


def _reply(found: Any, where: str) -> tuple[str, str]:
    """The text of a completion, and the reason that it cannot be read."""
    if isinstance(found, str):
        return found, ""
    messages = messages_of(found, where)
    if len(messages) != 1:
        return "", "it has several turns"
    return messages[0]["content"], unread_end(None, found)


def _write_trl(rows: Iterable[Row], file: BinaryIO) -> None:
    schema = pa.schema(
        [
            ("step", pa.int64()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("right", pa.float64()),
            ("problem", pa.string()),
            ("answer", pa.string()),
            ("advantage", pa.float64()),
        ]
    )
    with pq.ParquetWriter(file, schema) as writer:
        held: list[dict[str, Any]] = []
        for row in rows:
            held.append(
                {
                    "step": 0,
                    "prompt": row.prompt_text,
                    "completion": row.text,
                    "right": float(row.grade == RIGHT),
                    "problem": row.problem,
                    "answer": row.reference,
                }
            )
            if len(held) == _ROWS:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held = []
        writer.write_table(pa.Table.from_pylist(held, schema))


def _of_verl(where: str, record: dict[str, Any]) -> Iterator[Sampled]:
    """A file of `rollout_data_dir` or `validation_data_dir`."""
    asked, text = record.get("input"), record.get("output")
    if not isinstance(asked, str) or not isinstance(text, str):
        raise UserError(f"{where}: has no texts 'input' and 'output'")
    turn = _LAST_TURN.search(asked)
    yield Sampled(
        where,
        ids=ids_of(record),
        question=first_text(record, QUESTIONS) or (turn[1] if turn else asked),
        reference=first_text(record, ("gts", *REFERENCES)),
        prompt=asked,
        decoded=True,
        text=text,
        reward=number(record.get("score")),
    )


def _write_verl(rows: Iterable[Row], file: BinaryIO) -> None:
    for row in rows:
        record = {
            "input": row.prompt_text,
            "output": row.text,
            "gts": row.reference,
            "score": float(row.grade == RIGHT),
            "step": 0,
            "problem": row.problem,
        }
        write_line(file, record)


FORMATS.register("trl")(
    Format(
        (".parquet",), parquet_records, _of_trl, _write_trl, texts=True, prompts=True
    )
)
FORMATS.register("verl")(
    Format(
        (".jsonl", ".jsonl.gz"),
        json_records,
        _of_verl,
        _write_verl,
        texts=True,
        prompts=True,
    )
)
