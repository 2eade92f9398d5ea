"""References that must grade themselves right when a task is loaded: a wrong one makes every grade wrong."""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fr.errors import UserError
from fr.tasks.grading import grader_version, reference_problem
from fr.workdir import cache_folder, write_json

_THREADS = 8  # they only wait for grader processes
_WORTH_KEEPING = 1.0  # seconds that a check took


def check_references(kind: str, given: Sequence[tuple[str, str]]) -> None:
    """Raise UserError for the first reference that does not grade itself right.

    What was found right is kept in the cache folder, by a hash of all references and the grader's version, so
    that only new references and new graders take time.

    Args:
      kind: of their answers (`fr.tasks.grading.reference_problem`).
      given: (file:line, reference) of every question.
    """
    references = list(dict.fromkeys(reference for _, reference in given))
    mark, begin = _mark(kind, references), time.perf_counter()
    if mark and mark.exists():
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(
            lambda reference: reference_problem(kind, reference), references
        )
        problems = {
            reference: problem
            for reference, problem in zip(references, found)
            if problem
        }
    wrong = [
        (where, problems[reference])
        for where, reference in given
        if reference in problems
    ]
    if wrong:
        more = (
            f" (and so are {len(wrong) - 1} others of {len(given)})"
            if len(wrong) > 1
            else ""
        )
        raise UserError(f"{wrong[0][0]}: the reference {wrong[0][1]}{more}; correct it")
    if mark and time.perf_counter() - begin > _WORTH_KEEPING:
        with contextlib.suppress(OSError):
            write_json(
                mark, {"references": len(references), "grader": grader_version()}
            )


def _mark(kind: str, references: list[str]) -> Path | None:
    """The file whose existence says that these references were found right; None without a home."""
    text = json.dumps([kind, grader_version(), references])
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    try:
        return cache_folder() / "references" / name
    except (RuntimeError, UserError):
        return None
