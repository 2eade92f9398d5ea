"""Fields of another tool's record, each read as the type that it must have."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fr.errors import UserError
from fr.types import Prompt

# Fields in which people write the id of a problem, its question and its reference.
IDS = ("problem", "problem_id", "custom_id", "question_id", "id")
QUESTIONS = ("question", "problem_text")
REFERENCES = ("reference", "answer", "ground_truth", "solution", "target")
_CUT = ("abort", "error", "content_filter")  # ends that no token and no budget made


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
        text = part.get(kind, "") if kind in ("text", "reasoning") else None
        if not isinstance(text, str):
            return None
        texts.append(text if kind == "text" else thought(text))
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


def unread_end(reason: Any, message: Any = None) -> str:
    """The reason to leave out what neither the model ended nor the budget cut.

    Args:
        reason: The tool's reason for its end.
        message: Its message, or the messages of which it is the last.

    Returns:
        The reason to leave it out; "": there is none.
    """
    last = message[-1] if isinstance(message, list) and message else message
    calls = isinstance(last, dict) and (
        last.get("tool_calls") or last.get("function_call")
    )
    if calls or reason in ("tool_calls", "function_call"):
        return "it calls tools"
    return f"its engine cut it off: {reason}" if reason in _CUT else ""


def prompt_of(found: Any, where: str) -> Prompt:
    """A prompt: a text, or chat messages.

    Args:
        found: Value of a field.
        where: `file:line`, for messages.

    Returns:
        The text or the messages.

    Raises:
        UserError: It is neither.
    """
    return found if isinstance(found, str) else messages_of(found, where)


def last_turn(prompt: Prompt) -> str:
    """The text that was asked last.

    Args:
        prompt: Text or messages.

    Returns:
        The text, or the content of the last message of the user.
    """
    if isinstance(prompt, str):
        return prompt
    return next((m["content"] for m in prompt[::-1] if m["role"] == "user"), "")


def list_of(record: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """A list of a record.

    Args:
        record: A record of a file.
        name: Name of the field.
        where: `file:line`, for messages.

    Returns:
        The list; an empty one for a missing field or null.

    Raises:
        UserError: It is something else.
    """
    return _container(record, name, where, list, "a list")


def object_of(record: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """An object of a record.

    Args:
        record: A record of a file.
        name: Name of the field.
        where: `file:line`, for messages.

    Returns:
        The object; an empty one for a missing field or null.

    Raises:
        UserError: It is something else.
    """
    return _container(record, name, where, dict, "an object")


def _container(
    record: Mapping[str, Any], name: str, where: str, kind: type, called: str
) -> Any:
    found = record.get(name)
    if found is not None and not isinstance(found, kind):
        raise UserError(f"{where}: its {name!r} must be {called}")
    return found or kind()


def settings_of(
    found: Mapping[str, Any], names: Sequence[str], where: str
) -> dict[str, float]:
    """Sampling settings of a record.

    Args:
        found: The object that holds them.
        names: Their names.
        where: `file:line`, for messages.

    Returns:
        Those that are there and not null.

    Raises:
        UserError: One is not a finite number of 0 or more, or `top_k` (whose -1 is
            "all") is not a whole number.
    """
    known = {name: found[name] for name in names if found.get(name) is not None}
    for name, value in known.items():
        if isinstance(value, bool) or not math.isfinite(number(value)):
            raise UserError(f"{where}: its {name!r} must be a finite number")
        if name == "top_k":
            if value != int(value) or abs(value) >= 2**31:
                raise UserError(f"{where}: its 'top_k' must be a whole number")
        elif value < 0:
            raise UserError(f"{where}: its {name!r} is {value}, below 0")
    return {name: float(value) for name, value in known.items()}


def number(value: Any) -> float:
    """A number of a file.

    Args:
        value: Any value.

    Returns:
        The number; NaN for another value.
    """
    known = isinstance(value, int | float | np.number)
    return float(value) if known else math.nan
