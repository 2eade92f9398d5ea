"""References that must grade themselves right when a task is loaded: a wrong one makes every grade wrong."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fr.errors import UserError
from fr.tasks.extract import CUE
from fr.types import RIGHT, Problem
from fr.workdir import cache_folder, write_json

_THREADS = 8  # they only wait for grader processes
_WORTH_KEEPING = 1.0  # seconds that a check took


def check_references(
    given: Sequence[tuple[str, Problem]], grade: Callable[[Problem, str], str]
) -> None:
    """Raise UserError for the first of the (file:line, problem) whose reference does not grade itself right.

    What was found right is kept in the cache folder, by a hash of all references, so that only a new file
    takes time.
    """
    text = json.dumps([(problem.task, problem.answer) for _, problem in given])
    mark, begin = _mark(text), time.perf_counter()
    if mark and mark.exists():
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        grades = list(pool.map(lambda each: grade(each[1], f"{CUE} {each[1].answer}"), given))
    wrong = [(*each, found) for each, found in zip(given, grades) if found != RIGHT]
    if wrong:
        where, problem, found = wrong[0]
        more = f" ({len(wrong)} references of {len(given)})" if len(wrong) > 1 else ""
        raise UserError(
            f"{where}: the reference {problem.answer[:80]!r} is graded {found} as an answer to itself{more}; "
            "correct it"
        )
    if mark and time.perf_counter() - begin > _WORTH_KEEPING:
        with contextlib.suppress(OSError):
            write_json(mark, {"references": len(given)})


def _mark(text: str) -> Path | None:
    """The file whose existence says that these references were found right; None without a home."""
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    try:
        return cache_folder() / "references" / name
    except (RuntimeError, UserError):
        return None


try:  # not yet in fr.tasks.grading
    from fr.tasks.grading import grader_version
except ImportError:

    def grader_version() -> str:
        """Until the graders say so themselves."""
        return "fr 1"
