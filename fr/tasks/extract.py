"""The final answer of a completion, and the number that a text states. No `eval`; linear in the text."""

import re
import unicodedata
from fractions import Fraction

CUE = "Answer:"  # the line that worked examples end with; forcing it asks for an answer at once

MAX_CHARACTERS = 50_000  # of a completion, counted from its end
MAX_DIGITS = 60  # of a number: a longer one is noise, and Python refuses to read very long ones

_MARKER = re.compile(r"\banswer\b[*_`\"']{0,3}[ \t]{0,9}(?:(is|equals)\b[ \t]{0,9}:?|[:=])", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]{0,9}####(?!#)", re.MULTILINE)
_BOX = re.compile(r"\\f?boxed[ \t]{0,9}\{")
# A model that goes on with a question of its own has left the one that it was asked.
_NEXT_TURN = re.compile(
    r"^[ \t]{0,9}[*_#]{0,4}[ \t]?(?:question|q|user|human|problem)\b[ \t]?\d{0,9}[*_]{0,2}[ \t]?:"
    r"|<\|im_(?:start|end)\|>",
    re.IGNORECASE | re.MULTILINE,
)

_DIGITS = rf"(?:\d{{1,3}}(?:,\d{{3}}){{1,20}}(?![\d,])|\d{{1,{MAX_DIGITS}}}(?!\d))"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d{{1,{MAX_DIGITS}}}(?!\d))?|\.\d{{1,{MAX_DIGITS}}}(?!\d))"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)[ ]?(?:[$£€][ ]?)?(?P<sign2>-?)"
    rf"(?:\\[dt]?frac\{{(?P<top>{_DIGITS})\}}\{{(?P<bottom>{_DIGITS})\}}"
    rf"|(?:(?P<whole>\d{{1,9}})[ ])?(?P<over>\d{{1,{MAX_DIGITS}}})[ ]?/"
    rf"[ ]?(?P<under>\d{{1,{MAX_DIGITS}}})(?![\d.,]?\d)"
    rf"|(?P<plain>{_DECIMAL})(?:(?:e|[ ]?(?:[x×*]|\\times)[ ]?10\^\{{?)(?P<power>[-+]?\d{{1,2}})(?!\d)\}}?)?)"
    rf"(?P<percent>(?:[ ]?%)?)",
    re.IGNORECASE,
)
# What may not follow a number that is a whole answer: more of an expression, a list, a time, a variable.
_GOES_ON = re.compile(
    r"[ ]?(?:[-+*/^×÷][ ]?[\d(\\]|[:,][ ]?\d|\.\d|[!(]\d|[ ]?(?:or|and|to)[ ]{1,3}[-$]?\d|\d|e\d"
    r"|\\(?:sqrt|pi|d?frac|cdot|times)|(?:[xyznπ√]|pi)(?![\w']))|i(?!\w)",
    re.IGNORECASE,
)
_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed|fbox)[ ]?\{([^{}]*)\}")
_PLAIN = {
    "\u2212": "-",
    "\u2013": "-",
    "\u2044": "/",
    "\\$": "$",
    "\\%": "%",
    "{,}": ",",
    "\\!": "",
    "\\left": "",
    "\\right": "",
    "^\\circ": "",
    "^{\\circ}": "",
    "°": "",
    "\u202f": "\u00a0",
    "\u2009": "\u00a0",
    "\\,": "\u00a0",
    "\\;": " ",
    "\\ ": " ",
    "~": " ",
}


def final_answer(completion: str, numeric: bool) -> str | None:
    r"""The answer that a completion ends with, as written, or None.

    The last of: the text after `Answer:`, `the answer is` or `####` (the same line, or the next one that is
    not empty) and the content of `\boxed{}`. Without any of them a completion of one short line is its own
    answer; where a number is wanted (`numeric`), the line must start with it, and what follows the last `=`
    counts as the line.
    """
    text = _own_part(completion[-MAX_CHARACTERS:])
    found = sorted((*_marked(text, numeric), *_boxed(text)))
    if found:
        return found[-1][1]
    line = text.strip()
    if numeric and "=" in line:
        line = line.rpartition("=")[2].strip().split("\n")[0]
    if not line or len(line) > 80 or "\n" in line or _MARKER.search(line):
        return None
    # prose without a marker may hold any number
    return line if not numeric or _leading(plain(line)) else None


def stated_number(text: str) -> Fraction | None:
    """The number that an answer states, or None: `$1,250.`, `12 apples`, `There are 7.`, `3 + 4 = 7`.

    What is ambiguous states nothing: `7 or 8`, `3 + 4`, `1,5`, `2x`. A percentage gives its number of
    hundredths.
    """
    match = _leading(plain(text).rpartition("=")[2].strip(" \n"))
    if match is None:
        # the last number of the first sentence
        sentence = re.split(r"[.!?](?:\s|$)", plain(text).rpartition("=")[2], maxsplit=1)[0]
        starts = [m.start() for m in re.finditer(r"(?<![\w.,/^])[-+$£€]{0,2}\.?\d", sentence)]
        if not starts or _before(sentence[: starts[-1]]):
            return None
        match = _leading(sentence[starts[-1] :])
    return value(match) if match else None


def exact_number(text: str) -> tuple[Fraction, bool] | None:
    """(value, is a percentage) of a text, such as a reference, that is a number and nothing else; or None."""
    clean = plain(text).rstrip(".")
    match = _NUMBER.fullmatch(clean)
    number = value(match) if match else None
    return None if number is None else (number, bool(match["percent"]))


def is_percentage(text: str) -> bool:
    """True if the number that `text` leads with is followed by a percent sign."""
    match = _NUMBER.match(plain(text).rpartition("=")[2].strip())
    return bool(match and match["percent"])


def value(match: re.Match) -> Fraction | None:
    """The exact value of a match of the number pattern; None for a division by zero."""
    top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
    if top is not None:
        if int(bottom.replace(",", "")) == 0:
            return None
        number = Fraction(int(top.replace(",", "")), int(bottom.replace(",", ""))) + int(match["whole"] or 0)
    else:
        number = Fraction(match["plain"].replace(",", "")) * Fraction(10) ** int(match["power"] or 0)
    return -number if "-" in (match["sign"] + match["sign2"]) else number


def plain(text: str) -> str:
    r"""`text` without the dress of LaTeX and Markdown: `\text{7}`, `**7**`, `\(7\)`, `1{,}000`."""
    for dressed, bare in _PLAIN.items():
        text = text.replace(dressed, bare)
    text = re.sub(
        "[¼½¾⅐-⅞]", lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("\u2044", "/"), text
    )
    text = re.sub(r"(?<=\d)\u00a0(?=\d{3}(?!\d))", "", text).replace("\u00a0", " ")
    text = re.sub(r"\\[()\[\]]", "", _WRAPPER.sub(r"\1", text))
    text = re.sub(r"(\\[dt]?frac)(\d)(\d)(?!\d)", r"\1{\2}{\3}", text)
    text = text.strip(" \t\n*_`\"'")
    # a pair of dollar signs is LaTeX, a single one is money
    text = text[1:].replace("$", "", 1) if text.startswith("$") and text.count("$") >= 2 else text
    return text.strip(" \t\n*_`\"'")


def normalised(text: str) -> str:
    """`text` as answers are compared: without case, spacing, articles, quotes and closing punctuation."""
    text = unicodedata.normalize("NFKC", plain(text)).casefold()
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = text.strip(" .,;:!?\"'`*_()[]“”‘’$")
    return " ".join(re.sub(r"^(?:the|a|an)\s", "", text).split())


def _own_part(text: str) -> str:
    first = min(
        (m.end() for m in (_MARKER.search(text), _HASHES.search(text), _BOX.search(text)) if m), default=None
    )
    after = _NEXT_TURN.search(text, first) if first is not None else None
    return text[: after.start()] if after else text


def _marked(text: str, numeric: bool):
    for kind in (_MARKER, _HASHES):
        for match in kind.finditer(text):
            rest = text[match.end() : match.end() + 1000].lstrip(" \t*_`")
            line = rest.lstrip().split("\n")[0].strip()
            prose = kind is _MARKER and match[1]
            if not line or line.startswith("not ") or _MARKER.match(line):
                continue
            # `The answer is clear` and the heading `#### 3. Next` are no answers where a number is wanted
            if numeric and prose and stated_number(line) is None:
                continue
            if numeric and kind is _HASHES and re.match(r"\D*\d+[.:)]\s+\w|[A-Za-z]", line):
                continue
            yield match.end(), line


def _boxed(text: str):
    for match in _BOX.finditer(text):
        depth, at = 1, match.end()
        # bounded, so that many unclosed boxes do not cost the square of the text
        limit = min(len(text), at + 500)
        while at < limit and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        if not depth and text[match.end() : at - 1].strip():
            yield match.end(), text[match.end() : at - 1].strip()


def _leading(text: str) -> re.Match | None:
    match = _NUMBER.match(text)
    return None if match is None or _GOES_ON.match(text, match.end()) else match


def _before(text: str) -> bool:
    """True if the number after `text` is only the end of an expression or a list."""
    return bool(re.search(r"(?:\d|\))[ ]?(?:[-+*/^×÷,:(]|or|and|to)[ ]?$|\d[ ]$|\\[a-z]+\{?$", text))
