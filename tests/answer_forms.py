"""Spellings of one answer, and alterations that truly change it: for answers as
MATH-500 writes them.
"""

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

_PREFIX = r"(?:\\\$)?"
_SUFFIX = r"(?:\s*\\(?:text|mbox)\{\s?(?:degrees|inches|cents|cm)\}(?:\^2)?|\^\\circ)?"
_INTEGER = re.compile(
    rf"({_PREFIX})(-?)(\d{{1,3}}(?:,(?:\\!)?\s?\d{{3}})+|\d+)({_SUFFIX})"
)
_DECIMAL = re.compile(rf"({_PREFIX})(-?)(\d*\.\d+)({_SUFFIX})")
_FRACTION = re.compile(
    rf"(-?)(\d*)\s*\\[dt]?frac\s*(\d|\{{-?\d+\}})\s*(\d|\{{\d+\}})({_SUFFIX})"
)
_SLASH = re.compile(r"(-?)(\d+)/(\d+)")
_BASE = re.compile(r"(\d+)_\{?(\d)\}?")
_COMPLEX = re.compile(r"(-?\d+) ?([-+]) ?(\d*)i")
_INTERVAL = re.compile(r"(?:\\left)?([(\[])(.+?),(.+?)(?:\\right)?([)\]])")
_OTHER = {"(": "[", "[": "(", ")": "]", "]": ")"}


class Altered(NamedTuple):
    """An answer that is not the reference's: `kind` says what was done."""

    kind: str
    text: str


def spellings(reference: str) -> dict[str, str]:
    """Six completions that state the reference, by the name of the spelling."""
    return {
        "blanks": f"Answer: {_blanks(reference)}",
        "display": f"Answer:\n\\[\n{reference}\n\\]",
        "boxed": f"Therefore the result is $\\boxed{{{reference}}}$.",
        "tagged": f"<think>\nLet me see.\n</think>\n<answer>{reference}</answer>",
        "fenced": f"Answer:\n```\n{reference}\n```",
        "trailing": f"The answer is ${reference}$, as was to be shown.",
    }


def alterations(reference: str) -> list[Altered]:
    """Answers that truly differ from the reference.

    By a flipped bracket, + 1, negation, × 10 or a swapped part.

    What leaves the value as it is (minus or ten times zero, a swap of equal parts or
    within an unordered list) is left out: parts that are numbers are compared as
    fractions, others are changed by construction.
    """
    return list(dict.fromkeys(_alterations(reference)))


def _blanks(reference: str) -> str:
    """The reference without blanks that mean nothing; one without any gets some."""
    bare = re.sub(r"(?<!\\)[ ](?![A-Za-z])|(?<![A-Za-z\\])[ ]", "", reference)
    if bare != reference:
        return bare
    if re.fullmatch(r"[\d.,\\!$]+|\\.*\{.*\}", reference):
        return f"  {reference}  "
    return re.sub(r"(?<=[\w)}\]])([-+=,])(?=[\w\\(\[])", r" \1 ", reference)


def _alterations(text: str) -> Iterator[Altered]:
    if _worded(text):
        yield from _words(text)
    elif "matrix" in text:
        yield from _matrix(text)
    elif text.startswith(r"\{"):
        yield from _several(text[2:-2], r"\{", r"\}", False)
    elif r"\in" in text and "[" in text:
        head, _, interval = text.partition(r"\in")
        yield from _pieces(interval.strip(), head + r"\in ", "")
    elif r"\cup" in text:
        first, _, second = text.partition(r" \cup ")
        yield from _pieces(first, "", rf" \cup {second}")
        yield from _pieces(second, rf"{first} \cup ", "")
    elif "=" in text:
        yield from _equation(text)
    elif _INTERVAL.fullmatch(text) and text.count(",") == 1:
        yield from _pieces(text, "", "")
    elif _comma_parts(text) and text.startswith(("(", r"\left(")):
        yield from _several(text[1:-1], "(", ")", True)
        yield Altered("flipped bracket", "[" + text[1:])
        yield Altered("flipped bracket", text[:-1] + "]")
    elif _comma_parts(text):
        yield from _several(text, "", "", False)
    else:
        yield from _scalar(text)


def _words(text: str) -> Iterator[Altered]:
    """Another letter or another word."""
    inside = re.fullmatch(r"\\text\{(.*)\}", text)[1]
    others = (
        [f"({letter})" for letter in "ABCDE"]
        if inside.startswith("(")
        else ["Navin", "odd", "west"]
    )
    for other in others:
        if other != inside:
            yield Altered("swapped part", rf"\text{{{other}}}")


def _pieces(text: str, before: str, after: str) -> Iterator[Altered]:
    """An interval or a pair: its brackets, its ends, and the ends swapped."""
    match = _INTERVAL.fullmatch(text)
    left, low, high, right = match[1], match[2].strip(), match[3].strip(), match[4]
    write = lambda *parts: f"{before}{parts[0]}{parts[1]}, {parts[2]}{parts[3]}{after}"
    if "infty" not in low:
        yield Altered("flipped bracket", write(_OTHER[left], low, high, right))
    if "infty" not in high:
        yield Altered("flipped bracket", write(left, low, high, _OTHER[right]))
    for end, other in ((low, high), (high, low)):
        for kind, changed in _scalar(end) if "infty" not in end else ():
            ends = (changed, other) if end is low else (other, changed)
            yield Altered(kind, write(left, *ends, right))
    if "infty" not in low + high and _differ(low, high):
        yield Altered("swapped part", write(left, high, low, right))


def _several(text: str, before: str, after: str, ordered: bool) -> Iterator[Altered]:
    """Parts between commas: each changed in turn; two of them swapped where the order
    means something.
    """
    parts = [part.strip() for part in text.split(",")]
    write = lambda changed: before + ", ".join(changed) + after
    for at, part in enumerate(parts):
        for kind, changed in _scalar(part):
            yield Altered(kind, write([*parts[:at], changed, *parts[at + 1 :]]))
        if ordered and at and _differ(parts[at - 1], part):
            yield Altered(
                "swapped part",
                write([*parts[: at - 1], part, parts[at - 1], *parts[at + 1 :]]),
            )


def _matrix(text: str) -> Iterator[Altered]:
    """Each entry changed in turn, and neighbours swapped."""
    pieces = re.split(r"(\\begin\{pmatrix\}|\\end\{pmatrix\}|\\\\|&)", text)
    places = [i for i, piece in enumerate(pieces) if re.search(r"\d", piece)]
    write = lambda changed: "".join(
        changed.get(i, piece) for i, piece in enumerate(pieces)
    )
    for i in places:
        for kind, changed in _scalar(pieces[i].strip()):
            yield Altered(kind, write({i: f" {changed} "}))
    for i, j in zip(places, places[1:]):
        if _differ(pieces[i], pieces[j]):
            yield Altered("swapped part", write({i: pieces[j], j: pieces[i]}))


def _equation(text: str) -> Iterator[Altered]:
    """The right side changed; of `... = 0` the left, by what does not only scale it."""
    left, _, right = (side.strip() for side in text.partition("="))
    if right == "0":
        yield Altered("+ 1", f"{left} + 1 = 0")
        yield Altered("negated", f"-{left} = 0")  # the first term only
        yield Altered(
            "swapped part", f"{left.translate(str.maketrans('xy', 'yx'))} = 0"
        )
        return
    for kind, changed in _scalar(right):
        yield Altered(kind, f"{left} = {changed}")


def _scalar(text: str) -> Iterator[Altered]:
    """One value: a number is changed exactly, an expression by what is written around
    it.
    """
    based, number = _BASE.fullmatch(text), _number(text)
    if based:
        digits, base = based[1], int(based[2])
        yield Altered("+ 1", f"{digits[:-1]}{(int(digits[-1]) + 1) % base}_{{{base}}}")
        yield Altered("negated", f"-{text}")
        yield Altered("× 10", f"{digits}0_{{{base}}}")
        if digits != digits[::-1]:
            yield Altered("swapped part", f"{digits[::-1]}_{{{base}}}")
        return
    if number is not None:
        value, write = number
        yield Altered("+ 1", write(value + 1))
        if value:
            yield Altered("negated", write(-value))
            yield Altered("× 10", write(10 * value))
        if value.denominator > 1 and abs(value) != 1 and "." not in text:
            yield Altered("swapped part", write(1 / value))
        return
    yield Altered("+ 1", f"{text} + 1")
    yield Altered("negated", f"-({text})")
    yield Altered("× 10", f"10({text})")
    parts = _COMPLEX.fullmatch(text)
    if parts and parts[1] != f"{parts[2]}{parts[3] or 1}".lstrip("+"):
        imaginary = f"{parts[2]}{parts[3] or 1}".lstrip("+")
        yield Altered("swapped part", f"{imaginary} + {parts[1]}i".replace("+ -", "- "))
    if re.fullmatch(r"[a-z] - [a-z]", text):
        yield Altered("swapped part", text[::-1])
    ratio = re.fullmatch(r"\\frac\{([^{}]*(?:\{[^{}]*\})?)\}\{([^{}]+)\}", text)
    if ratio:
        yield Altered("swapped part", rf"\frac{{{ratio[2]}}}{{{ratio[1]}}}")


def _number(text: str) -> tuple[Fraction, Callable[[Fraction], str]] | None:
    """The value of a number and how another value is written in its form; None for what
    is not a number.
    """
    text = text.strip()
    if match := _INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text):
        before, sign, digits, after = match.groups()
        value = Fraction(re.sub(r"[,\s\\!]", "", digits)) * (-1 if sign else 1)
        return value, lambda other: before + _decimal(other) + after
    if match := _FRACTION.fullmatch(text):
        sign, whole, top, bottom, after = match.groups()
        value = int(whole or 0) + Fraction(
            int(top.strip("{}")), int(bottom.strip("{}"))
        )
        return value * (
            -1 if sign else 1
        ), lambda other: _ratio(other, r"\frac{%d}{%d}") + after
    if match := _SLASH.fullmatch(text):
        value = Fraction(int(match[2]), int(match[3])) * (-1 if match[1] else 1)
        return value, lambda other: _ratio(other, "%d/%d")
    return None


def _decimal(value: Fraction) -> str:
    """A terminating decimal, exactly."""
    digits = 0
    while (value * 10**digits).denominator > 1:
        digits += 1
    whole = f"{abs(value) * 10**digits}".rjust(digits + 1, "0")
    point = f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return ("-" if value < 0 else "") + point


def _ratio(value: Fraction, pattern: str) -> str:
    return ("-" if value < 0 else "") + pattern % (
        abs(value.numerator),
        value.denominator,
    )


def _differ(one: str, other: str) -> bool:
    """True if two parts have different values; other parts than numbers, if they are
    written differently.
    """
    a, b = _number(one), _number(other)
    return a[0] != b[0] if a and b else one.strip() != other.strip()


def _comma_parts(text: str) -> bool:
    return "," in text and _number(text) is None


def _worded(text: str) -> bool:
    return re.fullmatch(r"\\text\{.*\}", text) is not None


def random_references(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(form, reference) of twelve forms in turn, drawn from `seed`; no part is 0, no
    two parts are equal.
    """
    draw = random.Random(seed)
    writers = list(_WRITERS.items())
    for i in range(count):
        name, write = writers[i % len(writers)]
        a, b, c, d = draw.sample(range(2, 60), 4)
        yield name, write(min(a, b), max(a, b), c, d)


_WRITERS = {
    "integer": lambda a, b, c, d: str(1000 * a + b),
    "negative": lambda a, b, c, d: f"-{a}",
    "decimal": lambda a, b, c, d: f"{a}.{b}",
    "thousands": lambda a, b, c, d: f"{a},{100 + b}",
    "fraction": lambda a, b, c, d: rf"\frac{{{a}}}{{{b}}}",
    "mixed": lambda a, b, c, d: rf"{c}\frac{{{a}}}{{{b}}}",
    "degrees": lambda a, b, c, d: rf"{a + b}^\circ",
    "radical": lambda a, b, c, d: rf"{a}\sqrt{{{_PRIMES[b % len(_PRIMES)]}}}",
    "interval": lambda a, b, c, d: ("({}, {}]", "[{}, {})", "[{}, {}]")[c % 3].format(
        a, b
    ),
    "tuple": lambda a, b, c, d: f"({a}, {-c}, {b})",
    "complex": lambda a, b, c, d: f"{a} - {b}i",
    "polynomial": lambda a, b, c, d: f"{a}x^2 - {b}x + {c}",
}
_PRIMES = (2, 3, 5, 7, 11, 13)
