"""Logs of Inspect: `.eval` (a zip archive with a JSON file per sample) and `.json`."""

import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from fr.errors import UserError, first_line
from fr.exchange.openai_files import pieces_of
from fr.exchange.record_fields import (
    first_text,
    ids_of,
    last_turn,
    list_of,
    messages_of,
    number,
    object_of,
    prompt_of,
    settings_of,
    text_of,
    unread_end,
)
from fr.exchange.record_files import DAMAGED, MAX_FILE, MAX_LINE, parsed, whole
from fr.exchange.sampled import FORMATS, LENGTH, STOP, Format, Row, Sampled, exact
from fr.files import open_regular
from fr.types import RIGHT

_ZSTD = 93  # method of a member that Python's zipfile does not know
_HEADER, _START = "header.json", "_journal/start.json"  # an unfinished log has no first
_ENDS = {"stop": STOP, "max_tokens": LENGTH, "model_length": LENGTH}
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # letters of scores
_SETTINGS = ("temperature", "top_p", "top_k")
_APART = "attachment://"  # begins a text that lies in the sample's attachments


def _read(where: str, found: tuple[Any, dict[str, Any]]) -> Iterator[Sampled]:
    """The choices of every sample and epoch; scores are of the first."""
    sample, log = found
    plan = object_of(object_of(log, "plan", where), "config", where)
    model = first_text(object_of(log, "eval", where), ("model",))
    settings = settings_of(plan, _SETTINGS, where)
    if not isinstance(sample, dict):
        raise UserError(f"{where}: is not an object")
    choices = list_of(object_of(sample, "output", where), "choices", where)
    for index, choice in enumerate(choices or [None]):
        yield _of_choice(where, sample, index, choice, model, settings)


def _samples(path: str) -> Iterator[tuple[str, tuple[Any, dict[str, Any]]]]:
    """(place, sample and log without samples) of every sample of a log."""
    if path.lower().endswith(".json"):
        log = parsed(whole(path), path)
        samples = list_of(log, "samples", path)
        for count, sample in enumerate(samples, 1):
            yield f"{path} sample {count}", (sample, log)
        if not samples:
            raise UserError(f"{path}: has no samples; it is a log without them")
        return
    with open_regular(path, MAX_FILE) as source:
        try:
            archive = zipfile.ZipFile(source)
            names = {member.filename: member for member in archive.infolist()}
            head = names.get(_HEADER) or names.get(_START)
            if head is None:
                raise UserError(f"{path}: has no {_HEADER}; it is not a log of Inspect")
            log = parsed(_member(archive, source, head), f"{path} {head.filename}")
            found = [m for n, m in names.items() if n.startswith("samples/")]
            for member in found:
                where = f"{path} {member.filename}"
                yield where, (parsed(_member(archive, source, member), where), log)
        except (zipfile.BadZipFile, *DAMAGED) as error:
            raise UserError(
                f"{path}: is not a log of Inspect, or is damaged ({first_line(error)})"
            ) from error
    if not found:
        raise UserError(f"{path}: has no samples")


def _member(
    archive: zipfile.ZipFile, source: BinaryIO, member: zipfile.ZipInfo
) -> bytes:
    """The content of a member; pyarrow reads the compression that zipfile does not."""
    name = member.filename
    if member.compress_size > MAX_LINE:
        raise UserError(f"{name}: has more than {MAX_LINE} bytes")
    if member.compress_type == _ZSTD:
        source.seek(member.header_offset)
        head = source.read(30)
        # After the fixed part come the name and extra fields of these lengths.
        source.seek(int.from_bytes(head[26:28], "little"), io.SEEK_CUR)
        source.seek(int.from_bytes(head[28:30], "little"), io.SEEK_CUR)
        packed = pa.BufferReader(source.read(member.compress_size))
        data = pa.input_stream(packed, compression="zstd").read(MAX_LINE + 1)
    else:
        with archive.open(member) as opened:
            data = opened.read(MAX_LINE + 1)
    if len(data) > MAX_LINE:
        raise UserError(f"{name}: has more than {MAX_LINE} bytes")
    return data


def _of_choice(
    where: str,
    sample: dict[str, Any],
    index: int,
    choice: Any,
    model: str,
    settings: dict[str, float],
) -> Sampled:
    output = object_of(sample, "output", where)
    asked, target = sample.get("input"), sample.get("target")
    target = target[0] if isinstance(target, list) and target else target
    known: dict[str, Any] = {
        "where": where,
        "name": f"{sample.get('uuid') or where}/{sample.get('epoch')}/{index}",
        "ids": ids_of(sample, ("id",)),
        "reference": first_text({"target": target}, ("target",)),
        "reward": math.nan if index else _value(sample.get("scores")),
        "model": first_text(output, ("model",)) or model,
        "settings": settings,
    }
    if sample.get("error") or not isinstance(choice, dict):
        return Sampled(**known, unread="it ended with an error or without an output")
    apart = object_of(sample, "attachments", where)
    listed = _attached(list_of(sample, "messages", where), apart)
    messages = messages_of(listed, where)
    replies = [place for place, m in enumerate(messages) if m["role"] == "assistant"]
    message = object_of(choice, "message", where)
    if len(replies) > 1:
        return Sampled(**known, unread="it has several turns")
    if unread := unread_end(choice.get("stop_reason"), message):
        return Sampled(**known, unread=unread)
    _, pieces, logp = pieces_of(choice.get("logprobs"), where)
    return Sampled(
        **known,
        question=last_turn(prompt_of([] if asked is None else asked, where)),
        prompt_tokens=object_of(sample, "metadata", where).get("prompt_token_ids"),
        prompt=messages[: replies[0]] if replies else messages,
        text=text_of(_attached([message], apart)[0].get("content")),
        pieces=pieces,
        logp=logp,
        ended=_ENDS.get(str(choice.get("stop_reason")), ""),
    )


def _attached(messages: list[Any], apart: dict[str, str]) -> list[Any]:
    """Messages with the texts that lie apart from them."""

    def whole_text(content: Any) -> Any:
        if isinstance(content, str) and content.startswith(_APART):
            return apart.get(content.removeprefix(_APART), content)
        return content

    return [
        {**m, "content": whole_text(m.get("content"))} if isinstance(m, dict) else m
        for m in messages
    ]


def _value(scores: Any) -> float:
    """The value of the first score; NaN without one."""
    if not isinstance(scores, dict) or not scores:
        return math.nan
    first = next(iter(scores.values()))
    value = first.get("value") if isinstance(first, dict) else None
    return _VALUES.get(value, math.nan) if isinstance(value, str) else number(value)


def _write(rows: Iterable[Row], file: BinaryIO) -> None:
    """A log in the archive's form, with the tokens of every completion as log-probs."""
    ids: dict[str, int] = {}
    epochs: Counter[str] = Counter()
    model = "fr/model"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in rows:
            number = ids.setdefault(row.problem, len(ids) + 1)
            model = f"fr/{row.model}"
            # Attempts of several operators are epochs of one sample, too.
            epochs[row.problem] += 1
            sample = _sample(row, model, epochs[row.problem])
            name = f"samples/{number}_epoch_{epochs[row.problem]}.json"
            archive.writestr(name, json.dumps(sample, ensure_ascii=False))
        dataset = {"name": "fr", "samples": len(ids), "sample_ids": list(ids)}
        made = {"created": "1970-01-01T00:00:00+00:00", "task": "fr", "model": model}
        header = {
            "version": 2,
            "status": "success",
            "eval": made | {"dataset": dataset, "config": {}},
        }
        archive.writestr(_HEADER, json.dumps(header))


def _sample(row: Row, model: str, epoch: int) -> dict[str, Any]:
    """One attempt as a sample, with the ids of its prompt in its metadata."""
    asked = {"role": "user", "content": row.question}
    reply = {"role": "assistant", "content": row.text, "source": "generate"}
    # Without the stop token, as a server gives them.
    pieces = (row.pieces or [])[: len(row.tokens) - (not row.truncated)]
    tokens = [
        {"token": piece, "logprob": value, "bytes": list(piece.encode())}
        for piece, value in zip(pieces, exact(row.logp))
        if value is not None
    ]
    choice = {
        "message": reply,
        "stop_reason": "max_tokens" if row.truncated else "stop",
        "logprobs": {"content": tokens} if len(tokens) == len(pieces) else None,
    }
    return {
        "id": row.problem,
        "epoch": epoch,
        "input": row.question,
        "target": row.reference,
        "messages": [asked, reply],
        "output": {"model": model, "choices": [choice], "completion": row.text},
        "scores": {"right": {"value": "C" if row.grade == RIGHT else "I"}},
        "metadata": {"operator": row.operator, "prompt_token_ids": row.prompt},
        "store": {},
        "model_usage": {},
        "uuid": f"{row.problem}/{row.operator}/{row.attempt}",
    }


FORMATS.register("inspect")(
    Format((".eval", ".json"), _samples, _read, _write, texts=True, prompts=True)
)
