"""Values of answers, their units and their equality; numbers are exact."""

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from fr.tasks.algebra import Expr, monic, number, symbol
from fr.tasks.functions import differs

_UNORDERED = ("list", "set", "union")


class Value(NamedTuple):
    """The meaning of an answer.

    Attributes:
        kind: `expr` (a number or an expression), `list` (in no order), `set`, `union`,
            `matrix` of `row`s, `equation`, `text`, `opaque` (a formula that is not
            parsed), or an opening and a closing bracket such as `[)` for intervals and
            tuples.
        parts: Values inside.
        expr: Expression of an `expr`, or one side of an `equation`; the other is 0.
        text: Text of a `text` or an `opaque`.
        unit: Canonical name of the unit, or "".
        percent: A percent sign follows the number.
        head: The name before an equals sign, or "".
    """

    kind: str
    parts: tuple["Value", ...] = ()
    expr: Expr | None = None
    text: str = ""
    unit: str = ""
    percent: bool = False
    head: str = ""

    @property
    def number(self) -> Fraction | None:
        """The rational number, percentages as written; None for any other value."""
        return self.expr.rational if self.kind == "expr" and self.expr else None

    @property
    def key(self) -> str:
        """One text for all ways to write the value that are known to be equal."""
        if self.kind == "expr":
            return str(
                self.expr / number(100) if self.expr and self.percent else self.expr
            )
        if self.kind in ("text", "opaque"):
            return self.text
        parts = [part.key for part in self.parts]
        if self.kind in _UNORDERED:
            parts = sorted(set(parts) if self.kind == "set" else parts)
            opening, closing = "{", "}"
        elif len(self.kind) == 2:
            opening, closing = self.kind[0], self.kind[1]
        else:
            opening, closing = f"{self.kind}(", ")"
        inside = str(self.expr) if self.kind == "equation" else ", ".join(parts)
        return opening + inside + closing


def expression(expr: Expr) -> Value:
    """Value of a number or an expression.

    Args:
        expr: The expression.

    Returns:
        A value of kind `expr`.
    """
    return Value("expr", expr=expr)


def bracket(
    opening: str, closing: str, parts: tuple[Value, ...], head: str = ""
) -> Value:
    """Value of an interval or a tuple; an infinite end is open however it is written.

    Args:
        opening: The opening bracket.
        closing: The closing bracket.
        parts: Values between them.
        head: The name before an equals sign.

    Returns:
        A value whose kind is both brackets.
    """
    if len(parts) == 2:
        if "infinity" in str(parts[0].expr or ""):
            opening = "("
        if "infinity" in str(parts[1].expr or ""):
            closing = ")"
    return Value(opening + closing, parts, head=head)


def equation(left: Expr, right: Expr) -> Value:
    """Value of `left = right`, the same for all multiples of the equation.

    Args:
        left: The left side.
        right: The right side.

    Returns:
        A value of kind `equation`; its `expr` is the monic left - right.
    """
    return Value("equation", expr=monic(left - right))


def equal(a: Value, b: Value) -> bool | None:
    """Compare two values.

    Args:
        a: A value.
        b: Another one.

    Returns:
        True or False, or None where exact arithmetic and numbers do not decide.
    """
    # values of different variables
    if a.head and b.head and a.head != b.head:
        return False
    if {a.kind, b.kind} == {"expr", "equation"}:
        one, two = (
            side if side.kind == "equation" else _with_head(side) for side in (a, b)
        )
        return False if one is None or two is None else _equations(one, two)
    if "text" in (a.kind, b.kind):
        return a.kind == b.kind and a.text == b.text
    if "opaque" in (a.kind, b.kind):
        return _opaque(a, b)
    if a.kind == b.kind == "expr":
        return _expressions(a, b)
    if a.kind == b.kind == "equation":
        return _equations(a, b)
    if a.kind == "list" and len(a.parts) == 1 or b.kind == "list" and len(b.parts) == 1:
        return equal(*(_single(side) for side in (a, b)))
    if {a.kind, b.kind} <= {"list", "set"} or a.kind == b.kind == "union":
        return _unordered(a.parts, b.parts)
    if a.kind != b.kind or len(a.parts) != len(b.parts):
        return False
    return _every(equal(x, y) for x, y in zip(a.parts, b.parts))


def _single(value: Value) -> Value:
    """The only part of a list of one."""
    alone = value.kind == "list" and len(value.parts) == 1
    return value.parts[0] if alone else value


def _expressions(a: Value, b: Value) -> bool | None:
    # `unit` stands for any unit, and a missing unit does not count
    if a.unit and b.unit and a.unit != b.unit and "unit" not in (a.unit, b.unit):
        return False
    x, y = a.expr, b.expr
    assert x is not None and y is not None
    if x.terms == y.terms:
        return True
    # 50 % equals 50 and 0.5
    if a.percent != b.percent:
        x, y = (
            (x if a.percent else x * number(100)),
            (y if b.percent else y * number(100)),
        )
        return x.terms == y.terms
    return False if differs(x, y) else None


def _equations(a: Value, b: Value) -> bool | None:
    assert a.expr is not None and b.expr is not None
    if a.expr.terms == b.expr.terms:
        return True
    return False if a.expr.exact and b.expr.exact else None


def _with_head(value: Value) -> Value | None:
    """`y = 2x + 3` as an equation; None for an expression without a name."""
    if value.expr is None or len(value.head) != 1:
        return None
    return equation(symbol(value.head), value.expr)


def _opaque(a: Value, b: Value) -> bool | None:
    if a.kind == b.kind and a.text == b.text:
        return True
    other = b if a.kind == "opaque" else a
    return False if other.number is not None else None


def _unordered(a: tuple[Value, ...], b: tuple[Value, ...]) -> bool | None:
    if len(a) != len(b):
        return False
    if sorted(part.key for part in a) == sorted(part.key for part in b):
        return True
    left, unsure = list(b), False
    for part in a:
        verdicts = [equal(part, other) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _every(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return False if False in found else None if None in found else True


# canonical name of a unit -> other words for it
_UNIT_NAMES = {
    "mm": "millimeter millimeters millimetre millimetres",
    "cm": "centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "mg": "milligram milligrams",
    "g": "gram grams",
    "kg": "kilogram kilograms kgs",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "ms": "millisecond milliseconds",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "ml": "milliliter milliliters mL",
    "L": "liter liters litre litres l",
    "deg": "degree degrees",
    "rad": "radian radians",
    "K": "kelvin",
    "J": "joule joules",
    "kJ": "kilojoule kilojoules",
    "N": "newton newtons",
    "W": "watt watts",
    "V": "volt volts",
    "Hz": "hertz",
    "mph": "",
    "$": "dollar dollars usd USD bucks",
    "£": "",
    "€": "euro euros eur EUR",
    "c": "cent cents",
    "unit": "units",
}
_CANONICAL = {
    word: name for name, words in _UNIT_NAMES.items() for word in (name, *words.split())
}
_UNIT_WORD = "|".join(
    sorted(
        (re.escape(word) for word in _CANONICAL if word.isalpha()),
        key=len,
        reverse=True,
    )
)
_UNIT_POWER = r"(?:\s?\^\s?\{?[23]\}?)?"
_ONE_UNIT = (
    rf"(?:(?:square|sq\.?|cubic|cu\.?)\s)?(?:{_UNIT_WORD})\.?"
    rf"(?:\s(?:squared|cubed))?{_UNIT_POWER}"
)
_UNIT = re.compile(
    rf"(?P<unit>{_ONE_UNIT}(?:\s?(?:/|per)\s?{_ONE_UNIT}|\sper\s\w+)?)\s?$"
)
# A lone letter close to a number is a factor, not a unit.
_PLAIN_NUMBER = re.compile(
    r"[-+]?[\d.,/\s{}()^*]*(?:\\(?:frac|sqrt|pi)[\d.,/\s{}()^*\\a-z]*)*$"
)


def split_unit(text: str) -> tuple[str, str]:
    """Split a quantity into its number and its unit of measure.

    Args:
        text: For example `12 metres per second`.

    Returns:
        (text before the unit, canonical name of the unit such as `m/s`), or (text, "")
        where no unit ends the text.
    """
    match = _UNIT.search(text[-60:])
    if not match:
        return text, ""
    begin = len(text) - len(text[-60:]) + match.start()
    head = text[:begin]
    if not re.search(r"[\d)}i]\s?$", head) or not _PLAIN_NUMBER.fullmatch(head):
        return text, ""
    close = not head.endswith(" ")
    if close and len(match["unit"]) == 1:
        return text, ""
    return head.strip(), _unit_name(match["unit"])


def _unit_name(text: str) -> str:
    text = re.sub(r"\b(?:square|sq\.?) (\S+)", r"\1^2", text)
    text = re.sub(r"\b(?:cubic|cu\.?) (\S+)", r"\1^3", text)
    text = text.replace(" squared", "^2").replace(" cubed", "^3").replace(" per ", "/")
    text = re.sub(r"[\s{}.]", "", text)
    return re.sub(
        r"[A-Za-z]+", lambda m: _CANONICAL.get(m[0], m[0].removesuffix("s")), text
    )
