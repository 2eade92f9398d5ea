"""Exact algebra of answers: sums of products of rationals, symbols, pi, i and roots, in one form.

Two expressions with the same `terms` are equal. Where both are `exact`, different terms also
mean different values; elsewhere only a numerical difference does (`differs`).
"""

import cmath
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

MAX_TERMS = 200
MAX_POWER = 64  # of a sum
MAX_BITS = 4096  # of a coefficient
_TRIALS = 2000  # divisors tried to take squares out of a root
_POINTS = (1.6180339887, 0.5772156649, 2.2360679775)  # where formulas are compared


class TooLarge(ValueError):
    """A value that is not worth computing."""


class Atom(NamedTuple):
    """A factor that is not a rational: `symbol`, `sqrt`, `root`, `inverse`, `power` or a function."""

    kind: str
    args: tuple = ()


Terms = tuple[tuple[tuple[tuple[Atom, int], ...], Fraction], ...]


class Expr(NamedTuple):
    """A sum of coefficients times products of powers of atoms, sorted."""

    terms: Terms

    @property
    def rational(self) -> Fraction | None:
        """The value if it is a rational number."""
        if not self.terms:
            return Fraction(0)
        (product, coefficient), *more = self.terms
        return None if more or product else coefficient

    @property
    def exact(self) -> bool:
        """Whether different terms mean a different value."""
        known = ("symbol", "sqrt")
        return all(
            atom.kind in known for product, _ in self.terms for atom, _ in product
        )

    def __str__(self) -> str:
        if self.rational is not None:
            return str(self.rational)
        return "+".join(
            _term(product, coefficient) for product, coefficient in self.terms
        )


IMAGINARY = Atom("symbol", ("i",))


def number(value) -> Expr:
    """A rational number."""
    return _expr({(): Fraction(value)})


def symbol(name: str) -> Expr:
    """A variable or a constant such as pi."""
    return _one(Atom("symbol", (name,)))


def function(name: str, *args: Expr) -> Expr:
    """A function that is not evaluated."""
    return _one(Atom(name, args))


def add(a: Expr, b: Expr) -> Expr:
    """a + b."""
    terms = dict(a.terms)
    for product, coefficient in b.terms:
        terms[product] = terms.get(product, 0) + coefficient
    return _expr(terms)


def multiply(a: Expr, b: Expr) -> Expr:
    """a b."""
    if len(a.terms) * len(b.terms) > MAX_TERMS:
        raise TooLarge("a product of long sums")
    terms = {}
    for one, c in a.terms:
        for other, d in b.terms:
            product, factor = _joined(one + other)
            terms[product] = terms.get(product, 0) + c * d * factor
    return _expr(terms)


def negative(a: Expr) -> Expr:
    """-a."""
    return multiply(number(-1), a)


def divide(a: Expr, b: Expr) -> Expr:
    """a / b; raises ZeroDivisionError."""
    return multiply(a, _inverse(b))


def power(a: Expr, b: Expr) -> Expr:
    """a to the power b; raises TooLarge."""
    exponent = b.rational
    if exponent is None:
        return function("power", a, b)
    if exponent.denominator > 1:
        if a.rational is None or not 0 <= a.rational or exponent.denominator > 12:
            return function("power", a, b)
        return power(root(a, exponent.denominator), number(exponent.numerator))
    n = int(exponent)
    base = a.rational
    if base is not None:
        size = max(abs(base.numerator), base.denominator).bit_length()
        if size * abs(n) > MAX_BITS and abs(base) != 1 and base:
            raise TooLarge("a high power")
        return number(base ** (n if abs(base) != 1 else n % 2))
    if abs(n) > MAX_POWER:
        if len(a.terms) == 1:
            return function("power", a, b)
        raise TooLarge("a high power of a sum")
    result = number(1)
    for _ in range(abs(n)):
        result = multiply(result, a)
    return result if n >= 0 else _inverse(result)


def root(a: Expr, n: int) -> Expr:
    """The n-th root of a."""
    value = a.rational
    if value is None or value < 0 and n % 2 == 0 and n != 2 or not 2 <= n <= 12:
        return function("root", number(n), a)
    if value < 0:
        side = symbol("i") if n == 2 else number(-1)
        return multiply(side, root(number(-value), n))
    top, bottom = (
        _integer_root(part, n) for part in (value.numerator, value.denominator)
    )
    if top is not None and bottom is not None:
        return number(Fraction(top, bottom))
    if n != 2:
        return function("root", number(n), a)
    outside, inside = _square_part(value.numerator * value.denominator)
    if inside is None:
        return function("root", number(2), a)
    radical = _one(Atom("sqrt", (inside,)))
    return multiply(number(Fraction(outside, value.denominator)), radical)


def differs(a: Expr, b: Expr) -> bool:
    """Whether two expressions have different values at some point where both are defined."""
    if a.terms == b.terms:
        return False
    if a.exact and b.exact:
        return True
    names = sorted(_names(a) | _names(b))
    for shift in range(len(_POINTS)):
        point = {
            name: _POINTS[(i + shift) % len(_POINTS)] + 0.1 * i
            for i, name in enumerate(names)
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


def monic(a: Expr) -> Expr:
    """The expression divided by the coefficient of its first term."""
    return multiply(number(1 / a.terms[0][1]), a) if a.terms else a


def symbols(a: Expr) -> frozenset[str]:
    """The variables of an expression, constants left out."""
    return frozenset(_names(a) - {"pi", "e", "i"})


def _term(product, coefficient) -> str:
    factors = "*".join(
        f"{_written(atom)}^{n}" if n != 1 else _written(atom) for atom, n in product
    )
    return "*".join(
        part
        for part in (str(coefficient) * (coefficient != 1 or not factors), factors)
        if part
    )


def _written(atom: Atom) -> str:
    if atom.kind == "symbol":
        return atom.args[0]
    return f"{atom.kind}({','.join(map(str, atom.args))})"


def _one(atom: Atom) -> Expr:
    return _expr({((atom, 1),): Fraction(1)})


def _expr(terms: dict) -> Expr:
    kept = {product: c for product, c in terms.items() if c}
    if len(kept) > MAX_TERMS or any(
        c.numerator.bit_length() > MAX_BITS for c in kept.values()
    ):
        raise TooLarge("a long sum")
    if len(kept) < 2:
        return Expr(tuple(kept.items()))
    return Expr(
        tuple(sorted(kept.items(), key=lambda item: _term(item[0], Fraction(1))))
    )


@functools.lru_cache(maxsize=4096)
def _joined(factors: tuple) -> tuple[tuple, Fraction]:
    """(sorted product, rational factor) of the powers of atoms."""
    powers: dict[Atom, int] = {}
    for atom, n in factors:
        powers[atom] = powers.get(atom, 0) + n
    factor, inside = Fraction(1), 1
    for atom in [atom for atom in powers if atom.kind == "sqrt"]:
        n, radicand = powers.pop(atom), atom.args[0]
        factor *= Fraction(radicand) ** (n // 2)
        if n % 2:
            common = math.gcd(inside, radicand)
            factor, inside = factor * common, inside * radicand // common**2
    if inside != 1:
        powers[Atom("sqrt", (inside,))] = 1
    if IMAGINARY in powers:
        turns = powers.pop(IMAGINARY) % 4
        factor *= (1, 1, -1, -1)[turns]
        if turns % 2:
            powers[IMAGINARY] = 1
    kept = [(atom, n) for atom, n in powers.items() if n]
    return tuple(sorted(kept, key=lambda item: _written(item[0]))), factor


def _inverse(a: Expr) -> Expr:
    if not a.terms:
        raise ZeroDivisionError
    if len(a.terms) == 1:
        product, coefficient = a.terms[0]
        product, factor = _joined(tuple((atom, -n) for atom, n in product))
        return _expr({product: factor / coefficient})
    other = _conjugate(a)
    if other is not None:
        return multiply(other, _inverse(multiply(a, other)))
    first = a.terms[0][1]
    return multiply(number(1 / first), _one(Atom("inverse", (monic(a),))))


def _conjugate(a: Expr) -> Expr | None:
    """What makes a + b sqrt(n) or a + b i rational by multiplication."""
    atoms = {atom for product, _ in a.terms for atom, _ in product}
    if len(a.terms) != 2 or not all(
        atom.kind == "sqrt" or atom == IMAGINARY for atom in atoms
    ):
        return None
    (one, c), (other, d) = a.terms
    return _expr({one: c, other: -d} if other else {one: -c, other: d})


def _integer_root(value: int, n: int) -> int | None:
    if n == 2:
        found = math.isqrt(value)
    else:
        if value.bit_length() > 900:
            return None
        found = round(value ** (1 / n)) if value.bit_length() < 1000 else 0
    return found if found**n == value else None


@functools.lru_cache(maxsize=4096)
def _square_part(value: int) -> tuple[int, int | None]:
    """(s, r) with value = s^2 r and r without square factors; r is None where that is not known."""
    outside, inside, rest = 1, 1, value
    for divisor in range(2, _TRIALS):
        if divisor * divisor > rest:
            break
        count = 0
        while rest % divisor == 0:
            rest, count = rest // divisor, count + 1
        outside, inside = (
            outside * divisor ** (count // 2),
            inside * divisor ** (count % 2),
        )
    whole = math.isqrt(rest)
    if whole * whole == rest:
        return outside * whole, inside
    # without divisors below the limit, less than its cube is no square times something
    return outside, inside * rest if rest < _TRIALS**3 else None


def _names(a: Expr) -> set[str]:
    found = set()
    for product, _ in a.terms:
        for atom, _ in product:
            if atom.kind == "symbol":
                found.add(atom.args[0])
            for part in atom.args:
                if isinstance(part, Expr):
                    found |= _names(part)
    return found


_FUNCTIONS = {
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
NAMES = tuple(_FUNCTIONS)


def _evaluate(a: Expr, point: dict[str, complex]) -> complex:
    total: complex = 0
    for product, coefficient in a.terms:
        value: complex = float(coefficient)
        for atom, n in product:
            value *= _atom_value(atom, point) ** n
        total += value
    return total


def _atom_value(atom: Atom, point: dict[str, complex]) -> complex:
    if atom.kind == "symbol":
        return point[atom.args[0]]
    args: Sequence = [
        _evaluate(p, point) if isinstance(p, Expr) else p for p in atom.args
    ]
    return _FUNCTIONS[atom.kind](*args)
