"""Responses of an OpenAI-compatible server, one per line, and its batches."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.grouping import by_problem
from fr.exchange.record_fields import (
    QUESTIONS,
    REFERENCES,
    first_text,
    ids_of,
    messages_of,
    number,
    object_of,
    settings_of,
    text_of,
    thought,
    unread_end,
)
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import FORMATS, LENGTH, STOP, Format, Row, Sampled, exact
from fr.exchange.vllm_files import ended
from fr.types import Prompt

_UNLIKELY = -9999.0  # stands for a log-prob that the server does not tell
_TOKEN = "token_id:"  # begins a token of a server that was asked for ids
_SETTINGS = ("temperature", "top_p", "top_k")


def _read(where: str, record: dict[str, Any]) -> Iterator[Sampled]:
    """Chat completions and completions; the request may lie beside the response."""
    body, wrong = _body(record)
    if wrong:
        yield Sampled(where, ids=ids_of(record), unread=wrong)
        return
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise UserError(
            f"{where}: has no list 'choices'; write a response of "
            "chat.completions or completions per line"
        )
    asked = object_of(record, "request", where)
    asked = object_of(asked, "body", where) if "body" in asked else asked
    for place, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise UserError(f"{where}: choices[{place}] is not an object")
        name = body.get("id")
        prompt, ids = _prompt(record, asked, place / len(choices), where)
        yield Sampled(
            where,
            name=f"{name}/{choice.get('index', place)}" if name else "",
            # `id` of a batch's line is the server's own.
            ids=ids_of(record, ("problem", "problem_id", "custom_id")),
            question=first_text(record, QUESTIONS),
            reference=first_text(record, REFERENCES),
            prompt=prompt,
            prompt_tokens=choice.get("prompt_token_ids")
            or body.get("prompt_token_ids")
            or ids,
            stopped=choice.get("stop_reason") is not None,
            ended=ended(choice.get("finish_reason")),
            reward=number(record.get("reward")),
            model=first_text(body, ("model",)),
            settings=settings_of(asked, _SETTINGS, where),
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
        status = response["status_code"]
        return {}, f"the server answered with another status than 200: {status}"
    body = response.get("body", response)
    return (body, "") if isinstance(body, dict) else ({}, "the response has no body")


def _prompt(
    record: dict, asked: dict, share: float, where: str
) -> tuple[Prompt | None, list[int] | None]:
    """Prompt and token ids of a choice that stands at a share of all choices."""
    for found in (record, asked):
        if found.get("messages"):
            return messages_of(found["messages"], where), None
        prompt = found.get("prompt")
        # Completions of several prompts follow each other, as many of each.
        if isinstance(prompt, list) and all(isinstance(p, list | str) for p in prompt):
            prompt = prompt[int(share * len(prompt))] if prompt else None
        if isinstance(prompt, str):
            return prompt, None
        if isinstance(prompt, list):
            return None, prompt
    return None, None


def _completion(choice: dict[str, Any], where: str) -> dict[str, Any]:
    """Text, tokens and log-probs of a choice."""
    message = choice.get("message")
    if isinstance(message, dict):
        text = text_of(message.get("content"))
        reasoned = message.get("reasoning_content") or message.get("reasoning") or ""
        if not isinstance(reasoned, str):
            raise UserError(f"{where}: its reasoning must be a text")
        if not text and isinstance(refusal := message.get("refusal"), str):
            text = refusal
        text = None if text is None else thought(reasoned) + text
    else:
        text = choice.get("text")
    names, pieces, logp = pieces_of(choice.get("logprobs"), where)
    tokens = choice.get("token_ids")
    if tokens is None and names and all(name.startswith(_TOKEN) for name in names):
        try:
            tokens = [int(name.removeprefix(_TOKEN)) for name in names]
        except ValueError as error:
            raise UserError(f"{where}: a token is not token_id:NUMBER") from error
    return {
        "text": text,
        "tokens": tokens,
        "pieces": pieces if tokens is None else None,
        "logp": logp,
        "unread": unread_end(choice.get("finish_reason"), message),
    }


def pieces_of(
    found: Any, where: str
) -> tuple[list[str], list[bytes] | None, list[Any] | None]:
    """Tokens of a server's log-probs.

    Args:
        found: `logprobs` of a choice: `content`, or `tokens` and `token_logprobs`.
        where: `file:line`, for messages.

    Returns:
        Texts, bytes and log-probs (as the file has them) of the tokens, [T]; None
        without log-probs.

    Raises:
        UserError: It has another form.
    """
    if found is None:
        return [], None, None
    if not isinstance(found, dict):
        raise UserError(f"{where}: its logprobs have another form than a server's")
    content = found.get("content")
    if isinstance(content, list) and all(isinstance(t, dict) for t in content):
        names = _names([token.get("token", "") for token in content], where)
        pieces = [
            _bytes(token.get("bytes"), name, where)
            for token, name in zip(content, names)
        ]
        return names, pieces, [_known(token.get("logprob")) for token in content]
    listed, values = found.get("tokens"), found.get("token_logprobs")
    if not isinstance(listed, list) or not isinstance(values, list):
        if content is None and listed is None:
            return [], None, None
        raise UserError(f"{where}: its logprobs have another form than a server's")
    names = _names(listed, where)
    return names, [name.encode() for name in names], [_known(v) for v in values]


def _names(found: list[Any], where: str) -> list[str]:
    if not all(isinstance(name, str) for name in found):
        raise UserError(f"{where}: a token of its logprobs must be a text")
    return found


def _bytes(found: Any, name: str, where: str) -> bytes:
    """The bytes of a token, which a server need not tell."""
    if found is None or found == []:
        return name.encode()
    # bytes(n) of a number would allocate what the file says.
    if not isinstance(found, list) or not all(
        type(b) is int and 0 <= b < 256 for b in found
    ):
        raise UserError(f"{where}: the bytes of a token must be numbers from 0 to 255")
    return bytes(found)


def _known(value: Any) -> Any:
    unlikely = isinstance(value, int | float) and value <= _UNLIKELY
    return None if unlikely else value


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


FORMATS.register("openai")(
    Format((".jsonl", ".jsonl.gz", ".json"), json_records, _read, _write)
)
