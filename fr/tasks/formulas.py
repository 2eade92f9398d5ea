"""Formulas of answers, read into exact values: numbers, expressions, intervals, sets, matrices. No `eval`."""

import re

from fr.tasks import algebra
from fr.tasks.expressions import CLOSE, MAX_DEPTH, OPEN, Unread, parse_expression
from fr.tasks.units import unit_of
from fr.tasks.values import Value, bracket, equation, expression

MAX_PARTS = 60


_RELATIONS = "=<>≤≥≈≠≡∈"
_MATRIX = re.compile(
    r"\\begin\s?\{(\w*matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\s?\{\1\}", re.DOTALL
)
_MONEY = re.compile(r"([-+]?)\s?(?:US\s?)?([$£€])\s?(?=[-+.\d\\])")
# `]0, 1[` is (0, 1).
_REVERSED = re.compile(r"([\](\[])([^()\[\]⦃⦄]+)([\[)\]])")
_HEAD = re.compile(
    r"\s*([A-Za-z]'?|\\[a-z]+|[A-Za-z]\s?\(\s?[A-Za-z](?:\s?,\s?[A-Za-z])*\s?\)|[A-Za-z]_\{?\w+\}?"
    r"|(?:\\?gcd|\\?lcm|[A-Za-z])\s?\([^()=]*\))\s*"
)
# An operation between numbers that was left undone; `3*10^4` and a sign are ways to write one number.
_UNDONE = re.compile(
    r"(?<=[\w)}⦄!])\s?[-+*]\s?(?!10\s?\^)(?=[\d({\\.-])|/[^/]*/|\d\.\d+\s?/|/\s?\d*\.\d"
)


def parse(text: str) -> Value:
    """The value of a formula in the spelling of `undress.unified`; raises Unread or algebra.TooLarge."""
    return _value(text.strip(), 0)


def undone(text: str) -> bool:
    """Whether a number is written as sums or products that are left to the reader."""
    return bool(_UNDONE.search(text))


def _value(text: str, depth: int) -> Value:
    if depth > MAX_DEPTH or not text:
        raise Unread(text[:40])
    text = re.sub(r"^[=≈:] ?", "", _undollared(text).strip().rstrip(".").strip())
    while _wraps(text, "{", "}") and not _split(text[1:-1], ",")[1:]:
        text = text[1:-1].strip()
    if match := _MATRIX.fullmatch(text):
        return _matrix(match, depth)
    if (text[0] == "]" or text[-1] == "[") and (match := _REVERSED.fullmatch(text)):
        text = match[1].replace("]", "(") + match[2] + match[3].replace("[", ")")
    parts = _split(text, ",;")
    if len(parts) > 1:
        return _list(parts, depth)
    if any(sign in text for sign in _RELATIONS):
        sides, signs = _sides(text)
        if signs:
            return _related(sides, signs, depth)
    union = _split(text, "∪")
    if len(union) > 1:
        return Value("union", tuple(_value(part, depth + 1) for part in union))
    if found := _bracketed(text, depth):
        return found
    if "±" in text:
        return _both_signs(text, depth)
    return _quantity(text)


def _undollared(text: str) -> str:
    if text.count("$") >= 2 and not re.search(r"\$\s?\d[^$]*\$\s?\d", text):
        return text.replace("$", " ")
    return text


def _wraps(text: str, opening: str, closing: str) -> bool:
    """Whether one pair of brackets goes around all of a text."""
    if len(text) < 2 or text[0] not in opening or text[-1] not in closing:
        return False
    depth = 0
    for at, c in enumerate(text):
        depth += (c in OPEN) - (c in CLOSE)
        if not depth:
            return at == len(text) - 1
    return False


def _split(text: str, separators: str) -> list[str]:
    """Parts of a text between separators outside of brackets; a comma of thousands is none."""
    parts, depth, start = [], 0, 0
    words = "," in separators
    at = 0
    while at < len(text):
        c = text[at]
        depth += (c in OPEN) - (c in CLOSE)
        if not depth and c in separators and not (c == "," and _thousands(text, at)):
            parts.append(text[start:at])
            start = at + 1
        elif not depth and words and c == " ":
            if match := re.match(r" (?:and|or|und|oder) ", text[at : at + 7]):
                parts.append(text[start:at])
                start = at + match.end()
                at = start - 1
                continue
        at += 1
    parts = [part.strip() for part in (*parts, text[start:])]
    # `3, 4, and 5` has an empty part before the word
    kept = [
        part
        for i, part in enumerate(parts)
        if part or not words or i in (0, len(parts) - 1)
    ]
    if len(kept) > MAX_PARTS:
        raise Unread("a long list")
    return [re.sub(r"^(?:and|or) ", "", part) for part in kept] if words else kept


def _thousands(text: str, at: int) -> bool:
    before = re.search(r"(?<![\d.])\d{1,3}(?:,\d{3})*$", text[max(0, at - 40) : at])
    return bool(before and re.match(r"\d{3}(?!\d)", text[at + 1 : at + 5]))


def _sides(text: str) -> tuple[list[str], list[str]]:
    sides, signs, depth, start = [], [], 0, 0
    for at, c in enumerate(text):
        depth += (c in OPEN) - (c in CLOSE)
        if not depth and c in _RELATIONS:
            sides.append(text[start:at].strip())
            signs.append(c)
            start = at + 1
    return [*sides, text[start:].strip()], signs


def _list(parts: list[str], depth: int) -> Value:
    values = [_value(part, depth + 1) for part in parts]
    if all(
        "=" in part and not value.head and value.number is not None
        for part, value in zip(parts, values)
    ):
        return values[-1]  # a calculation in several steps
    heads = {value.head for value in values[1:]} | {values[0].head}
    if (
        heads == {values[0].head}
        or heads == {values[0].head, ""}
        and not any(v.head for v in values[1:])
    ):
        values = [value._replace(head="") for value in values]
        return Value("list", _flat(values), head=next(iter(heads - {""}), ""))
    return Value("list", _flat(values))


def _flat(values: list[Value]) -> tuple[Value, ...]:
    """`1 ± 2, 5` is one list."""
    return tuple(
        part
        for v in values
        for part in (v.parts if v.kind == "list" and not v.head else (v,))
    )


def _related(sides: list[str], signs: list[str], depth: int) -> Value:
    if set(signs) <= {"=", "≈"}:
        if "≈" in signs:
            # what stands before the first rounding is the exact value, if it is more than a name
            first = sides[: signs.index("≈") + 1]
            sides = sides if len(first) == 1 and _HEAD.fullmatch(first[0]) else first
        return _equal(sides, depth)
    if signs == ["∈"]:
        return _value(sides[1], depth + 1)._replace(head=_head(sides[0]))
    if (
        len(signs) <= 2
        and set(signs) <= set("<≤")
        or set(signs) <= set(">≥")
        and len(signs) <= 2
    ):
        return _inequality(sides, signs, depth)
    raise Unread("relations")


def _equal(sides: list[str], depth: int) -> Value:
    """`x = 4` and `3 + 1 = 4` are 4; an equation in several variables is one."""
    last = _value(sides[-1], depth + 1)
    if len(sides) == 1:
        return last
    if _HEAD.fullmatch(sides[0]):
        return last._replace(head=_head(sides[0]))
    first = _value(sides[0], depth + 1)
    if first.kind != "expr" or last.kind != "expr":
        # (x, y) = (3, 4)
        if all(part.expr and algebra.symbols(part.expr) for part in first.parts):
            return last
        raise Unread("an equation of other values")
    if not algebra.symbols(first.expr):
        if algebra.symbols(last.expr) and len(sides) == 2 and _HEAD.fullmatch(sides[1]):
            return first._replace(head=_head(sides[1]))
        return last
    return equation(first.expr, last.expr)


def _inequality(sides: list[str], signs: list[str], depth: int) -> Value:
    """`0 ≤ x < 1` is [0, 1), and `x > 3` is (3, ∞), of the variable x."""
    if signs[0] in ">≥":
        sides, signs = sides[::-1], [{">": "<", "≥": "≤"}[sign] for sign in signs[::-1]]
    values = [_value(side, depth + 1) for side in sides]
    if any(value.kind != "expr" for value in values):
        raise Unread("an inequality of other values")
    infinite = expression(algebra.symbol("infinity"))
    if len(sides) == 2:
        low, high = values
        if _HEAD.fullmatch(sides[0]):
            minus = expression(algebra.negative(infinite.expr))
            return bracket(
                "(", ")" if signs[0] == "<" else "]", (minus, high), _head(sides[0])
            )
        if _HEAD.fullmatch(sides[1]):
            return bracket(
                "(" if signs[0] == "<" else "[", ")", (low, infinite), _head(sides[1])
            )
        raise Unread("an inequality of formulas")
    if not _HEAD.fullmatch(sides[1]):
        raise Unread("an inequality of formulas")
    opening, closing = "(" if signs[0] == "<" else "[", ")" if signs[1] == "<" else "]"
    return bracket(opening, closing, (values[0], values[2]), _head(sides[1]))


def _head(text: str) -> str:
    return re.sub(r"[\s{}]", "", text)


def _bracketed(text: str, depth: int) -> Value | None:
    if _wraps(text, "⦃{", "⦄}"):
        inside = text[1:-1].strip()
        if "|" in inside or ":" in inside:
            raise Unread("a set by its rule")
        if not inside:
            return Value("set", ())
        value = _value(inside, depth + 1)
        return Value("set", value.parts if value.kind == "list" else (value,))
    if not _wraps(text, "([", ")]"):
        return None
    parts = _split_inside(text[1:-1])
    if (
        len(parts) == 1
        and "\\begin" in parts[0]
        and (inside := _value(parts[0], depth + 1)).kind == "matrix"
    ):
        return inside  # brackets around an array
    if len(parts) == 1 and text[0] == "(" and text[-1] == ")":
        inside = _value(parts[0], depth + 1)
        return (
            inside if inside.kind != "expr" or inside.unit or inside.percent else None
        )
    return bracket(text[0], text[-1], tuple(_value(part, depth + 1) for part in parts))


def _split_inside(text: str) -> list[str]:
    """Parts between brackets, where a comma of thousands needs other commas with blanks, or is none."""
    parts = _split(text, ",;")
    if len(parts) > 1:
        return parts
    tight = text.split(",")
    grouped = len(tight) > 1 and not any(
        part.strip().startswith("0") for part in tight[1:]
    )
    return (
        [part.strip() for part in tight]
        if grouped and not re.search(r"[(\[{]", text)
        else parts
    )


def _both_signs(text: str, depth: int) -> Value:
    if text.count("±") > 1:
        raise Unread("several double signs")
    values = [_value(text.replace("±", sign), depth + 1) for sign in "+-"]
    return Value("list", tuple(values))


def _matrix(match: re.Match, depth: int) -> Value:
    rows = [
        row
        for row in re.split(r"⏎(?:\[[^\]]*\])?", match[2].replace("\\hline", ""))
        if row.strip()
    ]
    cells = tuple(
        Value("row", tuple(_value(cell.strip(), depth + 1) for cell in row.split("&")))
        for row in rows
    )
    if not cells or sum(len(row.parts) for row in cells) > MAX_PARTS:
        raise Unread("a matrix")
    kind = (
        "matrix"
        if match[1] in ("matrix", "pmatrix", "bmatrix", "array", "smallmatrix")
        else match[1]
    )
    return Value(kind, cells)


def _quantity(text: str) -> Value:
    """An expression with its sign of money, percent sign or unit."""
    money = _MONEY.match(text)
    if money:
        text = money[1] + text[money.end() :]
    percent = False
    text = text.strip()
    if match := re.search(r"\s?(?:%|percent|per cent)$", text):
        text, percent = text[: match.start()], True
    unit = money[2] if money else ""
    if not unit and re.search(r"[\d.)}] ?[$£€]$", text):
        text, unit = text[:-1].strip(), text[-1]
    head, named = unit_of(text)
    if named:
        text, unit = head, named
    return Value("expr", expr=parse_expression(text), unit=unit, percent=percent)
