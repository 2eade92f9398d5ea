"""The Countdown grader: a bounded parser, exact rationals, a multiset check; no `eval`."""

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.steps import SIGNS, Step, find_steps
from fr.types import RIGHT, UNPARSED, WRONG

ANSWER = "answer"  # the marker that stands before the final expression; forcing it asks for an answer at once

MAX_CHARACTERS = 400  # of an expression: a longer one is no answer to a game of a few numbers
MAX_DEPTH = 20  # of brackets

_BRACKETS = str.maketrans("[]", "()")
# Not `</answer>`: a closing tag starts no answer.
_MARKER = re.compile(rf"(?<!/)\b{ANSWER}\b\s*(?:is\b)?[\s:>]*", re.IGNORECASE)
_TOKEN = re.compile(r"\s*(?:([0-9]+)(?![0-9.,]*[.,][0-9])|([-+*/()=]))")


class StepCount(NamedTuple):
    """How many steps of a trace state a right and a wrong result."""

    right: int
    wrong: int


def steps(completion: str) -> list[Step]:
    """The steps of a trace, in order; expressions of the answer are none."""
    return [step for step in find_steps(completion[: _cut(completion)]) if len(step.terms) == 2]


def step_errors(completion: str) -> StepCount:
    """Counts of right and wrong steps `a op b = c`, by exact arithmetic."""
    results = [step.true for step in steps(completion)]
    return StepCount(sum(results), len(results) - sum(results))


def extract(completion: str) -> str | None:
    """The expression after the last answer marker: its line, or the next line if that one is empty."""
    start = _cut(completion)
    match = _MARKER.match(completion, start)
    if match is None:
        return None
    line = completion[match.end() : match.end() + MAX_CHARACTERS + 1].split("\n")[0]
    line = line.split("<")[0].strip().rstrip(".").strip()
    return line or None


def check(expression: str, numbers: list[int], target: int) -> str:
    """Grade an expression: right iff it uses exactly `numbers` and equals `target`; `= target` may follow."""
    if len(expression) > MAX_CHARACTERS:
        return UNPARSED
    try:
        sides = _Parser(_tokens(expression.translate(SIGNS).translate(_BRACKETS))).sides()
    except ValueError:
        return UNPARSED
    except ZeroDivisionError:
        return WRONG
    value, used = sides[0]
    fits = Counter(used) == Counter(numbers) and all(side == target for side, _ in sides)
    return RIGHT if fits and value == target else WRONG


def _cut(text: str) -> int:
    """Where the last answer marker starts; the end if there is none."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    return starts[-1] if starts else len(text)


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
        """The value of each side of `expression [= number]`."""
        first = self._sum()
        if self._peek() != "=":
            self._end()
            return [first]
        self.at += 1
        second = self._number()
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
