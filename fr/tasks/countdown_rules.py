"""The Countdown grader: a bounded parser, exact rationals, a multiset check; no `eval`.

The game's own traces write `( 10 - 3 ) * 7`; chat models write the same in LaTeX, with `x` or without a
sign before a bracket, and with the target on either side.
"""

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.extract import ANSWER, EXPRESSION, Found, find
from fr.tasks.steps import Step, find_steps
from fr.tasks.undress import plain, unified
from fr.types import RIGHT, UNPARSED, WRONG

MAX_CHARACTERS = (
    400  # of an expression: a longer one is no answer to a game of a few numbers
)
MAX_DEPTH = 20  # of brackets

_FRACTION = re.compile(r"\\frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_TIMES = re.compile(r"(?<=[\d)\]}])\s*[xX]\s*(?=[\d(\[{])")
_BESIDE = re.compile(
    r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)"
)  # a product without its sign
_PROSE = re.compile(
    r"(?<=[\d)\]}])\s*[,.;]?\s+(?!(?:or|and|not|but|mod)\b)[A-Za-z]{2,}.*$|(?<=[\d)\]}])[,.;](?!\d).*$"
)
_BRACKETS = str.maketrans("[]{}", "()()")
_TOKEN = re.compile(r"\s*(?:([0-9]+)(?![0-9.,]*[.,][0-9])|([-+*/()=]))")


__all__ = [
    "ANSWER",
    "StepCount",
    "check",
    "extract",
    "spaced",
    "step_errors",
    "steps",
    "tidy",
]


class StepCount(NamedTuple):
    """How many steps of a trace state a right and a wrong result."""

    right: int
    wrong: int


def steps(completion: str) -> list[Step]:
    """The steps of a trace, in order; expressions of the answer are none."""
    found = find(completion, EXPRESSION)
    reasoning = completion[: found.start] if found else completion
    return [step for step in find_steps(reasoning) if len(step.terms) == 2]


def step_errors(completion: str) -> StepCount:
    """Counts of right and wrong steps `a op b = c`, by exact arithmetic."""
    results = [step.true for step in steps(completion)]
    return StepCount(sum(results), len(results) - sum(results))


def extract(completion: str) -> str | None:
    """The expression that a completion ends with (`extract.find`), in the game's own signs; None without one."""
    found: Found | None = find(completion, EXPRESSION)
    return tidy(found.text) or None if found else None


def tidy(text: str) -> str:
    """An expression in the game's own signs: no LaTeX, round brackets, every product with its sign."""
    if len(text) > 2 * MAX_CHARACTERS:
        return text[: 2 * MAX_CHARACTERS]
    text = unified(plain(text)).replace("$", "").strip()
    for _ in range(MAX_DEPTH):
        text, count = _FRACTION.subn(r"((\1)/(\2))", text)
        if not count:
            break
    text = _PROSE.sub("", text.rstrip(" .")).translate(_BRACKETS)
    return _BESIDE.sub(" * ", _TIMES.sub(" * ", text)).strip()


def spaced(expression: str) -> str:
    """An expression with one space between its parts, as the game writes it."""
    try:
        return " ".join(_tokens(expression))
    except ValueError:
        return " ".join(expression.split())


def check(expression: str, numbers: list[int], target: int) -> str:
    """Grade an expression: right iff it uses exactly `numbers` and equals `target`.

    `= target` may follow it, or `target =` go before it.
    """
    if len(expression) > MAX_CHARACTERS:
        return UNPARSED
    try:
        sides = _Parser(_tokens(tidy(expression))).sides()
    except ValueError:
        return UNPARSED
    except ZeroDivisionError:
        return WRONG
    if len(sides) == 2 and len(sides[0][1]) == 1 and len(sides[1][1]) > 1:
        sides = sides[::-1]
    value, used = sides[0]
    if len(sides) == 2 and len(sides[1][1]) > 1:
        return UNPARSED  # an equation of two expressions is no answer
    fits = Counter(used) == Counter(numbers) and all(
        side == target for side, _ in sides
    )
    return RIGHT if fits and value == target else WRONG


def _apply(left: Fraction, op: str, right: Fraction) -> Fraction | None:
    if op == "/":
        return left / right if right else None
    return {"+": left + right, "-": left - right, "*": left * right}[op]


def _tokens(text: str) -> list[str]:
    text, tokens, at = text.rstrip(), [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(text[at])
        tokens.append(match.group(1) or match.group(2))
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent; a value comes with the list of numbers that it used."""

    def __init__(self, tokens: list[str]):
        self.tokens, self.at, self.depth = tokens, 0, 0

    def sides(self):
        """The value of each side of an expression with or without an equals sign."""
        first = self._sum()
        if self._peek() != "=":
            self._end()
            return [first]
        self.at += 1
        second = self._sum()
        self._end()
        return [first, second]

    def _end(self):
        if self.at != len(self.tokens):
            raise ValueError("text after the expression")

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def _chain(self, part, ops: str):
        value, used = part()
        while self._peek() and self._peek() in ops:
            op = self._take()
            other, more = part()
            value, used = _apply(value, op, other), used + more
            if value is None:
                raise ZeroDivisionError
        return value, used

    def _sum(self):
        return self._chain(self._product, "+-")

    def _product(self):
        return self._chain(self._atom, "*/")

    def _number(self):
        word = self._take()
        if not word.isdigit() or len(word) > 9:
            raise ValueError(word)
        return Fraction(int(word)), [int(word)]

    def _atom(self):
        if self._peek() != "(":
            return self._number()
        self.at, self.depth = self.at + 1, self.depth + 1
        if self.depth > MAX_DEPTH:
            raise ValueError("too deep")
        inside = self._sum()
        if self._take() != ")":
            raise ValueError("bracket")
        self.depth -= 1
        return inside
