"""Expressions of answers, parsed by recursive descent into exact algebra; no `eval`."""

import math
import re
from fractions import Fraction

from fr.tasks.algebra import Expr, TooLarge, function, number, power, root, symbol
from fr.tasks.functions import FUNCTIONS

MAX_DEPTH = 25
MAX_DIGITS = 400  # of a number
OPEN, CLOSE = "([{⦃", ")]}⦄"

_THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d,])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?=\.?\d)(?:{_THOUSANDS}|\d+)?(?:\.\d+|\.(?![\d.]))?"
    r"(?:e[+-]?\d{1,3}(?![\w.]))?)"
    r"|(?P<command>\\[A-Za-z]+(?:<[^<>]*>)?)|(?P<name>[A-Za-z]+)|(?P<sign>.))",
    re.DOTALL,
)
_FUNCTIONS = FUNCTIONS.keys() - {"inverse", "power", "root", "sqrt"}
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa "
    "lambda mu nu xi rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda "
    "Sigma Phi Psi Omega ell"
).split()
_WORDS = ("inf", "none", "true", "and", "or", "not", "yes", "no", "mod")
_GROUPS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")  # thousands parted by blanks


class Unread(ValueError):
    """The text is not a formula that is known here."""


def parse_expression(text: str) -> Expr:
    """Parse an expression.

    Args:
        text: In the notation of `normalise.unify_notation`.

    Returns:
        Its value. Any other text raises Unread, a value that is too
        large TooLarge.
    """
    return _Parser(text).whole()


def _read_number(text: str) -> Fraction:
    """Exact value of a decimal number such as `1,234.5e3`."""
    if len(text) > MAX_DIGITS:
        raise TooLarge("a long number")
    mantissa, _, exponent = text.replace(",", "").lower().partition("e")
    return Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(exponent or 0)


class _Parser:
    """Recursive descent over the tokens of an expression."""

    def __init__(self, text: str):
        text = text.replace(" ", "") if _GROUPS.fullmatch(text.strip()) else text
        # Arguments without braces get them: `\frac12`, `\frac1{2}`, `\sqrt2`.
        text = re.sub(r"\\(frac|binom)\s?(\d|[A-Za-z])(?=[\s\\{\w])", r"\\\1{\2}", text)
        text = re.sub(r"(\\(?:frac|binom)\{[^{}]*\})\s?(\d|[A-Za-z])", r"\1{\2}", text)
        text = re.sub(
            r"\\(frac)(\{(?:[^{}]|\{[^{}]*\})*\})\s?(\d|[A-Za-z]|\\pi)",
            r"\\\1\2{\3}",
            text,
        )
        text = re.sub(r"\\sqrt\s?(\d|[A-Za-z])", r"\\sqrt{\1}", text)
        found = list(_TOKEN.finditer(text.strip()))
        self.tokens = [(m.lastgroup or "", m[m.lastgroup or 0]) for m in found]
        self.spaces = [match[0][:1] == " " for match in found]
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
        total = total if sign == "+" else -total
        while self._text() in ("+", "-"):
            sign, part = self._take(), self._product()
            total = total + (part if sign == "+" else -part)
        self.depth -= 1
        return total

    def _product(self) -> Expr:
        result = self._signed()
        while True:
            if self._text() == "*":
                self.at += 1
                result = result * self._signed()
            elif self._text() == "/":
                self.at += 1
                result = result / self._signed()
            elif self._starts_factor():
                result = self._beside(result)
            else:
                return result

    def _beside(self, result: Expr) -> Expr:
        """A factor without a sign; a fraction after a whole number is added."""
        kind, before = self.tokens[self.at - 1]
        # only such a whole number can begin a mixed number
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
                return result + number(Fraction(int(match[0][1]), int(match[2][1])))
            raise Unread("two numbers side by side")
        factor = self._powered()
        part = factor.rational
        # seven tokens: a fraction of two numbers, `\frac { 1 } { 2 }`
        simple = self.tokens[begin][1] == "\\frac" and self.at - begin == 7
        if (
            whole
            and simple
            and part is not None
            and 0 < part < 1
            and part.denominator > 1
        ):
            return result + factor
        return result * factor

    def _starts_factor(self) -> bool:
        kind, text = self._peek()
        return kind in ("number", "command", "name") or text in ("(", "{", "[")

    def _signed(self) -> Expr:
        if self._text() == "-":
            self.at += 1
            return -self._signed_once()
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
                base = number(math.factorial(int(n)))
            else:
                base = power(base, self._exponent())
        return base

    def _exponent(self) -> Expr:
        if self._text() == "-":
            self.at += 1
            return -self._powered()
        return self._powered()

    def _atom(self) -> Expr:
        kind, text = self._peek()
        self.at += 1
        if kind == "number":
            if self._text() == "_":
                return symbol(f"{text}_{self._subscript()}")
            return number(_read_number(text))
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
            return root(self._argument(), 2)
        if text == "pi":
            return symbol("pi")
        # Letters side by side are a product, unless a space makes them a word.
        beside = self.at > 1 and self.tokens[self.at - 2][1] not in "+-*/^({[="
        if len(text) > 1 and (
            beside and self.spaces[self.at - 1] or len(self.tokens) == 1
        ):
            raise Unread("a word")
        if len(text) > 4 or text.lower() in _WORDS:
            raise Unread(text)
        if self._text() == "_":
            names = [*text[:-1], f"{text[-1]}_{self._subscript()}"]
        else:
            names = list(text)
        if self._text() == "^" and len(names) > 1:
            # the power belongs to the last letter
            self.at += 1
            last = power(symbol(names[-1]), self._exponent())
        else:
            last = symbol(names[-1])
        for name in names[:-1]:
            last = last * symbol(name)
        return last

    def _command(self, name: str) -> Expr:
        if name == "frac":
            return self._atom() / self._atom()
        if name == "sqrt":
            return self._root()
        if name == "binom":
            n, k = (part.rational for part in (self._atom(), self._atom()))
            if (
                n is None
                or k is None
                or n.denominator * k.denominator > 1
                or not 0 <= k <= n <= 400
            ):
                raise Unread("a binomial")
            return number(math.comb(int(n), int(k)))
        if name == "pi":
            return symbol("pi")
        if name == "infty":
            return symbol("infinity")
        if name in _FUNCTIONS:
            return self._function(name)
        if name in _GREEK or "<" in name:
            sub = f"_{self._subscript()}" if self._text() == "_" else ""
            return symbol(f"\\{name}{sub}")
        raise Unread(name)

    def _root(self) -> Expr:
        n = 2
        if self._text() == "[":
            self.at += 1
            degree = self._sum().rational
            if self._take() != "]" or degree is None or degree.denominator > 1:
                raise Unread("a root")
            n = int(degree)
        return root(self._atom(), n)

    def _argument(self) -> Expr:
        if self._text() in ("(", "{", "["):
            return self._atom()
        result = self._powered()
        while (
            self._peek()[0] in ("number", "name", "command")
            and self._text().lstrip("\\") not in _FUNCTIONS
        ):
            result = result * self._powered()
        return result

    def _function(self, name: str) -> Expr:
        base, exponent = None, None
        if self._text() == "_":
            self.at += 1
            base = self._atom()
        if self._text() == "^":
            self.at += 1
            exponent = self._exponent()
        argument = self._argument()
        if name == "exp":
            value = power(symbol("e"), argument)
        elif name == "log" and base == symbol("e"):
            value = function("ln", argument)
        else:
            value = function(name, argument, *([base] if base else []))
        if exponent is None:
            return value
        if exponent.rational is not None and exponent.rational < 0:
            raise Unread("an inverse function")
        return power(value, exponent)
