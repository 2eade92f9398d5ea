"""Equality of answers: exact values, then math-verify for formulas, then words."""

import functools
import re

from fr.bounded import Bounded, GraderFailure, OutOfTime
from fr.tasks.normalise import strip_markup, unify_notation
from fr.tasks.stated import read_value, word_forms
from fr.tasks.values import equal

SECONDS = 2.0  # of processor time for math-verify to compare two formulas
MAX_FORMULA = 1000  # characters; math-verify is not asked about a longer one
# Numbers too large to compute: towers of powers, long exponents, large factorials.
_ENDLESS = re.compile(r"\^\{?\(?\d+\}?\^|\d\^\{?\(?\d{4,}|\d{4,}!|!!|\d{300}")


def same_answer(reference: str, answer: str, unmarked: bool = False) -> bool:
    """True if a stated answer means the same as a reference.

    GraderFailure passes through where math-verify is needed and cannot run.

    Args:
        reference: The right answer as written.
        answer: A stated answer as written.
        unmarked: The answer came without a marker (`stated.read_value`).

    Returns:
        True or False.
    """
    one, other = _tight(reference), _tight(answer)
    if one == other:
        return True
    wanted, stated = read_value(reference), read_value(answer, unmarked)
    if wanted.kind == "text" or read_value(reference, True).kind == "text":
        return word_forms(reference)[0] in word_forms(answer)
    if wanted.kind == "opaque" and not re.search(r"[\\()\[\]{}|]", reference):
        if word_forms(reference)[0] in word_forms(answer):  # a date or a time
            return True
    verdict = equal(wanted, stated)
    return _math_verify(one, other) if verdict is None else verdict


def same_formulas(one: str, other: str) -> bool:
    """True if two formulas that exact arithmetic cannot compare are equal.

    Args:
        one: A formula as written.
        other: Another one.

    Returns:
        The verdict of math-verify; False where it fails, or where exact arithmetic
        decides.
    """
    if equal(read_value(one), read_value(other)) is not None:
        return False
    try:
        return _math_verify(_tight(one), _tight(other))
    except GraderFailure:
        return False


def _tight(text: str) -> str:
    # A blank between digits is kept: `3 4/5` is not `34/5`.
    clean = unify_notation(strip_markup(text)).replace("$", "")
    return re.sub(r"(?<!\d) | (?!\d)", "", clean).rstrip(".")


def _math_verify(reference: str, answer: str) -> bool:
    """Verdict of math-verify, in bounded time, on formulas of the same outer form."""
    if (
        _form(reference) != _form(answer)
        or max(len(reference), len(answer)) > MAX_FORMULA
    ):
        return False
    if _ENDLESS.search(reference) or _ENDLESS.search(answer):
        return False
    try:
        return _verdict(*sorted((reference, answer)))
    except OutOfTime:
        return False  # an answer that takes too long is not shown to be right


@functools.lru_cache(maxsize=4096)
def _verdict(one: str, other: str) -> bool:
    return bool(_verifier().call(one, other))


@functools.cache
def _verifier() -> Bounded:
    return Bounded("fr.tasks.latex:equivalent", SECONDS)


def _form(text: str) -> tuple:
    """Outer brackets, relations and commas, which math-verify is too lax about."""
    text = text.replace("log_", "log")  # `_` of a base is not a relation
    relations = tuple(sorted(c for c in text if c in "<>≤≥≠≡∈∪±|=_"))
    edges = (
        text[:1] if text[:1] in "[⦃" else "",
        text[-1:] if text[-1:] in "]⦄" else "",
    )
    return edges, relations, text.count(","), "mod" in text
