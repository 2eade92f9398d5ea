"""Steps of arithmetic in a text, `3 + 4 = 7`, with their exact values; no `eval`."""

import re
from fractions import Fraction
from typing import NamedTuple

# Signs that models write for the four operations.
SIGNS = str.maketrans("×·∗÷∕−–", "***//--")

_TERMS = 16  # of a left side; a longer one is noise
_DECIMALS = 6  # of a result, at most
_NUMBER = r"[$£€]?(?:\d{1,3}(?:,\d{3}){1,2}|\d{1,9})(?:\.\d{1,9})?"
_LEFT = rf"(?<![\w.$£€]){_NUMBER}(?: ?[-+*/] ?{_NUMBER}){{1,{_TERMS - 1}}} ?="
# A right side that goes on (`= 7 + 5`) is an equation, not a result. The word after a
# result is Countdown's mark.
_STEP = re.compile(
    rf"({_LEFT})( ?)({_NUMBER})"
    r"(?!\w|\.\d|,\d{3}(?!\d)| ?[-+*/] ?[$£€]?[\d(])"
    r"(?: ?(,|no\b|up\b|yes\b))?"
)
_OPEN = re.compile(rf"({_LEFT})( ?)$")
MAX_CHARACTERS = 400_000  # of a text that is searched for steps, from its beginning
_TAIL = 200  # characters that a step without its result may take


class Step(NamedTuple):
    """A step in a text; positions are characters of the text."""

    start: int  # of the left side
    equals: int  # after the equals sign
    end: int  # after the result, and after the mark if there is one
    gap: str  # between the equals sign and the result
    terms: tuple[Fraction, ...]  # numbers of the left side
    value: Fraction | None  # of the left side; None: a division by zero
    result: Fraction  # as stated
    decimals: int  # of the stated result
    mark: str  # Countdown's word after it, or ""

    @property
    def true(self) -> bool:
        """True if the result is the left side, or its rounding to the decimals."""
        if self.value is None:
            return False
        rounded = self.decimals > 0 and round(self.value, self.decimals) == self.result
        return self.value == self.result or rounded


def find_steps(text: str) -> list[Step]:
    """Find the steps of arithmetic in a text.

    Args:
        text: A completion; its first `MAX_CHARACTERS` are searched.

    Returns:
        Steps in order; left sides have no brackets.
    """
    text = text[:MAX_CHARACTERS].translate(SIGNS)
    found = []
    for match in _STEP.finditer(text):
        # no expression reaches back further than this on a line of any length
        first = max(match.start() - _TAIL, 0)
        line = text.rfind("\n", first, match.start()) + 1
        if not _ends_expression(text[max(line, first) : match.start()]):
            found.append(_step(match))
    return found


def complete_step(text: str) -> str | None:
    """True result of the step whose equals sign ends a text.

    Args:
        text: Such as `so 3 * 7 =`.

    Returns:
        The result with the spacing of the step. None where the text ends otherwise, or
        if the result needs more than six decimals.
    """
    tail = text[-_TAIL:].translate(SIGNS)
    match = _OPEN.search(tail)
    if match is None or _ends_expression(tail[: match.start()]):
        return None
    result = format_number(_value(match[1]))
    spaced = match[1].endswith(" =") and not match[2]
    return result and " " * spaced + result


def format_number(value: Fraction | None) -> str | None:
    """Write a value in decimal digits.

    Args:
        value: A rational number, or None.

    Returns:
        The digits; None where it needs more than six decimals.
    """
    if value is None or round(value, _DECIMALS) != value:
        return None
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.{_DECIMALS}f}".rstrip("0")


def _ends_expression(before: str) -> bool:
    """True if a left side only ends an expression that begins in the text before it."""
    line = before.rpartition("\n")[2]
    # A sign that starts a line is a bullet. A space after a bracket ends an expression:
    # `answer 4 * ( 6 / 6 ) 6 / 6 = 1`.
    sign = line.strip()[-1:] in tuple("+-*/^") and len(line.strip()) > 1
    return sign or line.endswith(")")


def _step(match: re.Match) -> Step:
    left, gap, stated, mark = match.groups()
    places = match.start(), match.end(1), match.end()
    decimals = len(stated.partition(".")[2])
    terms = tuple(map(_number, re.findall(_NUMBER, left)))
    return Step(
        *places, gap, terms, _value(left), _number(stated), decimals, mark or ""
    )


def _value(left: str) -> Fraction | None:
    """Value of a left side, products and quotients first; None: a division by zero."""
    first, *rest = re.split(r"([-+*/])", left.rstrip(" ="))
    sums = [_number(first)]
    for sign, text in zip(rest[::2], rest[1::2]):
        number = _number(text)
        if sign == "/" and not number:
            return None
        if sign in "*/":
            sums[-1] *= number if sign == "*" else 1 / number
        else:
            sums.append(number if sign == "+" else -number)
    return sum(sums, Fraction(0))


def _number(text: str) -> Fraction:
    return Fraction(text.strip().lstrip("$£€").replace(",", ""))
