r"""Where the answer of a completion stands, for every task and everybody who asks. No `eval`; linear time.

The last of: `<answer>..</answer>`, `[ANSWER]..[/ANSWER]`, `\boxed{}`, `####`, `Answer:` in its many forms
(a heading, bold, another language) and sentences such as `the answer is`. What is thought aloud between
`<think>` and `</think>` is no answer, and neither is a text that never stops thinking.
"""

import re
from typing import NamedTuple

from fr.tasks.letters import letter

CUE = "Answer:"  # the line that worked examples end with; forcing it asks for an answer at once
THINK = "<think>"  # what a template may write itself at the end of a prompt

MAX_CHARACTERS = 1_000_000  # of a completion, counted from its end
MAX_REFERENCE = 4000  # characters of a right answer
_SHORT = 80  # characters of a line that may be an answer without a marker
_LINE = 2000  # characters of an answer on one line
_LONG = 40_000  # ... or in a display or a block of code
_FIRST, _RECENT = 32, 64  # markers of one kind that are looked at

MATH, LETTER, LITERAL, LINES = KINDS = ("math", "letter", "literal", "lines")

_THINKING = re.compile(
    r"<(?P<close>/)?(?:think|thinking|thought|reasoning|reflection|scratchpad)>"
    r"|\[(?P<close2>/)?THINK\]|(?P<open3>◁think▷)|(?P<close3>◁/think▷)"
    r"|<\|(?P<close4>/)?(?:begin_of_|end_of_)?(?:think|thought)\|>",
    re.IGNORECASE,
)
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|endoftext|end|end_of_text|eom_id|user|assistant)\|>|</s>|<end_of_turn>|<eos>"
    r"|<｜end▁of▁sentence｜>"
)
# A model that goes on with a question of its own has left the one that it was asked.
_NEXT_QUESTION = re.compile(
    r"^[ \t]{0,9}[*_#]{0,4}[ \t]?(?:question|q|user|human|problem|exercise)\b[ \t]?\d{0,9}[*_]{0,2}[ \t]?:",
    re.IGNORECASE | re.MULTILINE,
)
_WORD = r"(?:answers?|antwort|lösung|réponse|respuesta|risposta|resposta|ответ|答案)"
_DRESS = r"[*_`\"')\]]{0,4}"
_COLON = re.compile(
    rf"\b{_WORD}\b(?:[ \t]\(?(?:in|to|for|as)\b[^\n:.]{{0,40}})?{_DRESS}[ \t]{{0,9}}[:=：]", re.I
)
_PROSE = re.compile(
    rf"\b{_WORD}\b(?:[ \t](?:to|for|of|here|in|that)\b[^.\n:]{{0,80}}?)?{_DRESS}[ \t]{{1,9}}"
    r"(?:is|are|equals|ist|est|es|seems to be|appears to be|must be|should be|would be|will be|comes to)\b"
    r"(?:[ \t](?:therefore|thus|then|hence|indeed|now|simply|just|also|clearly|exactly))?[ \t]{0,9}:?",
    re.I,
)
_HEADING = re.compile(
    rf"^[ \t]{{0,3}}(?:#{{1,6}}[ \t]*|\*\*|__)(?:\d\.[ \t])?[*_]{{0,2}}(?:the[ \t])?(?:final[ \t]|correct[ \t])?"
    rf"{_WORD}[*_]{{0,2}}[ \t]*:?[*_]{{0,2}}[ \t]*$",
    re.I | re.MULTILINE,
)
_HASHES = re.compile(r"^[ \t]{0,9}####(?!#)[ \t]*", re.MULTILINE)
_CHOICE = re.compile(
    r"\b(?:(?:correct|right|best|chosen|final|my)[ \t]){1,2}(?:option|choice|statement|letter|selection)\b"
    r"[*_]{0,2}[ \t]{0,9}(?:(?:is|would be|must be|seems to be)\b|:)"
    r"|\b(?:option|choice)[*_]{0,2}[ \t]{0,9}:"
    r"|\bI(?:'d|'ll| would| will| shall)?[ \t](?:therefore |thus )?(?:choose|chose|pick|picked|select|selected"
    r"|go with|opt for|am going with|settle on)\b"
    r"|\bgo(?:ing)? with(?= (?:option|choice|\(?[A-D]\b))",
    re.I,
)
_LETTER_FIRST = re.compile(
    r"(?=(?:option|choice)[ \t]\(?[A-D]\)?[ \t](?:is|would be)[ \t](?:the[ \t])?(?:correct|right|best))", re.I
)
_GAP = re.compile(r"(?:[ \t\r*_>:]|\n(?!\n\n\n)){0,200}")
_TAG = re.compile(r"<(/?)answer>|\[(/?)ANSWER\]", re.I)
_BOX = re.compile(r"\\f?boxed[ \t]{0,9}(?P<brace>\{)|\\(?P<escape>.)|(?P<open>\{)|(?P<shut>\})", re.DOTALL)
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?")
_DISPLAYS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)", "\\begin{": "\\end{"}
# What may stand between boxes that hold one answer together.
_JOINT = re.compile(
    r"(?:[\s$,;.:()&]|\\[()\[\],;! ]|\\(?:text|textrm|mathrm|mbox)\{\s?(?:and|or)\s?\}|\\q?quad\b"
    r"|\b(?:and|or|und|oder|as well as)\b|\b[A-Za-z](?:_\{?\w\}?)?\s?=)*"
)
_AGAIN = re.compile(r"\s*(?:[$.,;:()]|\\[()\[\]])*\s*$")
# A closing remark says something about the answer, not what it is.
_REMARKS = re.compile(
    r"(?:(?:indeed|also|thus|then|hence|now|both|quite|very|so|really|in fact|already|again|as|not|what|that|this"
    r"|these|those|which|where|why|how|because|since|if|when|based|by|in|on|at|to|from|with|without|consistent"
    r"|correct|incorrect|right|wrong|obvious|clear|evident|plausible|reasonable|unique|valid|verified|confirmed"
    r"|checked|simple|same|the same|the one|the result|the sum|the value|the number|only|likely|probably|given"
    r"|found|obtained|determined|derived|shown|stated|boxed|above|below|here|therefore|an? |one of|exact|sound"
    r"|final|good|ok|okay|fine|complete|done|sure|certain|unclear|unknown|in the|your|my|our|its|straightforward"
    r"|easy|immediate|trivial|expected|provided|supported|justified|rounded|expressed|independent|up to you)\b"
    r"|[a-z]{3,}(?:ly|able|ible|ized|ised)\b)",
    re.I,
)
_TAKEN_BACK = re.compile(r"(?:not|n't|never|wrong|unclear|unknown)\b", re.I)


class Found(NamedTuple):
    """An answer in a completion; places are characters of it."""

    start: int  # of the marker before it
    begin: int  # of the answer
    end: int  # behind it
    text: str  # as it is written, without Markdown around it
    how: str  # tag, box, line, heading, hashes, prose, choice or bare
    rest: str  # from the answer to the end of what the model says


def find(completion: str, kind: str = MATH) -> Found | None:
    """The answer that a completion ends with, or None.

    Args:
      completion: the new text of an attempt.
      kind: of the answer: `math` (values and words), `letter` (of an option), `literal` (of
        Python) or `lines` (all that follows the marker).
    """
    offset = max(0, len(completion) - MAX_CHARACTERS)
    # only the beginning of a thought can lie outside the window
    if offset and completion.rfind(THINK) < offset and completion.rfind("</think>") < completion.rfind(THINK):
        return None
    part = own_part(completion[offset:])
    if part is None:
        return None
    text = completion[offset + part[0] : offset + part[1]]
    found = _last(text, kind)
    if found is None:
        return None
    shift = offset + part[0]
    return found._replace(start=found.start + shift, begin=found.begin + shift, end=found.end + shift)


def final_answer(completion: str, kind: str = MATH) -> str | None:
    """The text of the answer that a completion ends with, as written, or None (`find`)."""
    found = find(completion, kind)
    return found.text if found else None


def own_part(text: str) -> tuple[int, int] | None:
    """Where the part of a text lies that may hold an answer: behind its thoughts; None while it is thinking."""
    start, thinking = 0, False
    for match in _THINKING.finditer(text):
        closes = any(match[name] for name in ("close", "close2", "close3", "close4")) or "end_of" in match[0]
        start, thinking = (match.end() if closes else start), not closes
    if thinking:
        return None
    ends = _TURN_ENDS.search(text, start)
    return start, ends.start() if ends and text[start : ends.start()].strip() else len(text)


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside of a thought that its template has begun."""
    last = None
    for last in _THINKING.finditer(prompt[-200:]):
        continue
    return bool(last and not prompt[-200:][last.end() :].strip() and "/" not in last[0])


def boxed_parts(text: str) -> list[str]:
    """The contents of the last boxes of a solution that hold its answer together."""
    return [found.text for found in _joined(text, _boxes(text, whole=True))]


def _last(text: str, kind: str) -> Found | None:
    found = sorted(_candidates(text, kind), key=_order)
    if found:
        nexts = _NEXT_QUESTION.search(text, found[0].end)
        if nexts:
            text = text[: nexts.start()]
            found = [one for one in found if one.begin < nexts.start()]
    chosen = None
    for one in found:
        if chosen is None or not _weaker(one, chosen, kind):
            chosen = one
    if chosen is None:
        return _bare(text, kind)
    return chosen._replace(rest=text[chosen.begin :].strip())


def _order(one: Found) -> tuple[int, bool]:
    """By place; a tag counts from its end, so that markers inside of it do not outrank it."""
    return (one.end if one.how == "tag" else one.begin), one.how in ("tag", "box")


def _weaker(one: Found, before: Found, kind: str) -> bool:
    """Whether a later candidate is only a remark on an earlier answer."""
    if one.how in ("prose", "choice") and kind == MATH:
        return bool(_REMARKS.match(one.text)) and not re.match(r"[^a-z]*\d", one.text)
    if one.how == "hashes" and re.match(r"[A-Za-z]", one.text):
        return True
    return False


def _candidates(text: str, kind: str):
    boxes = _boxes(text)
    if boxes:
        joined = _joined(text, boxes)
        yield _together(joined)
    yield from _tags(text, kind)
    headings = []
    for match in _some(_HEADING, text):
        headings.append(match.span())
        yield from _stated(text, match, "heading")
    for match in _some(_COLON, text):
        if not any(a <= match.start() < b for a, b in headings):
            yield from _stated(text, match, "line")
    for match in _some(_HASHES, text):
        if not re.match(
            r"\D*\d+[.:)]\s+\w|\**(?:final\s|the\s)*(?:answer|step)",
            text[match.end() : match.end() + 80],
            re.I,
        ):
            yield from _stated(text, match, "hashes")
    for match in _some(_PROSE, text):
        for one in _stated(text, match, "prose"):
            if _readable(one, kind):
                yield one
    if kind == LETTER:
        for pattern in (_CHOICE, _LETTER_FIRST):
            for match in _some(pattern, text):
                for one in _stated(text, match, "choice"):
                    if letter(one.text):
                        yield one


def _some(pattern: re.Pattern, text: str) -> list[re.Match]:
    """The first and the last places where a pattern occurs."""
    found = list(pattern.finditer(text))
    return found if len(found) <= _FIRST + _RECENT else found[:_FIRST] + found[-_RECENT:]


def _readable(one: Found, kind: str) -> bool:
    if kind == LETTER:
        return letter(one.text) is not None
    if kind == LITERAL:
        return bool(re.match(r"[\[({'\"\d`$*+-]|b'|True|False|None", one.text))
    return not _TAKEN_BACK.match(one.text) and not (
        re.match(r"[a-z]", one.text)
        and re.match(r"(?:obvious|clear|correct|as follows|the following)\b", one.text)
    )


def _stated(text: str, match: re.Match, how: str):
    """The answer after a marker: its line, the next one that is not empty, or the display that begins there."""
    begin = _GAP.match(text, match.end()).end()
    rest = text[begin : begin + (_LONG if text.startswith(("\\", "$", "`"), begin) else _LINE)]
    if (
        not rest
        or rest[0].isspace()
        or re.match(rf"(?:#+[ \t]*)?(?:\*\*)?(?:final )?{_WORD}\b[*_]{{0,2}}[ \t]*[:=]", rest[:60], re.I)
    ):
        return
    end = begin + _extent(rest)
    content = text[begin:end].strip()
    if content.startswith("not ") or not content.strip("*_`#. \t"):
        return
    yield Found(match.start(), begin, end, _trimmed(content), how, "")


def _extent(rest: str) -> int:
    """How long the answer is that a text begins with: a display, a fenced block, or a line."""
    if fence := _FENCE.match(rest):
        close = rest.find("```", fence.end())
        return close + 3 if close > 0 else len(rest)
    line = rest.find("\n")
    line = len(rest) if line < 0 else line
    for opening, closing in _DISPLAYS.items():
        place = rest.find(opening, 0, line)
        if place >= 0:
            close = rest.find(closing, place + len(opening))
            if close >= line:
                after = rest.find("\n", close)
                return after if after >= 0 else len(rest)
    return line


def _trimmed(content: str) -> str:
    if fence := _FENCE.match(content):
        return content[fence.end() :].removesuffix("```").strip()
    content = content.strip()
    if content.endswith("**") and content.count("**") % 2:
        content = content[:-2].rstrip()
    return content


def _tags(text: str, kind: str):
    opened = None
    for match in _TAG.finditer(text):
        if not (match[1] or match[2]):
            opened = match
        elif opened:
            yield from _tagged(text, opened, match.start(), kind)
            opened = None
    if opened:  # the closing tag may have been what ended the text
        stop = text.find("<", opened.end())
        yield from _tagged(text, opened, stop if stop > 0 else len(text), kind)


def _tagged(text: str, opened: re.Match, end: int, kind: str):
    inside = text[opened.end() : end]
    if not inside.strip():
        return
    begin = opened.end() + len(inside) - len(inside.lstrip())
    content = _trimmed(inside)
    boxes = _boxes(content)
    if kind != LITERAL and boxes:
        content = _together(_joined(content, boxes)).text
    elif kind == MATH and (nested := _COLON.match(content) or _PROSE.search(content[:60])):
        content = content[nested.end() :].strip() or content
    yield Found(opened.start(), begin, end, content, "tag", "")


def _boxes(text: str, whole: bool = False) -> list[Found]:
    """Boxes that are closed and in no other; none where the last is left open, unless the text is known `whole`."""
    found, stack = [], []
    for match in _BOX.finditer(text):
        if match["brace"]:
            stack.append(match)
        elif match["open"]:
            stack.append(None)
        elif match["shut"] and stack:
            box = stack.pop()
            if box is not None:
                content = text[box.end() : match.start()]
                if content.strip():
                    lead = len(content) - len(content.lstrip())
                    found.append(
                        Found(box.start(), box.end() + lead, match.start(), content.strip(), "box", "")
                    )
    found.sort(key=lambda one: one.start)
    kept: list[Found] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    open_at = [box.start() for box in stack if box is not None]
    return [] if not whole and open_at and kept and open_at[-1] > kept[-1].end else kept


def _joined(text: str, boxes: list[Found]) -> list[Found]:
    """The last boxes between which only `and`, commas and names stand; equal ones once."""
    chosen: list[Found] = boxes[-1:]
    for one in reversed(boxes[:-1]):
        gap = text[one.end + 1 : chosen[0].start]
        if len(gap) > 200 or not _JOINT.fullmatch(gap) or gap.count("\n") > 4:
            break
        chosen.insert(0, one)
    texts = [one.text for one in chosen]
    return [one for i, one in enumerate(chosen) if one.text not in texts[:i]]


def _together(boxes: list[Found]) -> Found:
    first, last = boxes[0], boxes[-1]
    return Found(first.start, first.begin, last.end, ", ".join(one.text for one in boxes), "box", "")


def _bare(text: str, kind: str) -> Found | None:
    """A completion of one short line is its own answer; for numbers, what follows its last equals sign."""
    line = text.strip()
    if not line or len(line) > _SHORT or "\n" in line or _COLON.search(line) or _PROSE.search(line):
        return None
    if "\\boxed" in line or _TAG.search(line):
        return None
    begin = text.find(line)
    return Found(begin, begin, begin + len(line), line, "bare", line)
