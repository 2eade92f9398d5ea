"""Graders by the kind of an answer, and grades of many attempts.

Values and words (`grade_answer`), letters of options, Python literals.
"""

import ast
import functools
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from absl import logging

from fr.bounded import GraderFailure
from fr.tasks.equality import same_answer
from fr.tasks.extract import final_answer, find_answer, literal_length
from fr.tasks.markers import LETTER, LITERAL, MATH, option_letter
from fr.tasks.normalise import strip_markup
from fr.tasks.stated import is_unevaluated, read_value
from fr.types import GRADER_ERROR, GRADES, RIGHT, UNPARSED, WRONG, Problem

VERSION = 2  # of extraction and equality: raised when a grade may change
_PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "reasoning-gym")
# most answers; there is nothing in them to be parsed
_DIGITS = re.compile(r"-?[0-9]{1,30}", re.ASCII)
# Threads only wait for grader processes; graders of our own share one thread's time.
_THREADS = 8
MAX_LITERAL = 20_000  # characters
# before the value in `assert f(1) == 2`
_CALL = re.compile(
    r"(?:assert\s+)?`?f\(.*\)`?\s*"
    r"(?:===?|=|->|→|returns?|gives|is|evaluates to)\s*`?",
    re.DOTALL,
)
_NO_LITERAL = (
    ValueError,
    SyntaxError,
    TypeError,
    MemoryError,
    RecursionError,
    OverflowError,
)


@functools.cache
def grader_version() -> str:
    """Version of the graders and of their packages, such as `fr 2; sympy 1.14.0`."""
    parts = [f"fr {VERSION}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{package} absent")
    return "; ".join(parts)


def grade_answer(completion: str, reference: str) -> str:
    """Grade the final answer by value, or by words if the reference is words.

    Numbers are exact, and a percentage also equals its hundredth. Intervals, tuples,
    sets and matrices are compared by brackets and parts. math-verify compares formulas
    that exact arithmetic cannot decide.

    Args:
        completion: New text of an attempt.
        reference: The right answer.

    Returns:
        One of `fr.types.GRADES`. It is `unparsed` where a number is wanted and the
        completion states none, or several.
    """
    found = find_answer(completion)
    if found is None:
        return UNPARSED
    return _grade_stated(found.text, reference, found.how == "bare")


def grade_letter(completion: str, reference: str) -> str:
    """Grade the letter of an option (`letter_of`).

    Args:
        completion: New text of an attempt.
        reference: The right letter.

    Returns:
        `right`, `wrong` or `unparsed`.
    """
    stated = letter_of(completion)
    if stated is None:
        return UNPARSED
    return RIGHT if stated == reference.strip().upper() else WRONG


def grade_literal(completion: str, reference: str) -> str:
    """Grade a Python literal by value and type of all its parts: 1 is not True.

    Args:
        completion: New text of an attempt.
        reference: The right literal; a text that is not one raises as
            `ast.literal_eval` does.

    Returns:
        `right`, `wrong` or `unparsed`.
    """
    stated = literal_of(completion)
    if stated is None:
        return UNPARSED
    right = literal_key(stated[0]) == literal_key(ast.literal_eval(reference))
    return RIGHT if right else WRONG


# (completion, reference) -> grade, by kind of answer
GRADERS: dict[str, Callable[[str, str], str]] = {
    MATH: grade_answer,
    LETTER: grade_letter,
    LITERAL: grade_literal,
}


class _Grader(Protocol):
    """A task, or the grade method of one."""

    def grade(self, problem: Problem, completion: str) -> str: ...


def grade_all(task: _Grader, attempts: Sequence[tuple[Problem, str]]) -> list[str]:
    """Grade many attempts.

    An exception in a grader and a grade that does not exist are logged.

    Args:
        task: The task that grades.
        attempts: (problem, new text of the attempt) pairs.

    Returns:
        Grades in the order of the attempts; `grader_error`, never `wrong`, where the
        grader failed.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda attempt: _grade(task, *attempt), attempts))


def letter_of(completion: str) -> str | None:
    """Letter that the final answer starts with: `B`, `(b)`, `B) because`.

    Args:
        completion: New text of an attempt.

    Returns:
        One of `markers.LETTERS`, or None.
    """
    answer = final_answer(completion, LETTER)
    return option_letter(strip_markup(answer)) if answer else None


def literal_of(completion: str) -> tuple | None:
    """Python literal of the final answer; nothing is executed.

    Args:
        completion: New text of an attempt.

    Returns:
        (value,), or None if the answer is not a literal.
    """
    answer = final_answer(completion, LITERAL)
    if answer is None or len(answer) > MAX_LITERAL:
        return None
    text = answer.strip()
    code = re.match(r"(`+)(.+?)\1", text, re.DOTALL)
    forms = [code[2]] if code else []
    forms += [
        text.strip("`* "),
        text.strip("`* .$"),
        strip_markup(text),
        re.split(r"\.\s|\s#|,? because ", text)[0],
    ]
    called = _CALL.sub("", text).strip()
    if _words_follow(called):
        forms.append(called[: literal_length(called)])
    for form in forms:
        try:
            return (ast.literal_eval(_CALL.sub("", form.strip()).strip()),)
        except _NO_LITERAL:
            continue
    return None


def literal_key(value: object) -> str:
    """One text for equal literals: numbers compare by value, True is not 1.

    Args:
        value: Value of a literal.

    Returns:
        The text.
    """
    match value:
        case dict():
            parts = sorted(
                f"{literal_key(k)}: {literal_key(v)}" for k, v in value.items()
            )
            return f"{{{', '.join(parts)}}}"
        case set() | frozenset() if value:
            return f"{{{', '.join(sorted(map(literal_key, value)))}}}"
        case set() | frozenset():
            return "set()"
        case list():
            return f"[{', '.join(map(literal_key, value))}]"
        case tuple():
            return f"({', '.join(map(literal_key, value))}{',' * (len(value) == 1)})"
        case float() if value.is_integer():
            return repr(int(value))
    return repr(value)


def _words_follow(text: str) -> bool:
    """True if words follow a literal with brackets or quotes."""
    length = literal_length(text)
    return length > 0 and bool(
        re.match(r"`?[,.;]?(?:\s|$)(?!\s*(?:or|and|[-+*/%]|not)\b)", text[length:])
    )


def _grade_stated(answer: str, reference: str, unmarked: bool) -> str:
    if _DIGITS.fullmatch(reference) and _DIGITS.fullmatch(answer):
        return RIGHT if int(reference) == int(answer) else WRONG
    wanted = read_value(reference, True)
    try:
        right = same_answer(reference, answer, unmarked)
    except GraderFailure as error:
        logging.error("math-verify failed on %r: %s", answer[:80], error)
        return GRADER_ERROR
    if wanted.number is None:
        return RIGHT if right else WRONG
    stated = read_value(answer, unmarked)
    if (
        stated.kind in ("text", "opaque", "list")
        or stated.number is not None
        and is_unevaluated(answer)
    ):
        return RIGHT if right and stated.kind != "expr" else UNPARSED
    return RIGHT if right else WRONG


def _grade(task: _Grader, problem: Problem, completion: str) -> str:
    try:
        grade = task.grade(problem, completion)
    except Exception as error:  # no error of a grader is a verdict on the attempt
        logging.error(
            "grader of %s failed: %s: %s", problem.id, type(error).__name__, error
        )
        return GRADER_ERROR
    if grade not in GRADES:
        logging.error(
            "grader of %s gave %r, which is not one of %s", problem.id, grade, GRADES
        )
        return GRADER_ERROR
    return grade
