"""One notation for answers in LaTeX, Markdown and Unicode: signs, spaces, macros."""

import functools
import re
import unicodedata
from fractions import Fraction

MAX_CHARACTERS = 4000  # of an answer; a longer one is not read as a formula

_SIGNS = {
    "−": "-",
    "–": "-",
    "‐": "-",
    "‑": "-",
    "×": "*",
    "·": "*",
    "∙": "*",
    "⋅": "*",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "≦": "≤",
    "≧": "≥",
    "⩽": "≤",
    "⩾": "≥",
    "π": " \\pi ",
    "∞": "\\infty ",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    "“": '"',
    "”": '"',
    "’": "'",
    "‘": "'",
    "…": "...",
    "。": ".",
}
_COMMANDS = {
    "dfrac": "\\frac",
    "tfrac": "\\frac",
    "cfrac": "\\frac",
    "dbinom": "\\binom",
    "tbinom": "\\binom",
    "cdot": "*",
    "times": "*",
    "ast": "*",
    "div": "/",
    "le": "≤",
    "leq": "≤",
    "leqslant": "≤",
    "lt": "<",
    "ge": "≥",
    "geq": "≥",
    "geqslant": "≥",
    "gt": ">",
    "ne": "≠",
    "neq": "≠",
    "approx": "≈",
    "sim": "≈",
    "equiv": "≡",
    "in": "∈",
    "cup": "∪",
    "pm": "±",
    "mp": "±",
    "lbrace": "⦃",
    "rbrace": "⦄",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "mid": "|",
    "degree": " degrees ",
    "colon": ":",
    "dots": "...",
    "ldots": "...",
    "cdots": "...",
    "ln": "\\ln",
}
_DROPPED = (
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr "
    "displaystyle textstyle limits nolimits rm bf it mathopen mathclose scriptstyle"
).split()
_SPACES = (
    "quad qquad enspace thinspace medspace thickspace newline hfill nobreakspace"
).split()
_WRAPPERS = (
    "text textbf textit textrm textsf texttt textnormal mathrm mathbf mathit mathsf "
    "mathtt mathbb mathcal boldsymbol bm mbox hbox emph underline overline boxed fbox "
    "operatorname ensuremath vec hat"
).split()
# These make the name of a set or a point, not a style.
_KEPT_AS_NAMES = ("mathbb", "mathcal", "overline", "vec", "hat")
_MACRO = re.compile(r"\\([A-Za-z]+)\*?")
_WRAPPED = re.compile(rf"\\({'|'.join(_WRAPPERS)})\s?\{{([^{{}}]*)\}}")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_DEGREE = re.compile(r"\^\s?\{?\s?(?:\\circ|∘|°)\s?\}?|°|∘(?=\s|$)")
_ALIGNED = re.compile(
    r"\\begin\s?\{(align|aligned|alignat|equation|gather|gathered|split|multline"
    r"|eqnarray)\*?\}(.*?)"
    r"\\end\s?\{\1\*?\}",
    re.DOTALL,
)
_REPEATING = re.compile(r"(\d{1,9})?\.(\d{0,30})\\overline\s?\{\s?(\d{1,30})\s?\}")
_ROW = "⏎"  # the end of a row of a matrix
_EDGE = " \t\r\n*`\"'"


def strip_markup(text: str) -> str:
    r"""Strip LaTeX and Markdown around an answer: `\text{7}`, `**7**`, `\(7\)`, `$7$`.

    Args:
        text: An answer; at most `MAX_CHARACTERS` of it are read.

    Returns:
        The answer; the inside of a formula is unchanged.
    """
    text = text[:MAX_CHARACTERS].strip(_EDGE)
    for before, after in (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"), ("$", "$")):
        if (
            text.startswith(before)
            and text.rstrip(" .,").endswith(after)
            and len(text) > 2 * len(before)
        ):
            inside = text.rstrip(" .,")[len(before) : -len(after)]
            if before not in inside:
                text = inside.strip(_EDGE)
    while (match := _WRAPPED.fullmatch(text)) and match[1] not in _KEPT_AS_NAMES:
        text = match[2].strip(_EDGE)
    return text


@functools.lru_cache(maxsize=8192)
def unify_notation(text: str) -> str:
    """Write an answer in one notation of signs, brackets, spaces and macros.

    Args:
        text: An answer; at most `MAX_CHARACTERS` of it are read.

    Returns:
        The answer; braces of sets become `⦃` and `⦄`, ends of matrix rows `⏎`.
    """
    text = text[:MAX_CHARACTERS].replace("\\\\", _ROW)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _VULGAR.sub(
        lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"), text
    )
    text = re.sub(r"√\s?(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}", text)
    text = text.replace("√(", "\\sqrt(")
    # Not all of NFKC, which turns some mathematical signs into letters.
    text = "".join(
        unicodedata.normalize("NFKC", c) if "\uff00" <= c < "\uffef" else c
        for c in text
    )
    text = re.sub(
        r"(?<=\d)(?:[\u202f\u2009\u00a0]|\\,|\\!|\{,\}|,\\!\s?)(?=\d{3}(?!\d))",
        "",
        text,
    )
    # after that these are spaces, no longer separators of thousands
    text = re.sub(r"[\u00a0\u202f\u2009\u200b\u3000]|\\[,;:> ]|~", " ", text)
    for dressed, bare in (
        ("\\!", ""),
        ("{,}", ","),
        ("\\$", "$"),
        ("\\%", "%"),
        ("\\#", "#"),
        ("\\&", " and "),
    ):
        text = text.replace(dressed, bare)
    # braces of a set, to tell them from braces of LaTeX
    text = text.replace("\\{", "⦃").replace("\\}", "⦄").replace("\\|", "|")
    text = re.sub(r"\\[()\[\]]", " ", text)
    # the last row of aligned equations is the result
    if match := _ALIGNED.search(text):
        rows = [row for row in match[2].split(_ROW) if row.strip()]
        text = (
            text[: match.start()]
            + (rows[-1] if rows else "").replace("&", "")
            + text[match.end() :]
        )
    text = _DEGREE.sub(" degrees ", text)
    text = _REPEATING.sub(_repeating, text)
    # from the inside out, in bounded time
    for _ in range(4):
        text, count = _WRAPPED.subn(_unwrapped, text)
        if not count:
            break
    text = _MACRO.sub(_macro, text)
    text = re.sub(r"(?<=[\w)])\s?\*\*\s?(?=[\d({A-Za-z-])", "^", text).replace(
        "**", " "
    )
    for sign, one in _SIGNS.items():
        text = text.replace(sign, one)
    return re.sub(r"[ \t\r\n]+", " ", text).strip()


def normalise_words(text: str) -> str:
    """Write an answer in words for comparison.

    Args:
        text: An answer.

    Returns:
        The words without case, extra spaces, a leading article, quotes and punctuation
        at both ends.
    """
    text = unicodedata.normalize(
        "NFKC", unify_notation(strip_markup(text)).replace("$", "")
    ).casefold()
    text = text.strip(" .,;:!?\"'`*_()[]")
    return " ".join(re.sub(r"^(?:the|a|an)\s", "", text).split())


def _repeating(match: re.Match) -> str:
    """The exact fraction of `0.1\\overline{6}`."""
    whole, once, again = match[1] or "0", match[2], match[3]
    scale = 10 ** len(once)
    value = Fraction(int(whole + once), scale) + Fraction(
        int(again), scale * (10 ** len(again) - 1)
    )
    return f"({value.numerator}/{value.denominator})"


def _unwrapped(match: re.Match) -> str:
    if match[1] in _KEPT_AS_NAMES:
        return f"\\{match[1]}<{match[2]}>"
    space = (
        " " if match[1].startswith(("text", "mbox", "hbox", "mathrm", "emph")) else ""
    )
    return f"{space}{match[2]}{space}"


def _macro(match: re.Match) -> str:
    name = match[1]
    if name in _COMMANDS:
        return _COMMANDS[name]
    if name in _DROPPED:
        return ""
    return " " if name in _SPACES else match[0]
