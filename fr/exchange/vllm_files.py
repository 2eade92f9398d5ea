"""Outputs of vLLM's `LLM.generate` and `LLM.chat`, one `RequestOutput` per line."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from fr.errors import UserError
from fr.exchange.grouping import by_problem
from fr.exchange.record_fields import (
    IDS,
    QUESTIONS,
    REFERENCES,
    first_text,
    ids_of,
    number,
    prompt_of,
    unread_end,
)
from fr.exchange.record_files import json_records, write_line
from fr.exchange.sampled import FORMATS, LENGTH, STOP, Format, Row, Sampled, exact


def _read(where: str, record: dict[str, Any]) -> Iterator[Sampled]:
    """Completions with token ids; `logprobs` as objects, numbers or flat arrays."""
    outputs = record.get("outputs")
    if not isinstance(outputs, list):
        raise UserError(
            f"{where}: has no list 'outputs'; write the fields of a RequestOutput"
        )
    prompt, file = record.get("prompt"), where.rpartition(":")[0]
    for place, output in enumerate(outputs):
        if not isinstance(output, dict):
            raise UserError(f"{where}: outputs[{place}] is not an object")
        tokens, request = output.get("token_ids"), record.get("request_id")
        index = output.get("index", place)
        yield Sampled(
            where,
            # Requests of every call are counted from 0: names are unique in a file.
            name="" if request is None else f"{file} {request}/{index}",
            ids=ids_of(record, IDS),
            question=first_text(record, QUESTIONS),
            reference=first_text(record, REFERENCES),
            prompt=None if prompt is None else prompt_of(prompt, where),
            prompt_tokens=record.get("prompt_token_ids"),
            text=output.get("text"),
            tokens=tokens,
            logp=logps(output.get("logprobs"), tokens, where),
            ended=ended(output.get("finish_reason")),
            stopped=output.get("stop_reason") is not None,
            reward=number(record.get("reward")),
            model=first_text(record, ("model",)),
            unread=unread_end(output["finish_reason"])
            if output.get("finish_reason")
            else "not finished",
        )


def ended(reason: Any) -> str:
    """The end of a completion, from a server's reason.

    Args:
        reason: `finish_reason`.

    Returns:
        `stop`, `length` or "".

    Raises:
        TypeError: It is not a text.
    """
    if not isinstance(reason, str | None):
        raise TypeError(f"finish_reason is of type {type(reason).__name__}")
    return reason if reason in (STOP, LENGTH) else ""


def logps(found: Any, tokens: Any, where: str) -> list[Any] | None:
    """Log-probs of the tokens that were drawn.

    Args:
        found: Per token an object by token id, with `logprob` or the number itself, or
            a number; or an object of flat arrays.
        tokens: The token ids, [T].
        where: `file:line`, for messages.

    Returns:
        Log-probs, [T], as the file has them; None if there are none.

    Raises:
        UserError: Their number is another one.
    """
    if found is None or not isinstance(tokens, list):
        return None
    if isinstance(found, dict):
        found = _unflattened(found, where)
    if not isinstance(found, list) or len(found) != len(tokens):
        many = len(found) if isinstance(found, list) else "no"
        raise UserError(f"{where}: {many} log-probs for {len(tokens)} tokens")
    return [_of_token(each, token) for each, token in zip(found, tokens)]


def _of_token(found: Any, token: int) -> Any:
    if isinstance(found, dict):
        found = found.get(str(token))
        found = found.get("logprob") if isinstance(found, dict) else found
    return found


def _unflattened(flat: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Flat arrays over all positions and alternatives as an object per position."""
    names = ("start_indices", "end_indices", "token_ids", "logprobs")
    if not all(isinstance(flat.get(name), list) for name in names):
        raise UserError(f"{where}: 'logprobs' has other fields than {', '.join(names)}")
    begins, ends, ids, values = (flat[name] for name in names)
    spans = [(*span, len(ids)) for span in zip(begins, ends)]
    whole = all(type(place) is int for span in spans for place in span)
    if not whole or any(not 0 <= a <= b <= size for a, b, size in spans):
        raise UserError(f"{where}: 'logprobs' has places that are not in its lists")
    if len(begins) != len(ends) or len(ids) != len(values):
        raise UserError(f"{where}: the lists of 'logprobs' differ in length")
    return [
        dict(zip(map(str, ids[begin:end]), values[begin:end]))
        for begin, end in zip(begins, ends)
    ]


def _write(rows: Iterable[Row], file: BinaryIO) -> None:
    for count, group in enumerate(by_problem(rows)):
        first = group[0]
        outputs = [
            {
                "index": index,
                "text": row.text,
                "token_ids": row.tokens,
                "cumulative_logprob": None,
                "logprobs": [
                    {
                        str(token): {
                            "logprob": value,
                            "rank": None,
                            "decoded_token": None,
                        }
                    }
                    for token, value in zip(row.tokens, exact(row.logp))
                ],
                "finish_reason": LENGTH if row.truncated else STOP,
                "stop_reason": None,
            }
            for index, row in enumerate(group)
        ]
        record = {
            "request_id": str(count),
            "problem": first.problem,
            "model": first.model,
            "prompt": first.prompt_text,
            "prompt_token_ids": first.prompt,
            "prompt_logprobs": None,
            "outputs": outputs,
            "finished": True,
        }
        write_line(file, record)


FORMATS.register("vllm")(
    Format((".jsonl", ".jsonl.gz", ".json"), json_records, _read, _write)
)
