"""Functions and variables of formulas, and comparison of expressions by numbers."""

import cmath
import math
from collections.abc import Callable, Mapping, Sequence

from fr.tasks.algebra import Atom, Expr

_POINTS = (1.6180339887, 0.5772156649, 2.2360679775)  # where formulas are compared

# name of a function or of another kind of `Atom` -> its value
FUNCTIONS: dict[str, Callable[..., complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "cot": lambda x: 1 / cmath.tan(x),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "ln": cmath.log,
    "exp": cmath.exp,
    "log": lambda x, base=10: cmath.log(x) / cmath.log(base),
    "inverse": lambda x: 1 / x,
    "power": lambda x, y: x**y,
    "root": lambda n, x: x ** (1 / n),
    "sqrt": cmath.sqrt,
}


def differs(a: Expr, b: Expr) -> bool:
    """True if two expressions differ at a point where both are defined.

    They are compared at three fixed points. Two values differ if
    |x - y| > 1e-7 (|x| + |y| + 1e-9).

    Args:
        a: An expression.
        b: Another one.

    Returns:
        False if they are equal, or if no point shows a difference.
    """
    if a.terms == b.terms:
        return False
    if a.exact and b.exact:
        return True
    variables = sorted(names(a) | names(b))
    for shift in range(len(_POINTS)):
        point: dict[str, complex] = {
            name: _POINTS[(i + shift) % len(_POINTS)] + 0.1 * i
            for i, name in enumerate(variables)
        }
        point |= {"pi": math.pi, "e": math.e, "i": 1j}
        try:
            x, y = (_evaluate(side, point) for side in (a, b))
        except (ArithmeticError, ValueError, RecursionError):
            continue
        if (
            cmath.isfinite(x)
            and cmath.isfinite(y)
            and abs(x - y) > 1e-7 * (abs(x) + abs(y) + 1e-9)
        ):
            return True
    return False


def symbols(a: Expr) -> frozenset[str]:
    """Variables of an expression, without the constants pi, e and i.

    Args:
        a: An expression.

    Returns:
        Their names.
    """
    return frozenset(names(a) - {"pi", "e", "i"})


def names(a: Expr) -> set[str]:
    """Variables and constants of an expression, arguments of functions included.

    Args:
        a: An expression.

    Returns:
        Their names.
    """
    found = set()
    for product, _ in a.terms:
        for atom, _ in product:
            if atom.kind == "symbol":
                found.add(atom.args[0])
            for part in atom.args:
                if isinstance(part, Expr):
                    found |= names(part)
    return found


def _evaluate(a: Expr, point: Mapping[str, complex]) -> complex:
    total: complex = 0
    for product, coefficient in a.terms:
        value: complex = float(coefficient)
        for atom, n in product:
            value *= _atom_value(atom, point) ** n
        total += value
    return total


def _atom_value(atom: Atom, point: Mapping[str, complex]) -> complex:
    if atom.kind == "symbol":
        return point[atom.args[0]]
    args: Sequence = [
        _evaluate(p, point) if isinstance(p, Expr) else p for p in atom.args
    ]
    return FUNCTIONS[atom.kind](*args)
