"""A completion as another tool wrote it, and the registry of the tools' formats."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fr.errors import UserError
from fr.registry import Registry
from fr.types import Prompt

FORMATS = Registry("format")
STOP, LENGTH = "stop", "length"  # ends of a completion: a stop token, or the budget
# Fields in which people write the id of a problem, its question and its reference.
IDS = ("problem", "problem_id", "custom_id", "question_id", "id")
QUESTIONS = ("question", "problem_text")
REFERENCES = ("reference", "answer", "ground_truth", "solution", "target")


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One completion of a file. T is the number of its tokens.

    Attributes:
        where: `file:line`, for messages.
        name: Unique name that the tool gave it; "": none.
        ids: Texts that may be the id of its problem, the best first.
        question: The file's own question; "": it has none.
        reference: The file's own answer to it.
        prompt: What was asked: text or messages; None: only ids.
        prompt_tokens: Its token ids; None: the file has none.
        text: The completion; None: only ids.
        tokens: Token ids, [T]; None: the file has none.
        pieces: The bytes of every token, [T], where there are no ids.
        logp: Log-probs of the tokens in nats, [T]; None or NaN: not known.
        ended: `stop`, `length` or "" (not known).
        stopped: A text, or a token of the request, ended it: no stop token was drawn.
        reward: The tool's own reward, which is kept and no grade; NaN: none.
        model: The model as the tool calls it.
        settings: Sampling settings by names of the store, as far as the file has them.
        unread: A reason to leave it out; "": it is read.
    """

    where: str
    name: str = ""
    ids: tuple[str, ...] = ()
    question: str = ""
    reference: str = ""
    prompt: Prompt | None = None
    prompt_tokens: Sequence[int] | None = None
    text: str | None = None
    tokens: Sequence[int] | None = None
    pieces: Sequence[bytes] | None = None
    logp: Sequence[float | None] | None = None
    ended: str = ""
    stopped: bool = False
    reward: float = math.nan
    model: str = ""
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unread: str = ""


class Row(NamedTuple):
    """A stored attempt that is written for another tool. T tokens."""

    problem: str  # id of the problem
    attempt: int  # index among the problem's attempts by the operator
    operator: str  # its name
    task: str  # name of the task
    model: str  # the sampled model
    question: str  # of the problem
    reference: str  # answer of the problem
    prompt: list[int]  # token ids
    prompt_text: str | None  # decoded; None: the tokenizer is not on this machine
    tokens: list[int]  # token ids, the stop token included
    pieces: list[str] | None  # the text that each token adds
    logp: list[float | None]  # nats, temperature 1, [T]
    text: str  # of the new tokens without the stop token
    truncated: bool  # it has no stop token
    grade: str  # one of fr.types.GRADES
    answer: str | None  # the answer that the grader found
    temperature: float | None  # of the draws
    top_p: float | None  # of the draws


@dataclasses.dataclass(frozen=True)
class Format:
    """Files of one tool.

    Attributes:
        suffixes: Endings of its files.
        read: path -> its completions, as a stream.
        write: (rows, file) -> nothing; writes stored attempts as the tool would.
        texts: Its files have no token ids.
        prompts: It is written with the prompt's text, which needs the tokenizer.
    """

    suffixes: tuple[str, ...]
    read: Callable[[str], Iterator[Sampled]]
    write: Callable[[Iterable[Row], BinaryIO], None]
    texts: bool = False
    prompts: bool = False


def ids_of(record: Mapping[str, Any], names: Sequence[str] = IDS) -> tuple[str, ...]:
    """Texts of a record that may be a problem's id.

    Args:
        record: A record of a file.
        names: Fields to look at, in order.

    Returns:
        The values of those that hold a text or a whole number.
    """
    found = (record.get(name) for name in names)
    return tuple(
        str(value)
        for value in found
        if isinstance(value, str | int) and not isinstance(value, bool)
    )


def first_text(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first field of some that holds a text or a number.

    Args:
        record: A record of a file.
        names: Fields to look at, in order.

    Returns:
        The value as text; "" without one.
    """
    for name in names:
        value = record.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    return ""


def text_of(content: Any) -> str | None:
    """The text of a chat message's content.

    Args:
        content: A text, or a list of parts.

    Returns:
        The texts of its parts, thoughts marked by `<think>`; None for other content.
    """
    if isinstance(content, str) or content is None:
        return content or ""
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind == "reasoning":
            texts.append(thought(str(part.get("reasoning", ""))))
        else:
            return None
    return "".join(texts)


def thought(text: str) -> str:
    """A thought that a server cut off from its answer, between its marks again.

    Args:
        text: The thought; "": there was none.

    Returns:
        Text to put before the answer.
    """
    return f"<think>\n{text.strip()}\n</think>\n\n" if text else ""


def messages_of(found: Any, where: str) -> list[dict[str, str]]:
    """Chat messages with role and text alone.

    Args:
        found: A list of messages.
        where: `file:line`, for messages.

    Returns:
        The messages.

    Raises:
        UserError: It is not a list of messages with texts.
    """
    messages = []
    for message in found if isinstance(found, list) else [None]:
        role = message.get("role") if isinstance(message, dict) else None
        text = text_of(message.get("content")) if isinstance(message, dict) else None
        if not isinstance(role, str) or text is None:
            raise UserError(f"{where}: its messages must be objects with role and text")
        messages.append({"role": role, "content": text})
    return messages


def number(value: Any) -> float:
    """A number of a file.

    Args:
        value: Any value.

    Returns:
        The number; NaN for another value.
    """
    known = isinstance(value, int | float | np.number)
    return float(value) if known else math.nan


def exact(logp: Sequence[float | None]) -> list[float | None]:
    """Log-probs for JSON, which read back as the same float32.

    Args:
        logp: Nats.

    Returns:
        Numbers of nine digits; None where one is not known.
    """
    known = (None if v is None or not math.isfinite(v) else v for v in logp)
    return [None if v is None else float(f"{v:.9g}") for v in known]
