"""The letter of an option that an answer names."""

import re

LETTERS = "ABCD"  # of the options of a question
_PREFIX = re.compile(
    r"[\s*_`$({\[\"']*"
    r"(?:i (?:think|believe|guess|say)\s+)?"
    r"(?:(?:it|the|is|it's|most|likely|definitely|clearly|probably|surely)\s+){0,4}(?:(?:correct|right|best|final)\s+)?"
    r"(?:(?:option|choice|answer|letter|statement)\b[\s*_]*(?:is|:)?\s*){0,3}"
    r"[\s*_`$({\[\"'\\]*(?:boxed\{|text\w*\{|mathrm\{|mathbf\{|\\){0,3}[\s({\[*]*",
    re.I,
)
# What may follow a letter that is the answer.
_STOPS = re.compile(
    r"[\s)\]}*_`$\"'.!\\]*(?:$|[,;:—–|]|\s-\s|\s?\()|[)\]}]|[.!](?:\s|$)|\*\*"
    r"|\s+(?:because|since|as|was|due|given|for|by|which|would|being|according|seems|appears|therefore|so|but|and not"
    r"|rather than|from|matches|fits|where|follows|with|only|holds|satisfies|states|says"
    r"|is(?!\s+(?:not|in|un|wrong|false|im|ruled|excluded|out\b|incorrect)))\b"
)
_SECOND = re.compile(
    r"[)\]}*_`$.\s]*(?:,|;|/|&|\band\b(?! not)|\bor\b|\+)[\s*_`$(\[\"']*(?:(?:and|or)\s)?(?:option\s|choice\s)?"
    r"[(\[]?[A-D](?![\w'-])(?!\s[a-z])",
)
_REFUSED = re.compile(
    r"[)\]}*_`$\s]*is\s+(?:not|in|un|wrong|false|im|ruled|excluded|out\b)"
)


def letter(text: str) -> str | None:
    """The letter of an option that an answer starts with: `B`, `(b)`, `B) because`; None for none or several."""
    at = _PREFIX.match(text[:400]).end()
    if not re.match(r"[A-Da-d](?![\w'-])", text[at : at + 2]):
        return None
    found, rest = text[at], text[at + 1 : at + 400]
    bracketed = re.search(r"[(\[{:]\s?$", text[:at]) or re.match(
        r"\s*[).\]}*]|\s*$", rest
    )
    if found.islower() and not bracketed:
        return None
    if not _STOPS.match(rest) or _SECOND.match(rest) or _REFUSED.match(rest):
        return None
    return found.upper()
