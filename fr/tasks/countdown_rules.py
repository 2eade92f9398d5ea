"""The Countdown grader: a bounded parser, exact rationals, a multiset check; no `eval`.

The game's own traces write `( 10 - 3 ) * 7`. Chat models write the same in LaTeX, with
`x` or without a sign before a bracket, and with the target on either side.
"""

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.extract import find_answer
from fr.tasks.markers import EXPRESSION
from fr.tasks.normalise import strip_markup, unify_notation
from fr.tasks.steps import Step, find_steps
from fr.types import RIGHT, UNPARSED, WRONG

MAX_CHARACTERS = 400  # of an expression; no game of a few numbers needs a longer one
MAX_DEPTH = 20  # of brackets

_FRACTION = re.compile(r"\\frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_TIMES = re.compile(r"(?<=[\d)\]}])\s*[xX]\s*(?=[\d(\[{])")
# a product without its sign
_BESIDE = re.compile(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)")
_PROSE = re.compile(
    r"(?<=[\d)\]}])\s*[,.;]?\s+(?!(?:or|and|not|but|mod)\b)[A-Za-z]{2,}.*$"
    r"|(?<=[\d)\]}])[,.;](?!\d).*$"
)
_BRACKETS = str.maketrans("[]{}", "()()")
_TOKEN = re.compile(r"\s*(?:([0-9]+)(?![0-9.,]*[.,][0-9])|([-+*/()=]))")

# the value of an expression and the numbers that it uses
_Valued = tuple[Fraction, list[int]]


class StepCount(NamedTuple):
    """Counts of the steps of a trace by their results."""

    right: int  # steps with a right result
    wrong: int  # steps with a wrong result


def trace_steps(completion: str) -> list[Step]:
    """Steps of a trace, expressions of the answer left out.

    Args:
        completion: New text of an attempt.

    Returns:
        Steps of two numbers, in order.
    """
    found = find_answer(completion, EXPRESSION)
    reasoning = completion[: found.start] if found else completion
    return [step for step in find_steps(reasoning) if len(step.terms) == 2]


def step_errors(completion: str) -> StepCount:
    """Count right and wrong steps `a op b = c`, by exact arithmetic.

    Args:
        completion: New text of an attempt.

    Returns:
        Both counts.
    """
    results = [step.true for step in trace_steps(completion)]
    return StepCount(sum(results), len(results) - sum(results))


def extract_expression(completion: str) -> str | None:
    """Expression that a completion ends with.

    Args:
        completion: New text of an attempt.

    Returns:
        The expression in the game's own signs: no LaTeX, round brackets, a sign in
        every product. None without an answer.
    """
    found = find_answer(completion, EXPRESSION)
    return _normalise_expression(found.text) or None if found else None


def _normalise_expression(text: str) -> str:
    """An expression in the game's own signs: no LaTeX, round brackets, every `*`."""
    if len(text) > 2 * MAX_CHARACTERS:
        return text[: 2 * MAX_CHARACTERS]
    text = unify_notation(strip_markup(text)).replace("$", "").strip()
    # from the inside out: the pattern has no braces inside braces
    for _ in range(MAX_DEPTH):
        text, count = _FRACTION.subn(r"((\1)/(\2))", text)
        if not count:
            break
    text = _PROSE.sub("", text.rstrip(" .")).translate(_BRACKETS)
    return _BESIDE.sub(" * ", _TIMES.sub(" * ", text)).strip()


def space_expression(expression: str) -> str:
    """Write an expression with one space between its parts, as the game does.

    Args:
        expression: An expression in the game's own signs, or another text.

    Returns:
        The spaced expression.
    """
    try:
        return " ".join(_tokens(expression))
    except ValueError:
        return " ".join(expression.split())


def grade_expression(expression: str, numbers: list[int], target: int) -> str:
    """Grade an expression: right iff it uses exactly `numbers` and equals `target`.

    `= target` may follow it, or `target =` precede it.

    Args:
        expression: In the game's own signs or in LaTeX.
        numbers: The numbers of the problem, each to be used once.
        target: The number to reach.

    Returns:
        `right`, `wrong` or `unparsed`.
    """
    if len(expression) > MAX_CHARACTERS:
        return UNPARSED
    try:
        sides = _Parser(_tokens(_normalise_expression(expression))).sides()
    except ValueError:
        return UNPARSED
    except ZeroDivisionError:
        return WRONG
    # the side of a single number is the target, in either order
    if len(sides) == 2 and len(sides[0][1]) == 1 and len(sides[1][1]) > 1:
        sides = sides[::-1]
    value, used = sides[0]
    if len(sides) == 2 and len(sides[1][1]) > 1:
        return UNPARSED  # an equation of two expressions
    fits = Counter(used) == Counter(numbers) and all(
        side == target for side, _ in sides
    )
    return RIGHT if fits and value == target else WRONG


def expression_value(expression: str) -> Fraction | None:
    """Value of an expression; of an equation, of its first side with several numbers.

    Args:
        expression: In the game's own signs or in LaTeX.

    Returns:
        The exact value; None if it cannot be read or divides by zero.
    """
    if len(expression) > MAX_CHARACTERS:
        return None
    try:
        sides = _Parser(_tokens(_normalise_expression(expression))).sides()
    except (ValueError, ZeroDivisionError):
        return None
    return max(sides, key=lambda side: len(side[1]))[0]


def _apply(left: Fraction, op: str, right: Fraction) -> Fraction:
    if op == "/":
        return left / right
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

    def sides(self) -> list[_Valued]:
        """The value of each side of an expression with or without an equals sign."""
        first = self._sum()
        if self._peek() != "=":
            self._end()
            return [first]
        self.at += 1
        second = self._sum()
        self._end()
        return [first, second]

    def _end(self) -> None:
        if self.at != len(self.tokens):
            raise ValueError("text after the expression")

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def _chain(self, part: Callable[[], _Valued], ops: str) -> _Valued:
        value, used = part()
        while self._peek() and self._peek() in ops:
            op = self._take()
            other, more = part()
            value, used = _apply(value, op, other), used + more
        return value, used

    def _sum(self) -> _Valued:
        return self._chain(self._product, "+-")

    def _product(self) -> _Valued:
        return self._chain(self._atom, "*/")

    def _number(self) -> _Valued:
        word = self._take()
        if not word.isdigit() or len(word) > 9:
            raise ValueError(word)
        return Fraction(int(word)), [int(word)]

    def _atom(self) -> _Valued:
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
