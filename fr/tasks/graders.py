"""Graders by the kind of an answer: values and words, the letter of an option, a Python literal."""

import ast
import re

from fr.tasks import extract
from fr.tasks.extract import final_answer, literal_length
from fr.tasks.grading import grade_answer
from fr.tasks.letters import LETTERS, letter
from fr.tasks.undress import plain
from fr.types import RIGHT, UNPARSED, WRONG

__all__ = [
    "LETTERS",
    "grade_letter",
    "grade_literal",
    "grade_math",
    "letter_of",
    "literal_of",
]
MAX_LITERAL = 20_000  # characters
# before the value in `assert f(1) == 2`
_CALL = re.compile(
    r"(?:assert\s+)?`?f\(.*\)`?\s*(?:===?|=|->|→|returns?|gives|is|evaluates to)\s*`?",
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

grade_math = grade_answer  # one grader of values and words, under the name of its kind


def grade_letter(completion: str, reference: str) -> str:
    """Grade the letter of an option (`letter_of`)."""
    stated = letter_of(completion)
    if stated is None:
        return UNPARSED
    return RIGHT if stated == reference.strip().upper() else WRONG


def letter_of(completion: str) -> str | None:
    """The letter that the final answer starts with: `B`, `(b)`, `B) because`; None without one."""
    answer = final_answer(completion, extract.LETTER)
    return letter(plain(answer)) if answer else None


def grade_literal(completion: str, reference: str) -> str:
    """Grade a Python literal by the value and type of all its parts (`literal_of`): 1 is not True."""
    stated = literal_of(completion)
    if stated is None:
        return UNPARSED
    return (
        RIGHT
        if literal_key(stated[0]) == literal_key(ast.literal_eval(reference))
        else WRONG
    )


def literal_of(completion: str) -> tuple | None:
    """The value of the Python literal that the final answer is, alone in a tuple; None if it is none.

    Nothing is executed.
    """
    answer = final_answer(completion, extract.LITERAL)
    if answer is None or len(answer) > MAX_LITERAL:
        return None
    text = answer.strip()
    code = re.match(r"(`+)(.+?)\1", text, re.DOTALL)
    forms = [code[2]] if code else []
    forms += [
        text.strip("`* "),
        text.strip("`* .$"),
        plain(text),
        re.split(r"\.\s|\s#|,? because ", text)[0],
    ]
    forms += [
        form[: literal_length(form)]
        for form in [_CALL.sub("", text).strip()]
        if _ends(form)
    ]
    for form in forms:
        try:
            return (ast.literal_eval(_CALL.sub("", form.strip()).strip()),)
        except _NO_LITERAL:
            continue
    return None


def _ends(text: str) -> bool:
    """Whether words follow a literal with brackets or quotes."""
    length = literal_length(text)
    return length > 0 and bool(
        re.match(r"`?[,.;]?(?:\s|$)(?!\s*(?:or|and|[-+*/%]|not)\b)", text[length:])
    )


def literal_key(value) -> str:
    """One text for equal literals; numbers are compared by value, and truth values are no numbers."""
    match value:
        case dict():
            parts = sorted(
                f"{literal_key(k)}: {literal_key(v)}" for k, v in value.items()
            )
            return f"{{{', '.join(parts)}}}"
        case set() | frozenset():
            return (
                f"{{{', '.join(sorted(map(literal_key, value)))}}}"
                if value
                else "set()"
            )
        case list():
            return f"[{', '.join(map(literal_key, value))}]"
        case tuple():
            return f"({', '.join(map(literal_key, value))}{',' * (len(value) == 1)})"
        case float() if value.is_integer():
            return repr(int(value))
    return repr(value)
