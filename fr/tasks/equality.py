"""When two answers are the same: exact values first, math-verify for formulas that these leave open, words last."""

import functools
import re

from fr.bounded import Bounded, GraderFailure, OutOfTime
from fr.tasks.claims import read, words
from fr.tasks.undress import plain, unified
from fr.tasks.values import equal

SECONDS = 2.0  # of processor time for math-verify to compare two formulas
MAX_FORMULA = 1000  # characters; math-verify is not asked about a longer one
# Numbers that nobody computes: towers of powers, long exponents, factorials of large numbers.
_ENDLESS = re.compile(r"\^\{?\(?\d+\}?\^|\d\^\{?\(?\d{4,}|\d{4,}!|!!|\d{300}")


def same(reference: str, answer: str, whole: bool = False) -> bool:
    """Whether a stated answer means what a reference does.

    Args:
      reference: the right answer as it is written.
      answer: a stated answer as it is written.
      whole: the answer stood without a marker (`claims.read`).

    Raises:
      GraderFailure: math-verify was needed and cannot run.
    """
    one, other = _tight(reference), _tight(answer)
    if one == other:
        return True
    wanted, stated = read(reference), read(answer, whole)
    if wanted.kind == "text" or read(reference, True).kind == "text":
        return words(reference)[0] in words(answer)
    if wanted.kind == "opaque" and not re.search(r"[\\()\[\]{}|]", reference):
        if words(reference)[0] in words(answer):  # a date or a time
            return True
    verdict = equal(wanted, stated)
    return _asked(one, other) if verdict is None else verdict


def same_formulas(one: str, other: str) -> bool:
    """Whether two formulas that exact arithmetic cannot tell apart are equal; False where math-verify fails."""
    if equal(read(one), read(other)) is not None:
        return False
    try:
        return _asked(_tight(one), _tight(other))
    except GraderFailure:
        return False


def _tight(text: str) -> str:
    # A blank between digits is kept: `3 4/5` is not `34/5`.
    return re.sub(
        r"(?<!\d) | (?!\d)", "", unified(plain(text)).replace("$", "")
    ).rstrip(".")


def _asked(reference: str, answer: str) -> bool:
    """What math-verify says of two formulas of the same outer form, in bounded time."""
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
        return False  # what nobody can compute in time is not shown to be right


@functools.lru_cache(maxsize=4096)
def _verdict(one: str, other: str) -> bool:
    return bool(_verifier().call(one, other))


@functools.cache
def _verifier() -> Bounded:
    return Bounded("fr.tasks.latex:equivalent", SECONDS)


def _form(text: str) -> tuple:
    """Brackets at the edges, relations, commas and constructions that math-verify sees through too easily."""
    text = text.replace("log_", "log")  # a base of a logarithm is none of a number
    relations = tuple(sorted(c for c in text if c in "<>≤≥≠≡∈∪±|=_"))
    edges = (
        text[:1] if text[:1] in "[⦃" else "",
        text[-1:] if text[-1:] in "]⦄" else "",
    )
    return edges, relations, text.count(","), "mod" in text
