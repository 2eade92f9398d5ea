"""Programs among a model's files, run in a bounded process: chat templates, native
readers.

A template may loop or grow without end, and a native library may abort on a file, which
no exception handler sees. In here both cost a child process and become one line in the
caller.
"""

import contextlib
import functools
import json
from pathlib import Path

from fr.bounded import Bounded, GraderFailure, OutOfTime
from fr.errors import UserError, first_line

# Limits of one call. A vocabulary of 268,000 tokens takes 1.6 s and 400 MB.
SECONDS, MEMORY = 10.0, 3 << 29
_CACHED = 4096  # texts of templates; a run asks for a problem's text several times


class Endless(UserError):
    """A program used up its time or memory, or ended its process."""


def render(template: str, messages: list[dict], variables: dict, where: str) -> str:
    """The text that a chat template writes.

    Args:
      template: Jinja source.
      messages: chat messages.
      variables: of the template.
      where: begins the error line.

    Returns:
      The prompt.

    Raises:
      UserError: the template fails.
      Endless: it needs too much time or memory.
    """
    # One model's template meets the same messages many times; JSON makes them hashable.
    return _rendered(template, json.dumps(messages), json.dumps(variables), where)


def check_tokenizer(path: Path) -> int:
    """Check a `tokenizer.json` and count its tokens.

    Args:
      path: of the file.

    Returns:
      The number of tokens.

    Raises:
      UserError: the file contradicts itself, or the native reader fails on it.
      Endless: the reader dies, hangs or needs too much memory.
    """
    about = path.stat()
    return _checked(str(path), about.st_size, about.st_mtime_ns)


@contextlib.contextmanager
def panics_are_errors():
    """Turn native panics into ValueError; they are BaseExceptions of no importable
    class.

    Yields:
      None.

    Raises:
      ValueError: native code panicked in the block.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"native code panics: {first_line(error)}") from error


def warm() -> None:
    """Start the process in the background, which takes a second."""
    _pool().warm()


@functools.lru_cache(_CACHED)
def _rendered(template: str, messages: str, variables: str, where: str) -> str:
    return _ask(
        "template", where, template, json.loads(messages), json.loads(variables)
    )


@functools.lru_cache
def _checked(path: str, size: int, changed: int) -> int:
    return _ask("tokenizer", path, path)


@functools.cache
def _pool() -> Bounded:
    return Bounded("fr.foreign_worker:serve", SECONDS, workers=1, memory=MEMORY)


def _ask(kind: str, where: str, *args):
    try:
        return _pool().call(kind, *args)
    except OutOfTime as error:
        most = f"{SECONDS:g} s of processor time or {MEMORY >> 20} MB"
        raise Endless(f"{where}: needs more than {most}") from error
    except GraderFailure as error:
        why = (
            first_line(error)
            .removeprefix("fr.foreign_worker:serve: ")
            .removeprefix("UserError: ")
        )
        # An error that the program raised says why; a process that is gone does not.
        refusal = Endless if error.__cause__ else UserError
        raise refusal(f"{where}: {why.removeprefix(f'{where}: ')}") from error
