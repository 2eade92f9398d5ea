"""Programs that come with a model's files, run in a bounded process: chat templates and native readers.

A template may loop or grow without end, and a native library may abort on a file, which no exception handler
sees: both happen in here, cost a process of ours, and are one line in the caller.
"""

import functools
import json

from fr.bounded import Bounded, GraderFailure, OutOfTime
from fr.errors import UserError

SECONDS, MEMORY = 5.0, 1 << 30  # of one call; a large tokenizer takes 1 s and 300 MB
_CACHED = 4096  # texts of templates: a run asks for those of a problem several times


class Endless(UserError):
    """A program that used up its time or memory."""


def render(template: str, messages: list[dict], variables: dict, where: str) -> str:
    """The text that a chat template writes; raises UserError, which begins with `where`, where it fails."""
    # Templates of one model meet the same messages again and again; keys in their own order.
    return _rendered(template, json.dumps(messages), json.dumps(variables), where)


def check_tokenizer(path: str, where: str) -> None:
    """Raise UserError if the native reader of a `tokenizer.json` fails, dies, hangs or needs too much memory."""
    _ask("tokenizer", where, path)


def warm() -> None:
    """Start the process, which takes a second, while the caller does something else."""
    _pool().warm()


@functools.lru_cache(_CACHED)
def _rendered(template: str, messages: str, variables: str, where: str) -> str:
    return _ask("template", where, template, json.loads(messages), json.loads(variables))


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
        why = str(error).removeprefix("fr.foreign_worker:serve: ")
        raise UserError(f"{where}: {why.splitlines()[0] if why else 'failed'}") from error
