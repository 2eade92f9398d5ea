"""Checks of references when a task is loaded: a bad one makes every grade wrong."""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fr.errors import UserError
from fr.tasks.extract import CUE, MAX_REFERENCE
from fr.tasks.grading import GRADERS, grader_version
from fr.tasks.markers import LETTER, LETTERS, LITERAL
from fr.types import RIGHT, UNPARSED
from fr.workdir import cache_folder, write_json

_THREADS = 8  # they only wait for grader processes
_WORTH_KEEPING = 1.0  # seconds that a check took


def check_references(kind: str, given: Sequence[tuple[str, str]]) -> None:
    """Check that every reference is graded right when it is given as the answer.

    References that passed are kept in the cache folder, by a hash of all of them and
    the grader's version, so only new references and new graders take time.

    Args:
        kind: Kind of their answers (`reference_problem`).
        given: (file:line, reference) of every question.

    Raises:
        UserError: A reference is not graded right; the first one is named.
    """
    references = list(dict.fromkeys(reference for _, reference in given))
    mark, begin = _mark(kind, references), time.perf_counter()
    if mark and mark.exists():
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda text: reference_problem(kind, text), references)
        problems = {text: why for text, why in zip(references, found) if why}
    wrong = [(where, problems[text]) for where, text in given if text in problems]
    if wrong:
        others = f" (and so are {len(wrong) - 1} others of {len(given)})"
        more = others if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0][0]}: the reference {wrong[0][1]}{more}; correct it")
    if mark and time.perf_counter() - begin > _WORTH_KEEPING:
        with contextlib.suppress(OSError):
            write_json(
                mark, {"references": len(references), "grader": grader_version()}
            )


def reference_problem(kind: str, reference: str) -> str | None:
    """Reason why no answer can be graded against a reference.

    Args:
        kind: Kind of the task's answers: `math`, `letter` or `literal`.
        reference: The right answer as read from its file.

    Returns:
        The end of a sentence about the reference, or None for a good one.
    """
    if not reference.strip():
        return "is empty"
    if len(reference) > MAX_REFERENCE:
        return f"has {len(reference)} characters; {MAX_REFERENCE} is the most"
    shown = repr(reference[:40])
    quoted = reference[:2] in ("b'", 'b"') and reference[-1:] in "'\""
    if quoted and kind != LITERAL:
        return f"{shown} is the print of bytes; store it as text"
    if kind == LETTER:
        known = reference in LETTERS
        return None if known else f"{shown} must be one of {', '.join(LETTERS)}"
    try:
        given = GRADERS[kind](f"{CUE} {reference}", reference)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        given = UNPARSED
    if given != RIGHT:
        return f"{reference[:60]!r} is graded {given} when it is given as the answer"
    return None


def _mark(kind: str, references: list[str]) -> Path | None:
    """The file that exists if these references passed; None without a home folder."""
    text = json.dumps([kind, grader_version(), references])
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    try:
        return cache_folder() / "references" / name
    except (RuntimeError, UserError):
        return None
