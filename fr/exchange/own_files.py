"""Attempts as this project writes them for others: one JSON object per line."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import (
    FORMATS,
    LENGTH,
    STOP,
    Format,
    Row,
    Sampled,
    exact,
    first_text,
    ids_of,
    number,
)
from fr.types import RIGHT, ROLLOUT


def _read(path: str) -> Iterator[Sampled]:
    for where, record in json_records(path):
        if not any(name in record for name in ("token_ids", "text")):
            raise UserError(f"{where}: has neither 'token_ids' nor 'text'")
        operator = record.get("operator", ROLLOUT)
        logp, tokens = record.get("logprobs"), record.get("token_ids")
        if logp is not None and tokens is not None and len(logp) != len(tokens):
            raise UserError(f"{where}: {len(logp)} log-probs for {len(tokens)} tokens")
        reason = record.get("finish_reason")
        prompt = record.get("prompt")
        yield Sampled(
            where,
            name=str(record.get("row") or ""),
            ids=ids_of(record),
            question=first_text(record, ("question",)),
            reference=first_text(record, ("reference",)),
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_tokens=record.get("prompt_token_ids"),
            text=record.get("text"),
            tokens=tokens,
            logp=logp,
            ended=reason if reason in (STOP, LENGTH) else "",
            reward=number(record.get("reward")),
            model=first_text(record, ("model",)),
            settings=_settings(record),
            unread=""
            if operator == ROLLOUT
            else f"an attempt by {operator}, not a rollout",
        )


def _settings(record: dict[str, Any]) -> dict[str, float]:
    known = {name: number(record.get(name)) for name in ("temperature", "top_p")}
    return {name: value for name, value in known.items() if not math.isnan(value)}


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


FORMATS.register("fr")(Format((".jsonl", ".jsonl.gz"), _read, _write))
