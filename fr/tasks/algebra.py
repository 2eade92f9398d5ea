"""Exact algebra of answers: sums of products of rationals, symbols and roots.

Sums have one sorted form, so two expressions with the same `terms` are equal. If both
are `exact`, different terms also mean different values. For other expressions only a
numerical comparison shows a difference (`fr.tasks.functions.differs`).
"""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import NamedTuple

MAX_TERMS = 200
MAX_POWER = 64  # of a sum
MAX_BITS = 4096  # of a coefficient
_TRIALS = 2000  # divisors tried to take squares out of a root


class TooLarge(ValueError):
    """A value that is too large to be computed."""


class Atom(NamedTuple):
    """A factor that is not a rational.

    Attributes:
        kind: `symbol`, `sqrt`, `root`, `inverse`, `power` or the name of a function.
        args: The symbol's name, the integer under the root, or `Expr` arguments.
    """

    kind: str
    args: tuple = ()


Product = tuple[tuple[Atom, int], ...]  # atoms with their powers, sorted
Terms = tuple[tuple[Product, Fraction], ...]


@dataclasses.dataclass(frozen=True)
class Expr:
    """A sum of coefficients times products of powers of atoms.

    The operators raise TooLarge for a sum or coefficient above the limits. Division
    raises ZeroDivisionError.
    """

    terms: Terms  # (product, coefficient) of each term, sorted; no coefficient is 0

    @property
    def rational(self) -> Fraction | None:
        """The value if it is a rational number, else None."""
        if not self.terms:
            return Fraction(0)
        (product, coefficient), *more = self.terms
        return None if more or product else coefficient

    @property
    def exact(self) -> bool:
        """True if different terms mean a different value."""
        known = ("symbol", "sqrt")
        return all(
            atom.kind in known for product, _ in self.terms for atom, _ in product
        )

    def __add__(self, other: "Expr") -> "Expr":
        terms = dict(self.terms)
        for product, coefficient in other.terms:
            terms[product] = terms.get(product, 0) + coefficient
        return _expr(terms)

    def __mul__(self, other: "Expr") -> "Expr":
        if len(self.terms) * len(other.terms) > MAX_TERMS:
            raise TooLarge("a product of long sums")
        terms: dict[Product, Fraction] = {}
        for one, c in self.terms:
            for two, d in other.terms:
                product, factor = _joined(one + two)
                terms[product] = terms.get(product, 0) + c * d * factor
        return _expr(terms)

    def __neg__(self) -> "Expr":
        return number(-1) * self

    def __sub__(self, other: "Expr") -> "Expr":
        return self + -other

    def __truediv__(self, other: "Expr") -> "Expr":
        return self * _inverse(other)

    def __str__(self) -> str:
        if self.rational is not None:
            return str(self.rational)
        return "+".join(
            _term(product, coefficient) for product, coefficient in self.terms
        )


IMAGINARY = Atom("symbol", ("i",))


def number(value: int | Fraction) -> Expr:
    """Rational number as an expression.

    Args:
        value: The number.

    Returns:
        The expression.
    """
    return _expr({(): Fraction(value)})


def symbol(name: str) -> Expr:
    """Variable, or a constant such as pi, as an expression.

    Args:
        name: Its name.

    Returns:
        The expression.
    """
    return _one(Atom("symbol", (name,)))


def function(name: str, *args: Expr) -> Expr:
    """Function that is not evaluated.

    Args:
        name: A key of `fr.tasks.functions.FUNCTIONS`.
        *args: Its arguments.

    Returns:
        The expression.
    """
    return _one(Atom(name, args))


def power(a: Expr, b: Expr) -> Expr:
    """a to the power b; unevaluated if b is irrational or the root is not real.

    Args:
        a: The base.
        b: The exponent.

    Returns:
        The expression.

    Raises:
        TooLarge: The result has too many digits or terms.
    """
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
        result = result * a
    return result if n >= 0 else _inverse(result)


def root(a: Expr, n: int) -> Expr:
    """The n-th root of a; squares are taken out of square roots.

    Args:
        a: The radicand.
        n: The degree.

    Returns:
        The expression; an unevaluated `root` where it has no simpler form.
    """
    value = a.rational
    if value is None or value < 0 and n % 2 == 0 and n != 2 or not 2 <= n <= 12:
        return function("root", number(n), a)
    if value < 0:
        side = symbol("i") if n == 2 else number(-1)
        return side * root(number(-value), n)
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
    return number(Fraction(outside, value.denominator)) * radical


def monic(a: Expr) -> Expr:
    """Expression divided by the coefficient of its first term.

    Args:
        a: An expression.

    Returns:
        The same for all multiples of an expression; 0 stays 0.
    """
    return number(1 / a.terms[0][1]) * a if a.terms else a


def _term(product: Product, coefficient: Fraction) -> str:
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


def _expr(terms: dict[Product, Fraction]) -> Expr:
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
def _joined(factors: Product) -> tuple[Product, Fraction]:
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
        return other * _inverse(a * other)
    first = a.terms[0][1]
    return number(1 / first) * _one(Atom("inverse", (monic(a),)))


def _conjugate(a: Expr) -> Expr | None:
    """The factor that makes a + b sqrt(n) or a + b i rational."""
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
        if value.bit_length() > 900:  # a float holds no more
            return None
        found = round(value ** (1 / n))
    return found if found**n == value else None


@functools.lru_cache(maxsize=4096)
def _square_part(value: int) -> tuple[int, int | None]:
    """(s, r) with value = s^2 r, r square-free; r is None where that is not known."""
    outside, inside, rest = 1, 1, value
    for divisor in range(2, _TRIALS):
        if divisor * divisor > rest:
            break
        count = 0
        while rest % divisor == 0:
            rest, count = rest // divisor, count + 1
        outside *= divisor ** (count // 2)
        inside *= divisor ** (count % 2)
    whole = math.isqrt(rest)
    if whole * whole == rest:
        return outside * whole, inside
    # Below the limit's cube the rest has at most two prime factors, which differ.
    return outside, inside * rest if rest < _TRIALS**3 else None
