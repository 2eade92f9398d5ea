"""How a final answer is compared with its reference where numbers and words are not all: LaTeX, letters, literals."""

import ast
import functools
import importlib.util
import re

from fr.tasks.bounded import Bounded, GraderFailure
from fr.tasks.extract import final_answer, plain
from fr.tasks.grading import grade_answer
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG

LETTERS = "ABCD"  # of the options of a question
_LETTER = re.compile(r"\W*(?:(?:option|choice)\s+\W*)?([A-D])(?:[).:\]]|\s+[-–—]\s|\s*$)", re.IGNORECASE)
_CALL = re.compile(r"(?:assert\s+)?f\(.*\)\s*==")  # what stands before the value in `assert f(1) == 2`
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def grade_math(completion: str, reference: str) -> str:
    """Grade by value or by words (`grade_answer`); what is not right may be equal LaTeX (math-verify)."""
    grade = grade_answer(completion, reference)
    answer = final_answer(completion, numeric=False)
    if grade == RIGHT or answer is None or not _is_latex(reference + answer) or not _has_math_verify():
        return grade
    try:
        return RIGHT if _latex().call(reference, answer) else grade
    except GraderFailure:
        return GRADER_ERROR


def grade_letter(completion: str, reference: str) -> str:
    """Grade the letter of an option (`letter_of`)."""
    letter = letter_of(completion)
    if letter is None:
        return UNPARSED
    return RIGHT if letter == reference else WRONG


def letter_of(completion: str) -> str | None:
    """The letter that the final answer starts with: `B`, `(b)`, `B) because`; None without one."""
    answer = final_answer(completion, numeric=False)
    letter = _LETTER.match(plain(answer)) if answer else None
    return letter[1].upper() if letter else None


def grade_literal(completion: str, reference: str) -> str:
    """Grade a Python literal by `==` of the values (`literal_of`)."""
    stated = literal_of(completion)
    if stated is None:
        return UNPARSED
    return RIGHT if stated[0] == ast.literal_eval(reference) else WRONG


def literal_of(completion: str) -> tuple | None:
    """The value of the Python literal that the final answer is, alone in a tuple; None if it is none.

    Nothing is executed.
    """
    answer = final_answer(completion, numeric=False)
    if answer is None:
        return None
    try:
        return (ast.literal_eval(_CALL.sub("", answer.strip("`* ")).strip()),)
    except _NO_LITERAL:
        return None


def _is_latex(text: str) -> bool:
    return any(sign in text for sign in "\\^_")


def _has_math_verify() -> bool:
    return importlib.util.find_spec("math_verify") is not None


@functools.cache
def _latex() -> Bounded:
    return Bounded("fr.tasks.latex:equivalent")
