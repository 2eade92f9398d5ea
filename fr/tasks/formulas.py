"""Formulas of answers, parsed into exact values; no `eval`.

Numbers, expressions, equations, inequalities, intervals, tuples, lists, sets, matrices.
"""

import re

from fr.tasks.algebra import symbol
from fr.tasks.expressions import CLOSE, MAX_DEPTH, OPEN, Unread, parse_expression
from fr.tasks.functions import symbols
from fr.tasks.values import Value, bracket, equation, expression, split_unit

MAX_PARTS = 60  # of a list, or cells of a matrix
_RELATIONS = "=<>≤≥≈≠≡∈"
_MATRIX = re.compile(
    r"\\begin\s?\{(\w*matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\s?\{\1\}", re.DOTALL
)
_MONEY = re.compile(r"([-+]?)\s?(?:US\s?)?([$£€])\s?(?=[-+.\d\\])")
# `]0, 1[` is (0, 1).
_REVERSED = re.compile(r"([\](\[])([^()\[\]⦃⦄]+)([\[)\]])")
_HEAD = re.compile(
    r"\s*([A-Za-z]'?|\\[a-z]+|[A-Za-z]\s?\(\s?[A-Za-z](?:\s?,\s?[A-Za-z])*\s?\)"
    r"|[A-Za-z]_\{?\w+\}?|(?:\\?gcd|\\?lcm|[A-Za-z])\s?\([^()=]*\))\s*"
)
# An operation between numbers. `3*10^4` and a sign are ways to write one number.
_OPERATION = re.compile(
    r"(?<=[\w)}⦄!])\s?[-+*]\s?(?!10\s?\^)(?=[\d({\\.-])|/[^/]*/"
    r"|\d\.\d+\s?/|/\s?\d*\.\d"
)


def parse_formula(text: str) -> Value:
    """Parse a formula.

    Args:
        text: In the notation of `normalise.unify_notation`.

    Returns:
        Its value. Any other text raises Unread, a value that is too large
        TooLarge.
    """
    return _value(text.strip(), 0)


def has_open_operation(text: str) -> bool:
    """True if a number is written as a sum or product that was not computed.

    Args:
        text: A formula, such as `3 + 4`.

    Returns:
        True or False.
    """
    return bool(_OPERATION.search(text))


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
    # from the loosest to the tightest sign: commas, relations, unions, brackets
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
    """True if one pair of brackets goes around all of a text."""
    if len(text) < 2 or text[0] not in opening or text[-1] not in closing:
        return False
    depth = 0
    for at, c in enumerate(text):
        depth += (c in OPEN) - (c in CLOSE)
        if not depth:
            return at == len(text) - 1
    return False


def _split(text: str, separators: str) -> list[str]:
    """Parts between separators outside of brackets, commas of thousands kept."""
    parts: list[str] = []
    depth = start = 0
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
    sides: list[str] = []
    signs: list[str] = []
    depth = start = 0
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
            # the exact value comes before the first rounding, if it is more than a name
            first = sides[: signs.index("≈") + 1]
            sides = sides if len(first) == 1 and _HEAD.fullmatch(first[0]) else first
        return _equal(sides, depth)
    if signs == ["∈"]:
        return _value(sides[1], depth + 1)._replace(head=_head(sides[0]))
    one_way = set(signs) <= set("<≤") or set(signs) <= set(">≥")
    if len(signs) <= 2 and one_way:
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
    if first.expr is None or last.expr is None or {first.kind, last.kind} != {"expr"}:
        # (x, y) = (3, 4)
        if all(part.expr and symbols(part.expr) for part in first.parts):
            return last
        raise Unread("an equation of other values")
    if not symbols(first.expr):
        if symbols(last.expr) and len(sides) == 2 and _HEAD.fullmatch(sides[1]):
            return first._replace(head=_head(sides[1]))
        return last
    return equation(first.expr, last.expr)


def _inequality(sides: list[str], signs: list[str], depth: int) -> Value:
    """`0 ≤ x < 1` is [0, 1), and `x > 3` is (3, ∞), of the variable x."""
    if signs[0] in ">≥":
        sides = sides[::-1]
        signs = [{">": "<", "≥": "≤"}[sign] for sign in signs[::-1]]
    values = [_value(side, depth + 1) for side in sides]
    if any(value.kind != "expr" for value in values):
        raise Unread("an inequality of other values")
    infinite = symbol("infinity")
    if len(sides) == 2:
        low, high = values
        if _HEAD.fullmatch(sides[0]):
            closing = ")" if signs[0] == "<" else "]"
            return bracket("(", closing, (expression(-infinite), high), _head(sides[0]))
        if _HEAD.fullmatch(sides[1]):
            opening = "(" if signs[0] == "<" else "["
            return bracket(opening, ")", (low, expression(infinite)), _head(sides[1]))
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
    if len(parts) == 1 and "\\begin" in parts[0]:
        value = _value(parts[0], depth + 1)
        if value.kind == "matrix":
            return value  # brackets around an array
    if len(parts) == 1 and text[0] == "(" and text[-1] == ")":
        value = _value(parts[0], depth + 1)
        compound = value.kind != "expr" or value.unit or value.percent
        return value if compound else None
    return bracket(text[0], text[-1], tuple(_value(part, depth + 1) for part in parts))


def _split_inside(text: str) -> list[str]:
    """Parts between brackets; `(1,234)` has two, unless other commas have blanks."""
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
    head, named = split_unit(text)
    if named:
        text, unit = head, named
    return Value("expr", expr=parse_expression(text), unit=unit, percent=percent)
