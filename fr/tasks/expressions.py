"""Expressions of answers, read by recursive descent into exact algebra. No `eval`."""

import math
import re
from fractions import Fraction

from fr.tasks import algebra
from fr.tasks.algebra import Expr

MAX_DEPTH = 25
MAX_DIGITS = 400  # of a number
OPEN, CLOSE = "([{⦃", ")]}⦄"

_THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d,])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?=\.?\d)(?:{_THOUSANDS}|\d+)?(?:\.\d+|\.(?![\d.]))?(?:e[+-]?\d{{1,3}}(?![\w.]))?)"
    r"|(?P<command>\\[A-Za-z]+(?:<[^<>]*>)?)|(?P<name>[A-Za-z]+)|(?P<sign>.))",
    re.DOTALL,
)
_FUNCTIONS = {name for name in algebra.NAMES if name.isalpha()} - {
    "inverse",
    "power",
    "root",
    "sqrt",
}
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell"
).split()


_GROUPS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")  # thousands parted by blanks


class Unread(ValueError):
    """The text is not a formula that is known here."""


def parse_expression(text: str) -> Expr:
    """The value of an expression in the spelling of `undress.unified`; raises Unread or TooLarge."""
    return _Parser(text).whole()


def read_number(text: str) -> Fraction:
    """A decimal with or without thousands and a power of ten."""
    if len(text) > MAX_DIGITS:
        raise algebra.TooLarge("a long number")
    mantissa, _, power = text.replace(",", "").lower().partition("e")
    return Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(power or 0)


class _Parser:
    """Recursive descent over the tokens of an expression."""

    def __init__(self, text: str):
        text = text.replace(" ", "") if _GROUPS.fullmatch(text.strip()) else text
        text = re.sub(r"\\(frac|binom)\s?(\d|[A-Za-z])(?=[\s\\{\w])", r"\\\1{\2}", text)
        text = re.sub(r"(\\(?:frac|binom)\{[^{}]*\})\s?(\d|[A-Za-z])", r"\1{\2}", text)
        text = re.sub(
            r"\\(frac)(\{(?:[^{}]|\{[^{}]*\})*\})\s?(\d|[A-Za-z]|\\pi)",
            r"\\\1\2{\3}",
            text,
        )
        text = re.sub(r"\\sqrt\s?(\d|[A-Za-z])", r"\\sqrt{\1}", text)
        self.tokens = [
            (match.lastgroup, match[match.lastgroup])
            for match in _TOKEN.finditer(text.strip())
        ]
        self.spaces = [match[0][:1] == " " for match in _TOKEN.finditer(text.strip())]
        self.at = self.depth = 0
        if len(self.tokens) > 600:
            raise Unread("a long formula")

    def whole(self) -> Expr:
        """The value of all tokens."""
        try:
            result = self._sum()
        except (ZeroDivisionError, OverflowError) as error:
            raise Unread("no value") from error
        if self.at != len(self.tokens):
            raise Unread(self._text())
        return result

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def _text(self) -> str:
        return self._peek()[1]

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1] if self.at <= len(self.tokens) else ""

    def _sum(self) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("too deep")
        sign = self._take() if self._text() in ("+", "-") else "+"
        total = self._product()
        total = total if sign == "+" else algebra.negative(total)
        while self._text() in ("+", "-"):
            sign, part = self._take(), self._product()
            total = algebra.add(total, part if sign == "+" else algebra.negative(part))
        self.depth -= 1
        return total

    def _product(self) -> Expr:
        result = self._signed()
        while True:
            if self._text() == "*":
                self.at += 1
                result = algebra.multiply(result, self._signed())
            elif self._text() == "/":
                self.at += 1
                result = algebra.divide(result, self._signed())
            elif self._starts_factor():
                result = self._beside(result)
            else:
                return result

    def _beside(self, result: Expr) -> Expr:
        """A factor without a sign before it; after a whole number a fraction makes it a mixed one."""
        kind, before = self.tokens[self.at - 1]
        whole = (
            kind == "number"
            and before.isdigit()
            and (self.at < 2 or self.tokens[self.at - 2][1] in "(+-{[*")
        )
        begin = self.at
        if self._peek()[0] == "number":
            match = self.tokens[self.at : self.at + 3]
            if (
                whole
                and len(match) == 3
                and match[1][1] == "/"
                and match[0][1].isdigit()
                and match[2][1].isdigit()
            ):
                self.at += 3
                return algebra.add(
                    result, algebra.number(Fraction(int(match[0][1]), int(match[2][1])))
                )
            raise Unread("two numbers side by side")
        factor = self._powered()
        part = factor.rational
        simple = self.tokens[begin][1] == "\\frac" and self.at - begin == 7
        if (
            whole
            and simple
            and part is not None
            and 0 < part < 1
            and part.denominator > 1
        ):
            return algebra.add(result, factor)
        return algebra.multiply(result, factor)

    def _starts_factor(self) -> bool:
        kind, text = self._peek()
        return kind in ("number", "command", "name") or text in ("(", "{", "[")

    def _signed(self) -> Expr:
        if self._text() == "-":
            self.at += 1
            return algebra.negative(self._signed_once())
        return self._powered()

    def _signed_once(self) -> Expr:
        if self._text() in ("-", "+"):
            raise Unread("signs")
        return self._powered()

    def _powered(self) -> Expr:
        base = self._atom()
        while self._text() in ("^", "!"):
            if self._take() == "!":
                n = base.rational
                if (
                    n is None
                    or n.denominator > 1
                    or not 0 <= n <= 400
                    or self._text() == "!"
                ):
                    raise Unread("a factorial")
                base = algebra.number(math.factorial(int(n)))
            else:
                base = algebra.power(base, self._exponent())
        return base

    def _exponent(self) -> Expr:
        if self._text() == "-":
            self.at += 1
            return algebra.negative(self._powered())
        return self._powered()

    def _atom(self) -> Expr:
        kind, text = self._peek()
        self.at += 1
        if kind == "number":
            if self._text() == "_":
                return algebra.symbol(f"{text}_{self._subscript()}")
            return algebra.number(read_number(text))
        if text in ("(", "{", "["):
            inside = self._sum()
            if self._take() != CLOSE[OPEN.index(text)]:
                raise Unread("brackets")
            return inside
        if kind == "name":
            return self._names(text)
        if kind == "command":
            return self._command(text[1:])
        raise Unread(text)

    def _subscript(self) -> str:
        self.at += 1
        text = self._take()
        if text == "{":
            parts = []
            while (text := self._take()) not in ("}", ""):
                parts.append(text)
            text = "".join(parts)
        if not text:
            raise Unread("a subscript")
        return text

    def _names(self, text: str) -> Expr:
        if text in _FUNCTIONS:
            return self._function(text)
        if text == "sqrt":
            return algebra.root(self._argument(), 2)
        if text == "pi":
            return algebra.symbol("pi")
        beside = self.at > 1 and self.tokens[self.at - 2][1] not in "+-*/^({[="
        if len(text) > 1 and (
            beside and self.spaces[self.at - 1] or len(self.tokens) == 1
        ):
            raise Unread("a word")
        if len(text) > 4 or text.lower() in (
            "inf",
            "none",
            "true",
            "and",
            "or",
            "not",
            "yes",
            "no",
            "mod",
        ):
            raise Unread(text)
        if self._text() == "_":
            *letters, last = text
            names = [*letters, f"{last}_{self._subscript()}"]
        else:
            names = list(text)
        if self._text() == "^" and len(names) > 1:
            # the power belongs to the last letter
            self.at += 1
            last = algebra.power(algebra.symbol(names[-1]), self._exponent())
        else:
            last = algebra.symbol(names[-1])
        for name in names[:-1]:
            last = algebra.multiply(last, algebra.symbol(name))
        return last

    def _command(self, name: str) -> Expr:
        if name == "frac":
            return algebra.divide(self._atom(), self._atom())
        if name == "sqrt":
            return self._root()
        if name == "binom":
            n, k = (part.rational for part in (self._atom(), self._atom()))
            if (
                None in (n, k)
                or n.denominator * k.denominator > 1
                or not 0 <= k <= n <= 400
            ):
                raise Unread("a binomial")
            return algebra.number(math.comb(int(n), int(k)))
        if name == "pi":
            return algebra.symbol("pi")
        if name == "infty":
            return algebra.symbol("infinity")
        if name in _FUNCTIONS:
            return self._function(name)
        if name in _GREEK or "<" in name:
            sub = f"_{self._subscript()}" if self._text() == "_" else ""
            return algebra.symbol(f"\\{name}{sub}")
        raise Unread(name)

    def _root(self) -> Expr:
        n = 2
        if self._text() == "[":
            self.at += 1
            degree = self._sum().rational
            if self._take() != "]" or degree is None or degree.denominator > 1:
                raise Unread("a root")
            n = int(degree)
        return algebra.root(self._atom(), n)

    def _argument(self) -> Expr:
        if self._text() in ("(", "{", "["):
            return self._atom()
        result = self._powered()
        while (
            self._peek()[0] in ("number", "name", "command")
            and self._text().lstrip("\\") not in _FUNCTIONS
        ):
            result = algebra.multiply(result, self._powered())
        return result

    def _function(self, name: str) -> Expr:
        base, power = None, None
        if self._text() == "_":
            self.at += 1
            base = self._atom()
        if self._text() == "^":
            self.at += 1
            power = self._exponent()
        argument = self._argument()
        if name == "exp":
            value = algebra.power(algebra.symbol("e"), argument)
        elif name == "log" and base == algebra.symbol("e"):
            value = algebra.function("ln", argument)
        else:
            value = algebra.function(name, argument, *([base] if base else []))
        if power is None:
            return value
        if power.rational is not None and power.rational < 0:
            raise Unread("an inverse function")
        return algebra.power(value, power)
