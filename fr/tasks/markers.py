"""Signs and words before an answer or after it, as regular expressions in linear time.

Kinds of answers, and the letter of an option that an answer names.
"""

import re

KINDS = ("math", "letter", "literal", "lines", "expression")
MATH, LETTER, LITERAL, LINES, EXPRESSION = KINDS

_WORD = (
    r"(?<![A-Za-z])(?:answers?|antwort|lösung|réponse|respuesta|risposta|resposta"
    r"|ответ|答案|答え|回答)"
    r"(?![A-Za-z])"
)
_MARKUP = r"[*_`\"')\]]{0,4}"
_ADVERBS = (
    r"(?:[ \t](?:therefore|thus|then|hence|indeed|now|simply|just|also|clearly"
    r"|exactly|definitely|probably|surely|likely|most likely))?"
)

THINKING = re.compile(
    r"<(?P<close>/)?(?:think|thinking|thought|reasoning|reflection|scratchpad)>"
    r"|\[(?P<close2>/)?THINK\]|◁think▷|(?P<close3>◁/think▷)"
    r"|<\|(?:begin_of_|(?P<close4>/|end_of_))?(?:think|thought)\|>",
    re.IGNORECASE,
)
TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|endoftext|end|end_of_text|eom_id|user|assistant)\|>"
    r"|</s>|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)
# A model that goes on with another question has finished the one that it was asked.
NEXT_QUESTION = re.compile(
    r"^[ \t]{0,9}[*_#]{0,4}[ \t]?(?:question|q|user|human|problem|exercise)\b"
    r"[ \t]?\d{0,9}[*_]{0,2}[ \t]?:"
    r"|^#{1,6}[ \t]{0,9}(?:question|problem|exercise|user|human)\b"
    r"|^[ \t]{0,9}End with a line \"|^\d{1,9}(?: \d{1,9})+ -> \d{1,9} :",
    re.IGNORECASE | re.MULTILINE,
)
COLON = re.compile(
    rf"{_WORD}(?:[ \t]\(?(?:in|to|for|as)\b[^\n:.]{{0,40}})?{_MARKUP}[ \t]{{0,9}}"
    r"(?:[:=]|是|为|は)|^(?:A|Ans)\.?:",
    re.I | re.MULTILINE,
)
PROSE = re.compile(
    rf"{_WORD}(?:[ \t](?:to|for|of|here|in|that)\b[^.\n:]{{0,80}}?)?{_MARKUP}"
    r"[ \t]{1,9}(?:is|are|equals|ist|est|es|è|é|seems to be|appears to be|must be"
    r"|should be|would be|will be|comes to)\b"
    rf"{_ADVERBS}[ \t]{{0,9}}:?",
    re.I,
)
HEADING = re.compile(
    r"^[ \t]{0,3}(?:#{1,6}[ \t]{0,9}|\*\*|__)?(?:\d\.[ \t])?[*_]{0,2}(?:the[ \t])?"
    rf"(?:final[ \t]|correct[ \t])?{_WORD}"
    r"[*_]{0,2}[ \t]{0,9}:?[*_]{0,2}[ \t]{0,9}$",
    re.I | re.MULTILINE,
)
ANOTHER = re.compile(
    rf"(?:#+[ \t]*)?(?:\*\*)?(?:final )?{_WORD}[*_]{{0,2}}[ \t]*[:=]", re.I
)
HASHES = re.compile(r"^[ \t]{0,9}####(?!#)[ \t]{0,9}", re.MULTILINE)
# `#### 3. Check` is a heading
NO_HASHES = re.compile(
    r"\D{0,40}\d+[.:)]\s+\w|\**(?:final\s|the\s)*(?:answer|step)", re.I
)
CHOICE = re.compile(
    r"\b(?:(?:correct|right|best|chosen|final|my)[ \t]){1,2}"
    r"(?:option|choice|statement|letter|selection)\b"
    r"[*_]{0,2}[ \t]{0,9}(?:(?:is|would be|must be|seems to be)\b|:)"
    r"|\b(?:option|choice)[*_]{0,2}[ \t]{0,9}:"
    r"|\bI(?:'d|'ll| would| will| shall)?[ \t](?:therefore |thus )?"
    r"(?:choose|chose|pick|picked|select|selected|go with|opt for"
    r"|am going with|settle on)\b"
    r"|\bgo(?:ing)? with(?= (?:option|choice|\(?[A-D]\b))"
    r"|(?<!\w)(?=(?:(?:option|choice)[ \t])?\(?[A-D]\)?[ \t]"
    r"(?:is|would be|must be)[ \t](?:the[ \t])?(?:only[ \t])?"
    r"(?:correct|right|best|final|answer))",
    re.I,
)
# The marker of Countdown's own traces needs no colon. `</answer>` does not match.
COUNTDOWN = re.compile(
    rf"(?<![/A-Za-z]){_WORD}{_MARKUP}\s*(?:is\b)?[\s:>]*|^A:", re.I | re.MULTILINE
)
TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>|\[(/?)ANSWER\]", re.I)
BRACES = re.compile(
    r"\\f?boxed[ \t]{0,9}(?P<brace>\{)|\\(?P<escape>.)|(?P<open>\{)|(?P<shut>\})",
    re.DOTALL,
)
FENCE = re.compile(r"```[\w+-]*[ \t]*\n?")
DISPLAYS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)", "\\begin{": "\\end{"}
GAP = re.compile(r"(?:[ \t\r*_>:]|\n(?!\n\n\n)){0,200}")
# Text between boxes that hold one answer together.
JOINT = re.compile(
    r"(?:[\s$,;.:()&]|\\[()\[\],;! ]|\\(?:text|textrm|mathrm|mbox)\{\s?(?:and|or)\s?\}"
    r"|\\q?quad\b|\b(?:and|or|und|oder|as well as)\b|\b[A-Za-z](?:_\{?\w\}?)?\s?=)*"
)
# Full-width forms of ASCII and other brackets, one character each: positions stay.
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    "【】〔〕。、", "[][].,"
)


LETTERS = "ABCD"  # of the options of a question
_PREFIX = re.compile(
    r"[\s*_`$({\[\"']*"
    r"(?:i (?:think|believe|guess|say)\s+)?"
    r"(?:(?:it|the|is|it's|most|likely|definitely|clearly|probably|surely)\s+){0,4}"
    r"(?:(?:correct|right|best|final)\s+)?"
    r"(?:(?:option|choice|answer|letter|statement)\b[\s*_]*(?:is|:)?\s*){0,3}"
    r"[\s*_`$({\[\"'\\]*(?:boxed\{|text\w*\{|mathrm\{|mathbf\{|\\){0,3}[\s({\[*]*",
    re.I,
)
# Text that may follow a letter that is the answer.
_STOPS = re.compile(
    r"[\s)\]}*_`$\"'.!\\]*(?:$|[,;:—–|]|\s-\s|\s?\()|[)\]}]|[.!](?:\s|$)|\*\*"
    r"|\s+(?:because|since|as|was|due|given|for|by|which|would|being|according|seems"
    r"|appears|therefore|so|but|and not"
    r"|rather than|from|matches|fits|where|follows|with|only|holds|satisfies|states"
    r"|says|is(?!\s+(?:not|in|un|wrong|false|im|ruled|excluded|out\b|incorrect)))\b"
)
_SECOND = re.compile(
    r"[)\]}*_`$.\s]*(?:,|;|/|&|\band\b(?! not)|\bor\b|\+)[\s*_`$(\[\"']*"
    r"(?:(?:and|or)\s)?(?:option\s|choice\s)?"
    r"[(\[]?[A-D](?![\w'-])(?!\s[a-z])",
)
_REFUSED = re.compile(
    r"[)\]}*_`$\s]*is\s+(?:not|in|un|wrong|false|im|ruled|excluded|out\b)"
)


def option_letter(text: str) -> str | None:
    """Letter of an option that an answer starts with: `B`, `(b)`, `B) because`.

    Args:
        text: An answer.

    Returns:
        One of `LETTERS`; None for no letter or for several.
    """
    prefix = _PREFIX.match(text[:400])
    at = prefix.end() if prefix else 0
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
