"""Rollouts that prime-rl saves: traces of verifiers, and the older rollout outputs."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.record_fields import (
    QUESTIONS,
    REFERENCES,
    first_text,
    ids_of,
    last_turn,
    list_of,
    messages_of,
    number,
    object_of,
    prompt_of,
    text_of,
    unread_end,
)
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import FORMATS, LENGTH, STOP, Format, Row, Sampled, exact
from fr.types import RIGHT

_IDS = ("problem", "id", "name", "example_id", "idx")
_SEVERAL = "it has several turns"


def _read(where: str, record: dict[str, Any]) -> Iterator[Sampled]:
    if isinstance(record.get("nodes"), list):
        yield _of_trace(where, record)
    elif "trajectory" in record or "completion" in record:
        yield _of_output(where, record)
    else:
        raise UserError(
            f"{where}: has neither 'nodes' (a trace of verifiers) nor "
            "'trajectory' and 'completion' (a rollout output)"
        )


def _of_trace(where: str, record: dict[str, Any]) -> Sampled:
    """A trace: its nodes are messages with their part of the token ids."""
    data = object_of(object_of(record, "task", where), "data", where)
    nodes = record["nodes"]
    if not all(isinstance(node, dict) for node in nodes):
        raise UserError(f"{where}: a node is not an object")
    drawn = [place for place, node in enumerate(nodes) if node.get("sampled")]
    calls = [c for c in list_of(record, "calls", where) if isinstance(c, dict)]
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
    last, ids = nodes[-1], [i for n in nodes for i in list_of(n, "token_ids", where)]
    mask = [bool(m) for m in list_of(last, "mask", where)]
    if ids and len(mask) != len(last.get("token_ids") or []):
        raise UserError(f"{where}: its mask has another length than its token ids")
    # The last node begins with the template's opening of a reply.
    count = sum(mask)
    if mask and mask != [False] * (len(mask) - count) + [True] * count:
        return Sampled(**known, unread="its sampled tokens are not one piece")
    known_ids, message = bool(ids and count), object_of(last, "message", where)
    reason = next((c.get("finish_reason") for c in calls[::-1]), None)
    return Sampled(
        **known,
        question=first_text(data, QUESTIONS) or last_turn(asked),
        prompt=asked,
        prompt_tokens=ids[: len(ids) - count] if known_ids else None,
        text=text_of(message.get("content")),
        tokens=ids[len(ids) - count :] if known_ids else None,
        logp=(list_of(last, "logprobs", where) or None) if known_ids else None,
        ended=reason if reason in (STOP, LENGTH) else "",
        unread=unread_end(reason, message),
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


def _of_output(where: str, record: dict[str, Any]) -> Sampled:
    """A rollout output of verifiers before its traces."""
    steps, prompt = list_of(record, "trajectory", where), record.get("prompt")
    prompt = prompt_of("" if prompt is None else prompt, where)
    reply = record.get("completion")
    known: dict[str, Any] = {
        "where": where,
        "name": str(record.get("trajectory_id") or ""),
        "ids": ids_of(record, _IDS),
        "question": first_text(record, QUESTIONS) or last_turn(prompt),
        "reference": first_text(record, REFERENCES),
        "prompt": prompt,
        "reward": number(record.get("reward")),
    }
    turns = (
        [reply]
        if isinstance(reply, str)
        else messages_of([] if reply is None else reply, where)
    )
    if len(turns) != 1 or len(steps) > 1:
        return Sampled(**known, unread=_SEVERAL)
    text = turns[0] if isinstance(turns[0], str) else turns[0]["content"]
    step = object_of({"trajectory": steps[0]}, "trajectory", where) if steps else {}
    tokens = object_of(step, "tokens", where)
    ids, logp = tokens.get("completion_ids"), tokens.get("completion_logprobs")
    cut = tokens.get("is_truncated", record.get("is_truncated"))
    if not isinstance(cut, bool | None):
        raise UserError(f"{where}: its 'is_truncated' must be true or false")
    return Sampled(
        **known,
        prompt_tokens=tokens.get("prompt_ids"),
        text=text,
        tokens=ids,
        logp=(logp or None) if ids else None,
        ended="" if cut is None else LENGTH if cut else STOP,
        unread=unread_end(None, reply),
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


FORMATS.register("prime")(Format((".jsonl", ".jsonl.gz"), json_records, _read, _write))
