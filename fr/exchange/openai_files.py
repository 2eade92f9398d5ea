"""Responses of an OpenAI-compatible server, one per line, and its batches."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.grouping import by_problem
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
    thought,
)
from fr.exchange.vllm_files import ended
from fr.types import Prompt

_UNLIKELY = -9999.0  # stands for a log-prob that the server does not tell
_TOKEN = "token_id:"  # begins a token of a server that was asked for ids
_SETTINGS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}


def _read(path: str) -> Iterator[Sampled]:
    """Chat completions and completions; the request may lie beside the response."""
    for where, record in json_records(path):
        body, wrong = _body(record)
        if wrong:
            yield Sampled(where, ids=ids_of(record), unread=wrong)
            continue
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise UserError(
                f"{where}: has no list 'choices'; write a response of "
                "chat.completions or completions per line"
            )
        asked = record.get("request")
        asked = asked if isinstance(asked, dict) else {}
        asked = asked.get("body", asked)
        for place, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise UserError(f"{where}: choices[{place}] is not an object")
            name = body.get("id")
            yield Sampled(
                where,
                name=f"{name}/{choice.get('index', place)}" if name else "",
                # `id` of a batch's line is the server's own.
                ids=ids_of(record, ("problem", "problem_id", "custom_id")),
                question=first_text(record, QUESTIONS),
                reference=first_text(record, REFERENCES),
                prompt=_prompt(record, asked, where),
                prompt_tokens=choice.get("prompt_token_ids")
                or body.get("prompt_token_ids"),
                stopped=choice.get("stop_reason") is not None,
                ended=ended(choice.get("finish_reason")),
                reward=number(record.get("reward")),
                model=str(body.get("model") or ""),
                settings={
                    ours: float(asked[theirs])
                    for theirs, ours in _SETTINGS.items()
                    if isinstance(asked.get(theirs), int | float)
                },
                **_completion(choice, where),
            )


def _body(record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The response of a line, and the reason that it cannot be read."""
    response = record.get("response", record)
    error = record.get("error") or (
        response.get("error") if isinstance(response, dict) else None
    )
    if error or not isinstance(response, dict):
        return {}, "the server answered with an error"
    if response.get("status_code", 200) != 200:
        return {}, f"the server answered with status {response['status_code']}"
    body = response.get("body", response)
    return (body, "") if isinstance(body, dict) else ({}, "the response has no body")


def _prompt(record: dict, asked: dict, where: str) -> Prompt | None:
    for found in (record, asked):
        if found.get("messages"):
            return messages_of(found["messages"], where)
        if isinstance(found.get("prompt"), str):
            return found["prompt"]
    return None


def _completion(choice: dict[str, Any], where: str) -> dict[str, Any]:
    """Text, tokens and log-probs of a choice."""
    message = choice.get("message")
    if isinstance(message, dict):
        text = text_of(message.get("content"))
        reasoned = message.get("reasoning_content") or message.get("reasoning")
        text = thought(str(reasoned or "")) + (text or "")
        unread = "it calls tools" if message.get("tool_calls") else ""
    else:
        text, unread = choice.get("text"), ""
    names, pieces, logp = pieces_of(choice.get("logprobs"), where)
    tokens = choice.get("token_ids")
    if tokens is None and names and all(name.startswith(_TOKEN) for name in names):
        try:
            tokens = [int(name.removeprefix(_TOKEN)) for name in names]
        except ValueError as error:
            raise UserError(f"{where}: a token is not token_id:NUMBER") from error
    if tokens is not None and logp is not None and len(logp) != len(tokens):
        raise UserError(f"{where}: {len(logp)} log-probs for {len(tokens)} tokens")
    return {
        "text": text,
        "tokens": tokens,
        "pieces": pieces if tokens is None else None,
        "logp": logp,
        "unread": unread,
    }


def pieces_of(
    found: Any, where: str
) -> tuple[list[str], list[bytes] | None, list[float | None] | None]:
    """Tokens of a server's log-probs.

    Args:
        found: `logprobs` of a choice: `content`, or `tokens` and `token_logprobs`.
        where: `file:line`, for messages.

    Returns:
        Texts, bytes and log-probs of the tokens, [T]; None without log-probs.

    Raises:
        UserError: It has another form.
    """
    if not isinstance(found, dict):
        return [], None, None
    content = found.get("content")
    if isinstance(content, list) and all(isinstance(t, dict) for t in content):
        names = [str(token.get("token", "")) for token in content]
        pieces = [
            bytes(token["bytes"]) if token.get("bytes") else name.encode()
            for token, name in zip(content, names)
        ]
        return names, pieces, [_known(token.get("logprob")) for token in content]
    listed, values = found.get("tokens"), found.get("token_logprobs")
    if not isinstance(listed, list) or not isinstance(values, list):
        if content is None and listed is None:
            return [], None, None
        raise UserError(f"{where}: its logprobs have another form than a server's")
    names = [str(name) for name in listed]
    pieces = [name.encode("utf-8", "replace") for name in names]
    return names, pieces, [_known(value) for value in values]


def _known(value: Any) -> float | None:
    if not isinstance(value, int | float) or value <= _UNLIKELY:
        return None
    return value


def _write(rows: Iterable[Row], file: BinaryIO) -> None:
    for count, group in enumerate(by_problem(rows)):
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": row.text},
                "finish_reason": LENGTH if row.truncated else STOP,
                "logprobs": {
                    "content": [
                        {"token": f"{_TOKEN}{token}"}
                        | {"logprob": _UNLIKELY if value is None else value}
                        | {"bytes": None, "top_logprobs": []}
                        for token, value in zip(row.tokens, exact(row.logp))
                    ]
                },
                "token_ids": row.tokens,
            }
            for index, row in enumerate(group)
        ]
        body = {
            "id": f"chatcmpl-{count}",
            "object": "chat.completion",
            "created": 0,
            "model": group[0].model,
            "choices": choices,
            "prompt_token_ids": group[0].prompt,
        }
        line = {"custom_id": group[0].problem, "error": None}
        write_line(file, line | {"response": {"status_code": 200, "body": body}})


FORMATS.register("openai")(Format((".jsonl", ".jsonl.gz", ".json"), _read, _write))
