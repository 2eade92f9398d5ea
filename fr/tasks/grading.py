"""Grades of attempts: the answer that a completion ends with against its reference; many attempts at once."""

import functools
import importlib.metadata
import re
from concurrent.futures import ThreadPoolExecutor

from absl import logging

from fr.bounded import GraderFailure
from fr.tasks import extract
from fr.tasks.base import Task
from fr.tasks.claims import number_undone, read
from fr.tasks.equality import same
from fr.types import GRADER_ERROR, GRADES, RIGHT, UNPARSED, WRONG, Problem

VERSION = 2  # of extraction and equality: raised when a grade may change
_PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "reasoning-gym")
_DIGITS = re.compile(
    r"-?[0-9]{1,30}", re.ASCII
)  # most answers; nothing in them to be read
_THREADS = (
    8  # they only wait for grader processes; graders of our own share one thread's time
)


@functools.cache
def grader_version() -> str:
    """What decides a grade: our version and those of the packages that are asked, `fr 2; sympy 1.14.0; ...`."""
    parts = [f"fr {VERSION}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{package} absent")
    return "; ".join(parts)


def grade_answer(completion: str, reference: str) -> str:
    """Grade the final answer of the new text `completion` by value, or by words if the reference is words.

    Numbers are exact, a percentage is also its hundredth; intervals, tuples, sets and matrices are
    compared by brackets and parts; formulas that exact arithmetic cannot decide by math-verify.
    Where a number is wanted and none is stated, or several, the answer is unparsed.
    """
    found = extract.find(completion)
    if found is None:
        return UNPARSED
    return _grade_stated(found.text, reference, found.how == "bare")


def reference_problem(kind: str, reference: str) -> str | None:
    """Why a reference cannot be graded against, or None.

    Args:
      kind: of the answers of the task: `math`, `letter` or `literal`.
      reference: as it was read from its file.
    """
    from fr.tasks import graders

    if not reference.strip():
        return "is empty"
    if len(reference) > extract.MAX_REFERENCE:
        return f"has {len(reference)} characters; {extract.MAX_REFERENCE} is the most"
    if (
        reference[:2] in ("b'", 'b"')
        and reference[-1:] in "'\""
        and kind != extract.LITERAL
    ):
        return f"{reference[:40]!r} is the print of bytes; store it as text"
    if kind == extract.LETTER:
        letters = ", ".join(graders.LETTERS)
        return (
            None
            if reference in graders.LETTERS
            else f"{reference[:40]!r} must be one of {letters}"
        )
    grade = {extract.LITERAL: graders.grade_literal, extract.MATH: grade_answer}[kind]
    try:
        given = grade(f"{extract.CUE} {reference}", reference)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        given = UNPARSED
    if given != RIGHT:
        return f"{reference[:60]!r} is graded {given} when it is given as the answer"
    return None


def grade_all(task: Task, attempts: list[tuple[Problem, str]]) -> list[str]:
    """The grades of (problem, completion) pairs, in order; a completion is the new text of an attempt only.

    An exception in a grader, or a grade that does not exist, is a `grader_error`, never `wrong`; each is
    logged.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda attempt: _grade(task, *attempt), attempts))


def _grade_stated(answer: str, reference: str, bare: bool) -> str:
    if _DIGITS.fullmatch(reference) and _DIGITS.fullmatch(answer):
        return RIGHT if int(reference) == int(answer) else WRONG
    wanted = read(reference, True)
    try:
        right = same(reference, answer, bare)
    except GraderFailure as error:
        logging.error("math-verify failed on %r: %s", answer[:80], error)
        return GRADER_ERROR
    if wanted.number is None:
        return RIGHT if right else WRONG
    stated = read(answer, bare)
    if (
        stated.kind in ("text", "opaque", "list")
        or stated.number is not None
        and number_undone(answer)
    ):
        return RIGHT if right and stated.kind != "expr" else UNPARSED
    return RIGHT if right else WRONG


def _grade(task: Task, problem: Problem, completion: str) -> str:
    try:
        grade = task.grade(problem, completion)
    except Exception as error:  # whatever it is, the attempt was not judged
        logging.error(
            "grader of %s failed: %s: %s", problem.id, type(error).__name__, error
        )
        return GRADER_ERROR
    if grade not in GRADES:
        logging.error("grader of %s gave %r, which is no grade", problem.id, grade)
        return GRADER_ERROR
    return grade
