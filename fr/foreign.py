"""Programs that come with a model's files, run in a bounded process: chat templates and native readers.

A template may loop or grow without end, and a native library may abort on a file, which no exception handler
sees: both happen in here, cost a process of ours, and are one line in the caller.
"""

import contextlib
import functools
import json
from pathlib import Path

from fr.bounded import Bounded, GraderFailure, OutOfTime
from fr.errors import UserError, first_line

SECONDS, MEMORY = (
    10.0,
    3 << 29,
)  # of one call; reading a vocabulary of 268,000 tokens takes 1.6 s and 400 MB
_CACHED = 4096  # texts of templates: a run asks for those of a problem several times


class Endless(UserError):
    """A program that used up its time or memory, or ended its process."""


def render(template: str, messages: list[dict], variables: dict, where: str) -> str:
    """The text that a chat template writes; raises UserError, which begins with `where`, where it fails."""
    # Templates of one model meet the same messages again and again; keys in their own order.
    return _rendered(template, json.dumps(messages), json.dumps(variables), where)


def check_tokenizer(path: Path) -> int:
    """The number of tokens of a `tokenizer.json`.

    Raises UserError for one that contradicts itself, or with which the native reader fails, dies, hangs or needs
    too much memory.
    """
    about = path.stat()
    return _checked(str(path), about.st_size, about.st_mtime_ns)


@contextlib.contextmanager
def panics_are_errors():
    """Native code's panics, which are BaseExceptions that name no class one could import, as ValueError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"native code panics: {first_line(error)}") from error


def warm() -> None:
    """Start the process, which takes a second, while the caller does something else."""
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
        # An error that the program has raised says something about it; a process that is gone does not.
        kind = Endless if error.__cause__ else UserError
        raise kind(f"{where}: {why.removeprefix(f'{where}: ')}") from error
