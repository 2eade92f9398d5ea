"""Attempts as this project writes them for others: one JSON object per line."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.record_fields import (
    first_text,
    ids_of,
    number,
    prompt_of,
    settings_of,
    unread_end,
)
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import FORMATS, LENGTH, STOP, Format, Row, Sampled, exact
from fr.types import RIGHT, ROLLOUT


def _read(where: str, record: dict[str, Any]) -> Iterator[Sampled]:
    if not any(name in record for name in ("token_ids", "text")):
        raise UserError(f"{where}: has neither 'token_ids' nor 'text'")
    operator = record.get("operator", ROLLOUT)
    reason = record.get("finish_reason")
    prompt, tokens = record.get("prompt"), record.get("token_ids")
    yield Sampled(
        where,
        name=str(record.get("row") or ""),
        ids=ids_of(record),
        question=first_text(record, ("question",)),
        reference=first_text(record, ("reference",)),
        prompt=None if prompt is None else prompt_of(prompt, where),
        prompt_tokens=record.get("prompt_token_ids"),
        text=record.get("text"),
        tokens=None if "text" in record and tokens == [] else tokens,
        logp=record.get("logprobs"),
        ended=reason if reason in (STOP, LENGTH) else "",
        reward=number(record.get("reward")),
        model=first_text(record, ("model",)),
        settings=settings_of(record, ("temperature", "top_p"), where),
        unread=f"an attempt, not a rollout: {operator}"
        if operator != ROLLOUT
        else unread_end(reason),
    )


def _write(rows: Iterable[Row], file: BinaryIO) -> None:
    for row in rows:
        record = {
            "row": f"{row.problem}/{row.operator}/{row.attempt}",
            "problem": row.problem,
            "task": row.task,
            "question": row.question,
            "reference": row.reference,
            "operator": row.operator,
            "attempt": row.attempt,
            "model": row.model,
            "temperature": row.temperature,
            "top_p": row.top_p,
            "prompt": row.prompt_text,
            "prompt_token_ids": row.prompt,
            "text": row.text,
            "token_ids": row.tokens,
            "logprobs": exact(row.logp),
            "finish_reason": LENGTH if row.truncated else STOP,
            "answer": row.answer,
            "grade": row.grade,
            "reward": float(row.grade == RIGHT),
        }
        write_line(file, record)


FORMATS.register("fr")(Format((".jsonl", ".jsonl.gz"), json_records, _read, _write))
