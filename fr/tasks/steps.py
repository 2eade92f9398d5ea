"""Steps of arithmetic that a text states, `3 + 4 = 7`: where they are, what they say, what is true. No `eval`."""

import re
from fractions import Fraction
from typing import NamedTuple

# Signs that models write for the four operations.
SIGNS = str.maketrans("×·∗÷∕−–", "***//--")

_TERMS = 16  # of a left side: a longer one is noise, and its product a number that nobody states
_DECIMALS = 6  # of a result that is worth writing
_NUMBER = r"[$£€]?(?:\d{1,3}(?:,\d{3}){1,2}|\d{1,9})(?:\.\d{1,9})?"
_LEFT = rf"(?<![\w.$£€]){_NUMBER}(?: ?[-+*/] ?{_NUMBER}){{1,{_TERMS - 1}}} ?="
# A right side that goes on (`= 7 + 5`) is an equation, not a result; the word after one is Countdown's mark.
_STEP = re.compile(
    rf"({_LEFT})( ?)({_NUMBER})(?!\w|\.\d|,\d{{3}}(?!\d)| ?[-+*/] ?[$£€]?[\d(])(?: ?(,|no\b|up\b|yes\b))?"
)
_OPEN = re.compile(rf"({_LEFT})( ?)$")
MAX_CHARACTERS = 400_000  # of a text that is read for steps, from its beginning
_TAIL = 200  # characters in which a step that waits for its result is looked for


class Step(NamedTuple):
    """A step in a text; places are characters of it."""

    start: int
    equals: int  # behind the equals sign
    end: int  # behind the result, and behind the mark where there is one
    gap: str  # between the equals sign and the result
    terms: tuple[Fraction, ...]  # numbers of the left side
    value: Fraction | None  # what the left side is; None: a division by zero
    result: Fraction  # what the step states
    decimals: int  # that it states
    mark: str  # Countdown's word after it, "" if none is known

    @property
    def true(self) -> bool:
        """Whether the result is exactly that of the left side, or its rounding to the decimals that are stated."""
        if self.value is None:
            return False
        rounded = self.decimals > 0 and round(self.value, self.decimals) == self.result
        return self.value == self.result or rounded


def find_steps(text: str) -> list[Step]:
    """The steps of the first `MAX_CHARACTERS` of a text, in order; left sides have no brackets."""
    text = text[:MAX_CHARACTERS].translate(SIGNS)
    # a line of any length is looked back on only as far as an expression can reach
    back = lambda at: text[
        max(text.rfind("\n", max(at - _TAIL, 0), at) + 1, at - _TAIL, 0) : at
    ]
    return [
        _step(match)
        for match in _STEP.finditer(text)
        if not _goes_before(back(match.start()))
    ]


def completion_of(text: str) -> str | None:
    """The true result of a step whose equals sign a text ends in, spaced as that is; None without such a step.

    None too where the result takes more than six decimals.
    """
    tail = text[-_TAIL:].translate(SIGNS)
    match = _OPEN.search(tail)
    if match is None or _goes_before(tail[: match.start()]):
        return None
    result = written(_value(match[1]))
    spaced = match[1].endswith(" =") and not match[2]
    return result and " " * spaced + result


def written(value: Fraction | None) -> str | None:
    """A value in digits; None where it takes more than six decimals."""
    if value is None or round(value, _DECIMALS) != value:
        return None
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.{_DECIMALS}f}".rstrip("0")


def _goes_before(before: str) -> bool:
    """Whether the left side is only the end of an expression; a sign that starts a line is a bullet."""
    line = before.rpartition("\n")[2]
    # Brackets that a space follows are another expression, which has ended: `answer 4 * ( 6 / 6 ) 6 / 6 = 1`.
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
    """What a left side comes to, products and quotients first."""
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
    return sum(sums)


def _number(text: str) -> Fraction:
    return Fraction(text.strip().lstrip("$£€").replace(",", ""))
