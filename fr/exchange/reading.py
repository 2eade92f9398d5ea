"""Completions of a file in any format; what is not a record of it is one line."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fr.errors import UserError, first_line, printable
from fr.exchange.sampled import Format, Sampled

_LARGEST = 2**31  # of ids, which the store holds as int32
# Errors of code that reads a value of a wrong type or size.
_WRONG = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)


def completions(name: str, kind: Format, path: str) -> Iterator[Sampled]:
    """Read the completions of a file, each with fields of the right types.

    Args:
        name: Name of the format.
        kind: The format.
        path: The file.

    Yields:
        Its completions.

    Raises:
        UserError: The file cannot be read, or a record is not one of the format; the
            line is named.
    """
    for where, record in kind.records(path):
        where = printable(where)
        with one_record(where, name):
            found = list(kind.completions(where, record))
            for sampled in found:
                _check(sampled)
        yield from found


@contextlib.contextmanager
def one_record(where: str, name: str) -> Iterator[None]:
    """Turn errors over the shape of a record into one line.

    Args:
        where: `file:line`.
        name: Name of the format.

    Yields:
        None.

    Raises:
        UserError: A value had another type or size than code expected.
    """
    try:
        yield
    except _WRONG as error:
        why = f"{type(error).__name__}: {first_line(error)[:100]}"
        raise UserError(f"{where}: is not a record of {name} ({why})") from error


def _check(sampled: Sampled) -> None:
    """Refuse a completion with a field of another type than `Sampled` says."""
    where, texts = sampled.where, (sampled.text, *sampled.ids)
    texts += (sampled.name, sampled.question, sampled.reference, sampled.model)
    if not all(text is None or isinstance(text, str) for text in texts):
        raise UserError(f"{where}: its text, names and question must be texts")
    if not sampled.unread:  # else it is left out
        _check_ids(sampled.prompt_tokens, f"{where}: its prompt")
        _check_ids(sampled.tokens, where)
        _check_logp(sampled)


def _check_ids(ids: Any, what: str) -> None:
    if ids is None:
        return
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise UserError(f"{what}: its token ids must be a list of whole numbers")
    if wrong := next((i for i in ids if not 0 <= i < _LARGEST), None):
        raise UserError(f"{what}: {wrong} is not a token id")


def _check_logp(sampled: Sampled) -> None:
    values = sampled.logp
    if values is None:
        return
    known = isinstance(values, list) and all(
        v is None or isinstance(v, int | float) and not isinstance(v, bool)
        for v in values
    )
    if not known:
        raise UserError(f"{sampled.where}: its log-probs must be a list of numbers")
    drawn = sampled.pieces if sampled.tokens is None else sampled.tokens
    if drawn is not None and len(drawn) != len(values):
        raise UserError(
            f"{sampled.where}: {len(values)} log-probs for {len(drawn)} tokens"
        )
