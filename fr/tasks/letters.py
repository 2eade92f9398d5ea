"""The letter of an option that an answer names."""

import re

LETTERS = "ABCD"  # of the options of a question
_PREFIX = re.compile(
    r"[\s*_`$({\[\"']*(?:(?:the|is|most|likely|definitely|clearly)\s+)*(?:(?:correct|right|best|final)\s+)?"
    r"(?:(?:option|choice|answer|letter|statement)\b[\s*_]*(?:is|:)?\s*)*[\s*_`$({\[\"'\\]*(?:boxed\{|text\w*\{|mathrm\{|mathbf\{|\\)*"
    r"[\s({\[*]*",
    re.I,
)
_STOPS = re.compile(
    r"[\s)\]}*_`$\"'.\\]*(?:$|[,;:—–|]|\s-\s|\s?\()|[)\]}]|\.(?:\s|$)|\*\*"
    r"|\s+(?:because|since|as|is|was|due|given|for|by|which|would|being|being|according|seems|appears|therefore|so|but"
    r"|from|matches|fits|where|from|follows|with|only|follows|holds|satisfies|states|says)\b"
)
_SECOND = re.compile(
    r"[)\]}*_`$.\s]*(?:,|;|/|&|\band\b|\bor\b|\+)[\s*_`$(\[\"']*(?:(?:and|or)\s)?(?:option\s|choice\s)?[(\[]?[A-D](?![\w'-])(?!\s[a-z])",
)


def letter(text: str) -> str | None:
    """The letter of an option that an answer starts with: `B`, `(b)`, `B) because`; None for none or several."""
    prefix = _PREFIX.match(text[:400])
    at = prefix.end()
    if not re.match(r"[A-Da-d](?![\w'-])", text[at : at + 2]):
        return None
    found, rest = text[at], text[at + 1 : at + 400]
    if found.islower() and not re.search(r"[(\[{:]\s?$", text[:at]) and not re.match(r"\s*[).\]}*]|\s*$", rest):
        return None
    if not _STOPS.match(rest) or _SECOND.match(rest):
        return None
    return found.upper()
