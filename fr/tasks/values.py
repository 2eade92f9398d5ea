"""Values of answers and their equality: brackets and parts decide, numbers are exact."""

from typing import NamedTuple

from fr.tasks import algebra
from fr.tasks.algebra import Expr

_UNORDERED = ("list", "set", "union")


class Value(NamedTuple):
    """What an answer means.

    kind: `expr` (a number or an expression), `list` (in no order), `set`, `union`, `matrix` of
    `row`s, `equation`, `text`, `opaque` (a formula that is not read here), or an opening and a
    closing bracket such as `[)` for intervals and tuples.
    """

    kind: str
    parts: tuple["Value", ...] = ()
    expr: Expr | None = None
    text: str = ""
    unit: str = ""
    percent: bool = False
    head: str = ""  # the name before an equals sign

    @property
    def number(self):
        """The rational number, percentages as they are written; None for anything else."""
        return self.expr.rational if self.kind == "expr" else None

    @property
    def key(self) -> str:
        """One text for all ways to write the value that are known to be equal."""
        if self.kind == "expr":
            exact = (
                algebra.divide(self.expr, algebra.number(100))
                if self.percent
                else self.expr
            )
            return str(exact)
        if self.kind in ("text", "opaque"):
            return self.text
        parts = [part.key for part in self.parts]
        if self.kind in _UNORDERED:
            parts = sorted(set(parts) if self.kind == "set" else parts)
            opening, closing = "{", "}"
        elif len(self.kind) == 2:
            opening, closing = self.kind
        else:
            opening, closing = f"{self.kind}(", ")"
        inside = str(self.expr) if self.kind == "equation" else ", ".join(parts)
        return opening + inside + closing


def expression(expr: Expr) -> Value:
    """A number or an expression."""
    return Value("expr", expr=expr)


def bracket(
    opening: str, closing: str, parts: tuple[Value, ...], head: str = ""
) -> Value:
    """An interval or a tuple; an end at infinity is open however it is written."""
    if len(parts) == 2:
        if "infinity" in str(parts[0].expr or ""):
            opening = "("
        if "infinity" in str(parts[1].expr or ""):
            closing = ")"
    return Value(opening + closing, parts, head=head)


def equation(left: Expr, right: Expr) -> Value:
    """`left = right` with all on one side, up to a factor."""
    return Value(
        "equation", expr=algebra.monic(algebra.add(left, algebra.negative(right)))
    )


def equal(a: Value, b: Value) -> bool | None:
    """Whether two values are the same; None where that is not decided here."""
    if a.head and b.head and a.head != b.head:
        return False
    if {a.kind, b.kind} == {"expr", "equation"}:
        return _equations(
            *(side if side.kind == "equation" else _with_head(side) for side in (a, b))
        )
    if "text" in (a.kind, b.kind):
        return a.kind == b.kind and a.text == b.text
    if "opaque" in (a.kind, b.kind):
        return _opaque(a, b)
    if a.kind == b.kind == "expr":
        return _expressions(a, b)
    if a.kind == b.kind == "equation":
        return _equations(a, b)
    if a.kind == "list" and len(a.parts) == 1 or b.kind == "list" and len(b.parts) == 1:
        return equal(
            *(
                side.parts[0] if side.kind == "list" and len(side.parts) == 1 else side
                for side in (a, b)
            )
        )
    if {a.kind, b.kind} <= {"list", "set"} or a.kind == b.kind == "union":
        return _unordered(a.parts, b.parts)
    if a.kind != b.kind or len(a.parts) != len(b.parts):
        return False
    return _every(equal(x, y) for x, y in zip(a.parts, b.parts))


def _expressions(a: Value, b: Value) -> bool | None:
    if a.unit and b.unit and a.unit != b.unit and "unit" not in (a.unit, b.unit):
        return False
    if a.expr.terms == b.expr.terms:
        return True
    if a.percent != b.percent:
        hundred = algebra.number(100)
        x, y = (
            side.expr if side.percent else algebra.multiply(side.expr, hundred)
            for side in (a, b)
        )
        return x.terms == y.terms
    return False if algebra.differs(a.expr, b.expr) else None


def _equations(a: Value | None, b: Value | None) -> bool | None:
    if a is None or b is None:
        return False
    if a.expr.terms == b.expr.terms:
        return True
    return False if a.expr.exact and b.expr.exact else None


def _with_head(value: Value) -> Value | None:
    """`y = 2x + 3` as an equation; None for an expression without a name."""
    name = value.head
    return equation(algebra.symbol(name), value.expr) if len(name) == 1 else None


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


def _every(verdicts) -> bool | None:
    found = list(verdicts)
    return False if False in found else None if None in found else True
