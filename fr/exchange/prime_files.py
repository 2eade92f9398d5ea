"""Rollouts that prime-rl saves: traces of verifiers, and the older rollout outputs."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import (
    FORMATS,
    LENGTH,
    QUESTIONS,
    REFERENCES,
    STOP,
    Format,
    Row,
    Sampled,
    exact,
    first_text,
    ids_of,
    messages_of,
    number,
    text_of,
)
from fr.types import RIGHT, Prompt

_IDS = ("problem", "id", "name", "example_id", "idx")
_SEVERAL = "it has several turns"


def _read(path: str) -> Iterator[Sampled]:
    for where, record in json_records(path):
        if isinstance(record.get("nodes"), list):
            yield _of_trace(where, record)
        elif isinstance(record.get("trajectory"), list) or "completion" in record:
            yield _of_output(where, record)
        else:
            raise UserError(
                f"{where}: has neither 'nodes' (a trace of verifiers) nor "
                "'trajectory' and 'completion' (a rollout output)"
            )


def _of_trace(where: str, record: dict[str, Any]) -> Sampled:
    """A trace: its nodes are messages with their part of the token ids."""
    task = record.get("task")
    data = task.get("data") if isinstance(task, dict) else None
    data, nodes = data if isinstance(data, dict) else {}, record["nodes"]
    if not all(isinstance(node, dict) for node in nodes):
        raise UserError(f"{where}: a node is not an object")
    drawn = [place for place, node in enumerate(nodes) if node.get("sampled")]
    calls = [call for call in record.get("calls") or [] if isinstance(call, dict)]
    known: dict[str, Any] = {
        "where": where,
        "name": str(record.get("id") or ""),
        "ids": ids_of(record, ("problem",)) + ids_of(data, _IDS),
        "reference": first_text(data, REFERENCES),
        "reward": _reward(record.get("rewards")),
        "model": next((str(c["model"]) for c in calls if c.get("model")), ""),
    }
    if record.get("errors") or len(drawn) != 1 or drawn[0] != len(nodes) - 1:
        why = "it ended with an error" if record.get("errors") else _SEVERAL
        return Sampled(**known, unread=why if drawn else "nothing was sampled")
    asked = messages_of([node.get("message") for node in nodes[:-1]], where)
    last, ids = nodes[-1], [i for node in nodes for i in node.get("token_ids") or []]
    mask = [bool(m) for m in last.get("mask") or []]
    # The last node begins with the template's opening of a reply.
    count = sum(mask)
    if mask and mask != [False] * (len(mask) - count) + [True] * count:
        return Sampled(**known, unread="its sampled tokens are not one piece")
    logp = last.get("logprobs") or None
    if ids and logp and len(logp) != count:
        raise UserError(f"{where}: {len(logp)} log-probs for {count} tokens")
    message = last.get("message") or {}
    reason = next((c.get("finish_reason") for c in calls[::-1]), None)
    return Sampled(
        **known,
        question=first_text(data, QUESTIONS) or _question(asked),
        prompt=asked,
        prompt_tokens=ids[: len(ids) - count] if count else None,
        text=text_of(message.get("content")),
        tokens=ids[len(ids) - count :] if count else None,
        logp=logp if count else None,
        ended=reason if reason in (STOP, LENGTH) else "",
        unread="it calls tools" if message.get("tool_calls") else "",
    )


def _reward(found: Any) -> float:
    """The weighted sum of a trace's rewards; NaN without one."""
    each = found.values() if isinstance(found, dict) else ()
    values = [
        number(r.get("score")) * number(r.get("weight", 1.0))
        for r in each
        if isinstance(r, dict)
    ]
    return sum(values) if values else math.nan


def _question(messages: list[dict[str, str]]) -> str:
    return next((m["content"] for m in messages[::-1] if m["role"] == "user"), "")


def _of_output(where: str, record: dict[str, Any]) -> Sampled:
    """A rollout output of verifiers before its traces."""
    steps = record.get("trajectory") or []
    prompt: Prompt = record.get("prompt") or ""
    if not isinstance(prompt, str):
        prompt = messages_of(prompt, where)
    reply = record.get("completion")
    known: dict[str, Any] = {
        "where": where,
        "name": str(record.get("trajectory_id") or ""),
        "ids": ids_of(record, _IDS),
        "question": first_text(record, QUESTIONS)
        or (prompt if isinstance(prompt, str) else _question(prompt)),
        "reference": first_text(record, REFERENCES),
        "prompt": prompt,
        "reward": number(record.get("reward")),
    }
    turns = [reply] if isinstance(reply, str) else messages_of(reply or [], where)
    if len(turns) != 1 or len(steps) > 1:
        return Sampled(**known, unread=_SEVERAL)
    text = turns[0] if isinstance(turns[0], str) else turns[0]["content"]
    tokens = steps[0].get("tokens") if steps and isinstance(steps[0], dict) else None
    tokens = tokens if isinstance(tokens, dict) else {}
    ids, logp = tokens.get("completion_ids"), tokens.get("completion_logprobs") or None
    if ids and logp and len(ids) != len(logp):
        raise UserError(f"{where}: {len(logp)} log-probs for {len(ids)} tokens")
    cut = tokens.get("is_truncated", record.get("is_truncated"))
    return Sampled(
        **known,
        prompt_tokens=tokens.get("prompt_ids"),
        text=text,
        tokens=ids,
        logp=logp if ids else None,
        ended="" if cut is None else LENGTH if cut else STOP,
    )


def _write(rows: Iterable[Row], file: BinaryIO) -> None:
    for count, row in enumerate(rows):
        asked = {"role": "user", "content": row.question}
        nodes = [
            {"message": asked, "token_ids": row.prompt}
            | {"mask": [False] * len(row.prompt)},
            {
                "parent": 0,
                "message": {"role": "assistant", "content": row.text},
                "sampled": True,
                "token_ids": row.tokens,
                "mask": [True] * len(row.tokens),
                "logprobs": exact(row.logp),
            },
        ]
        data = {"id": row.problem, "prompt": row.question, "answer": row.reference}
        call = {"node": 1, "model": row.model}
        record = {
            "version": 1,
            "id": f"{count:032x}",
            "task": {"type": row.task, "data": data},
            "nodes": nodes,
            "calls": [call | {"finish_reason": LENGTH if row.truncated else STOP}],
            "rewards": {"right": {"score": float(row.grade == RIGHT), "weight": 1.0}},
            "is_completed": True,
            "ok": True,
        }
        write_line(file, record)


FORMATS.register("prime")(Format((".jsonl", ".jsonl.gz"), _read, _write))
