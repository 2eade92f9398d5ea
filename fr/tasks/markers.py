"""Words and signs that stand before an answer, or end what a model says: regular expressions in linear time."""

import re

_WORD = (
    r"(?<![A-Za-z])(?:answers?|antwort|lösung|réponse|respuesta|risposta|resposta|ответ|答案|答え|回答)"
    r"(?![A-Za-z])"
)
_DRESS = r"[*_`\"')\]]{0,4}"
_ADVERBS = (
    r"(?:[ \t](?:therefore|thus|then|hence|indeed|now|simply|just|also|clearly|exactly|definitely|probably|surely"
    r"|likely|most likely))?"
)

THINKING = re.compile(
    r"<(?P<close>/)?(?:think|thinking|thought|reasoning|reflection|scratchpad)>"
    r"|\[(?P<close2>/)?THINK\]|◁think▷|(?P<close3>◁/think▷)"
    r"|<\|(?:begin_of_|(?P<close4>/|end_of_))?(?:think|thought)\|>",
    re.IGNORECASE,
)
TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|endoftext|end|end_of_text|eom_id|user|assistant)\|>|</s>"
    r"|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)
# A model that goes on with a question of its own has left the one that it was asked.
NEXT_QUESTION = re.compile(
    r"^[ \t]{0,9}[*_#]{0,4}[ \t]?(?:question|q|user|human|problem|exercise)\b[ \t]?\d{0,9}[*_]{0,2}[ \t]?:"
    r"|^#{1,6}[ \t]{0,9}(?:question|problem|exercise|user|human)\b"
    r"|^[ \t]{0,9}End with a line \"|^\d{1,9}(?: \d{1,9})+ -> \d{1,9} :",
    re.IGNORECASE | re.MULTILINE,
)
COLON = re.compile(
    rf"{_WORD}(?:[ \t]\(?(?:in|to|for|as)\b[^\n:.]{{0,40}})?{_DRESS}[ \t]{{0,9}}(?:[:=]|是|为|は)|^(?:A|Ans)\.?:",
    re.I | re.MULTILINE,
)
PROSE = re.compile(
    rf"{_WORD}(?:[ \t](?:to|for|of|here|in|that)\b[^.\n:]{{0,80}}?)?{_DRESS}[ \t]{{1,9}}"
    r"(?:is|are|equals|ist|est|es|è|é|seems to be|appears to be|must be|should be|would be|will be|comes to)\b"
    rf"{_ADVERBS}[ \t]{{0,9}}:?",
    re.I,
)
HEADING = re.compile(
    rf"^[ \t]{{0,3}}(?:#{{1,6}}[ \t]{{0,9}}|\*\*|__)?(?:\d\.[ \t])?[*_]{{0,2}}(?:the[ \t])?"
    rf"(?:final[ \t]|correct[ \t])?{_WORD}[*_]{{0,2}}[ \t]{{0,9}}:?[*_]{{0,2}}[ \t]{{0,9}}$",
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
    r"\b(?:(?:correct|right|best|chosen|final|my)[ \t]){1,2}(?:option|choice|statement|letter|selection)\b"
    r"[*_]{0,2}[ \t]{0,9}(?:(?:is|would be|must be|seems to be)\b|:)"
    r"|\b(?:option|choice)[*_]{0,2}[ \t]{0,9}:"
    r"|\bI(?:'d|'ll| would| will| shall)?[ \t](?:therefore |thus )?(?:choose|chose|pick|picked|select|selected"
    r"|go with|opt for|am going with|settle on)\b"
    r"|\bgo(?:ing)? with(?= (?:option|choice|\(?[A-D]\b))"
    r"|(?<!\w)(?=(?:(?:option|choice)[ \t])?\(?[A-D]\)?[ \t](?:is|would be|must be)[ \t](?:the[ \t])?"
    r"(?:only[ \t])?(?:correct|right|best|final|answer))",
    re.I,
)
# The marker of Countdown's own traces needs no colon. Not `</answer>`: a closing tag starts no answer.
EXPRESSION = re.compile(
    rf"(?<![/A-Za-z]){_WORD}{_DRESS}\s*(?:is\b)?[\s:>]*|^A:", re.I | re.MULTILINE
)
TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>|\[(/?)ANSWER\]", re.I)
BRACES = re.compile(
    r"\\f?boxed[ \t]{0,9}(?P<brace>\{)|\\(?P<escape>.)|(?P<open>\{)|(?P<shut>\})",
    re.DOTALL,
)
FENCE = re.compile(r"```[\w+-]*[ \t]*\n?")
DISPLAYS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)", "\\begin{": "\\end{"}
GAP = re.compile(r"(?:[ \t\r*_>:]|\n(?!\n\n\n)){0,200}")
# What may stand between boxes that hold one answer together.
JOINT = re.compile(
    r"(?:[\s$,;.:()&]|\\[()\[\],;! ]|\\(?:text|textrm|mathrm|mbox)\{\s?(?:and|or)\s?\}|\\q?quad\b"
    r"|\b(?:and|or|und|oder|as well as)\b|\b[A-Za-z](?:_\{?\w\}?)?\s?=)*"
)
# Full-width forms of ASCII and other brackets, one character for one, so that places stay.
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    "【】〔〕。、", "[][].,"
)
