r"""Where the answer of a completion stands, for every task and everybody who asks. No `eval`; linear time.

The last of: `<answer>..</answer>`, `[ANSWER]..[/ANSWER]`, `\boxed{}`, `####`, `Answer:` in its many forms
(a heading, bold, another language) and sentences such as `the answer is`. What is thought aloud between
`<think>` and `</think>` is no answer, and a text that never stops thinking has none.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from fr.tasks import markers
from fr.tasks.letters import letter

CUE = "Answer:"  # the line that worked examples end with; forcing it asks for an answer at once
ANSWER = "answer"  # the word before the expression that ends a Countdown trace
THINK = "<think>"  # what a template may write itself at the end of a prompt
TAIL = 16  # tokens at the end of a prompt that are looked at for it

MAX_CHARACTERS = 1_000_000  # of a completion, counted from its end
MAX_REFERENCE = 4000  # characters of a right answer
_SHORT = 80  # characters of a line that may be an answer without a marker
_LINE = 2000  # characters of an answer on one line
_LONG = 40_000  # ... or in a display or a block of code
_FIRST, _RECENT = 32, 64  # markers of one kind that are looked at

KINDS = ("math", "letter", "literal", "lines", "expression")
MATH, LETTER, LITERAL, LINES, EXPRESSION = KINDS


_KIND_OF = {"countdown": EXPRESSION, "gpqa": LETTER, "cruxeval": LITERAL}


def kind_of(task: str) -> str:
    """The kind of the answers of a task."""
    return LINES if task.startswith("reasoning_gym") else _KIND_OF.get(task, MATH)


class Found(NamedTuple):
    """An answer in a completion; places are characters of it."""

    start: int  # of the marker before it
    begin: int  # of the answer
    end: int  # after it
    text: str  # as it is written, without Markdown around it
    how: str  # tag, box, line, heading, hashes, prose, choice or bare
    rest: str  # from the answer to the end of what the model says


def find(completion: str, kind: str = MATH) -> Found | None:
    """The answer that a completion ends with, or None.

    Args:
      completion: the new text of an attempt.
      kind: of the answer: `math` (values and words), `letter` (of an option), `literal` (of
        Python), `lines` (all that follows the marker) or `expression` (of Countdown).
    """
    offset = max(0, len(completion) - MAX_CHARACTERS)
    # only the beginning of a thought can lie outside the window
    if (
        offset
        and THINK in completion[:offset]
        and completion.rfind("</think>") < completion.rfind(THINK)
    ):
        return None
    text = completion[offset:]
    if kind != LITERAL and not text.isascii():
        text = text.translate(markers.FULL_WIDTH)
    part = own_part(text)
    if part is None:
        return None
    found = _last(text[part[0] : part[1]], kind)
    if found is None:
        return None
    shift = offset + part[0]
    return found._replace(
        start=found.start + shift, begin=found.begin + shift, end=found.end + shift
    )


def final_answer(completion: str, kind: str = MATH) -> str | None:
    """The text of the answer that a completion ends with, as written, or None (`find`)."""
    found = find(completion, kind)
    return found.text if found else None


def own_part(text: str) -> tuple[int, int] | None:
    """Where the part of a text lies that may hold an answer, after its thoughts; None while it is thinking."""
    start, thinking = 0, False
    for match in markers.THINKING.finditer(text):
        thinking = not _closes(match)
        start = start if thinking else match.end()
    if thinking:
        return None
    ends = markers.TURN_ENDS.search(text, start)
    return start, ends.start() if ends and text[start : ends.start()].strip() else len(
        text
    )


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside of a thought that its template has begun."""
    tail, last = prompt[-200:], None
    for last in markers.THINKING.finditer(tail):
        continue
    return bool(last and not _closes(last) and not tail[last.end() :].strip())


def boxed_parts(text: str) -> list[str]:
    """The contents of the last boxes of a solution that hold its answer together."""
    return [found.text for found in _joined(text, _boxes(text, whole=True))]


def _closes(match: re.Match) -> bool:
    return any(match[name] for name in ("close", "close2", "close3", "close4"))


def _last(text: str, kind: str) -> Found | None:
    found = sorted(_candidates(text, kind), key=_order)
    inner = [(one.start, one.end) for one in found if one.how in ("box", "tag")]
    found = [
        one
        for one in found
        if one.how in ("box", "tag") or not any(a < one.start < b for a, b in inner)
    ]
    if found and (nexts := markers.NEXT_QUESTION.search(text, found[0].end)):
        text = text[: nexts.start()]
        found = [one for one in found if one.begin < nexts.start()]
    chosen = None
    for one in found:
        if chosen is None or not _remark(one, kind):
            chosen = one
    if chosen is None:
        return _bare(text, kind)
    return chosen._replace(rest=text[chosen.begin :].strip())


def _order(one: Found) -> tuple[int, bool]:
    """By place; a tag counts from its end, so that markers inside of it do not outrank it."""
    return (one.end if one.how == "tag" else one.begin), one.how in ("tag", "box")


def _remark(one: Found, kind: str) -> bool:
    """Whether a sentence after an answer only says something about it: it states no value and no name."""
    if one.how == "prose" and kind in (MATH, LINES):
        return bool(re.match(r"[a-z]{2,}(?![\w(]*\()|a ", one.text)) and not re.match(
            r"[^.]{0,40}\d", one.text
        )
    return one.how == "hashes" and bool(re.match(r"[A-Za-z]", one.text))


def _candidates(text: str, kind: str) -> Iterator[Found]:
    if boxes := _boxes(text):
        yield _together(_joined(text, boxes), kind)
    yield from _tags(text, kind)
    if kind == EXPRESSION:
        for match in _some(markers.EXPRESSION, text):
            yield from (
                one
                for one in _stated(text, match, "line", kind)
                if _readable(one, kind)
            )
        return
    headings = []
    for match in _some(markers.HEADING, text):
        headings.append(match.span())
        yield from _stated(text, match, "heading", kind)
    for match in _some(markers.COLON, text):
        inside = any(a <= match.start() < b for a, b in headings)
        if not inside and not (kind == LETTER and match[0].upper() == "A:"):
            yield from _stated(text, match, "line", kind)
    for match in _some(markers.HASHES, text):
        if not markers.NO_HASHES.match(text[match.end() : match.end() + 120]):
            yield from _stated(text, match, "hashes", kind)
    for pattern, how in ((markers.PROSE, "prose"), (markers.CHOICE, "choice")):
        for match in _some(pattern, text) if how == "prose" or kind == LETTER else ():
            yield from (
                one for one in _stated(text, match, how, kind) if _readable(one, kind)
            )


def _some(pattern: re.Pattern, text: str) -> list[re.Match]:
    """The first and the last places where a pattern occurs."""
    found = list(pattern.finditer(text))
    return (
        found if len(found) <= _FIRST + _RECENT else found[:_FIRST] + found[-_RECENT:]
    )


def _readable(one: Found, kind: str) -> bool:
    """Whether a sentence states an answer of the kind that is wanted."""
    if kind == LETTER:
        return letter(one.text) is not None
    if kind == LITERAL:
        return bool(
            re.match(r"[\[({'\"\d`$*+-]|b'|True|False|None|f\(|assert", one.text)
        )
    if kind == EXPRESSION:
        dress = r"[\s$*`_({\[]*(?:\\(?:\(|\[|left|[dt]?frac|boxed|text\w*)[\s({\[]*)*"
        return bool(re.match(dress + r"[\d(\[{-]", one.text))
    return not re.match(
        r"(?:not|never|wrong|unclear|unknown|obvious|clear|correct|as follows|the following)\b",
        one.text,
    )


def _stated(text: str, match: re.Match, how: str, kind: str) -> Iterator[Found]:
    """The answer after a marker: its line, the next one that is not empty, or the display that begins there."""
    begin = markers.GAP.match(text, match.end()).end()
    long = kind == LITERAL or text.startswith(("\\", "$", "`"), begin)
    rest = text[begin : begin + (_LONG if long else _LINE)]
    if not rest or rest[0].isspace() or markers.ANOTHER.match(rest[:60]):
        return
    end = begin + _extent(rest, kind)
    content = text[begin:end].strip()
    if match[0].rstrip().endswith(('":', "':")):  # JSON
        content = re.split(r"[,}\n]", content)[0]
    if content.startswith("not ") or not content.strip("*_`#. \t"):
        return
    yield Found(match.start(), begin, end, _trimmed(content), how, "")


def _extent(rest: str, kind: str) -> int:
    """How long the answer is that a text begins with: a display, a fenced block, a literal, or a line."""
    if fence := markers.FENCE.match(rest):
        close = rest.find("```", fence.end())
        return close + 3 if close > 0 else len(rest)
    line = rest.find("\n")
    line = len(rest) if line < 0 else line
    if kind == LITERAL and rest[0] in "[({" and (length := literal_length(rest)) > line:
        return length
    for opening, closing in markers.DISPLAYS.items():
        place = rest.find(opening, 0, line)
        if place >= 0:
            close = rest.find(closing, place + len(opening))
            if close >= line:
                after = rest.find("\n", close)
                return after if after >= 0 else len(rest)
    return line


def literal_length(text: str) -> int:
    """How long the Python literal is that a text begins with; 0 without an end."""
    depth, quote, at = 0, "", 0
    while at < len(text):
        c = text[at]
        if quote:
            at += c == "\\"
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "[({") - (c in "])}")
        at += 1
        if not depth and not quote and (c in "])}'\""):
            return at
    return 0


def _trimmed(content: str) -> str:
    content = content.strip()
    if fence := markers.FENCE.match(content):
        return content[fence.end() :].removesuffix("```").strip()
    if content.endswith("**") and content.count("**") % 2:
        content = content[:-2].rstrip()
    return content


def _tags(text: str, kind: str) -> Iterator[Found]:
    opened = None
    for match in markers.TAG.finditer(text):
        if not (match[1] or match[2]):
            opened = match
        elif opened:
            yield from _tagged(text, opened, match.start(), kind)
            opened = None
    if opened:  # the closing tag may have been what ended the text
        stop = text.find("<", opened.end())
        yield from _tagged(text, opened, stop if stop > 0 else len(text), kind)


def _tagged(text: str, opened: re.Match, end: int, kind: str) -> Iterator[Found]:
    inside = text[opened.end() : end]
    if not inside.strip():
        return
    begin = opened.end() + len(inside) - len(inside.lstrip())
    content = _trimmed(inside)
    boxes = _boxes(content) if kind != LITERAL else []
    content = (
        _together(_joined(content, boxes), kind).text
        if boxes
        else _unmarked(content, kind)
    )
    yield Found(opened.start(), begin, end, content, "tag", "")


def _unmarked(content: str, kind: str) -> str:
    """What a box or a tag holds, without a marker of its own: `The answer is 42`."""
    if kind != MATH or len(content) > 400:
        return content
    inner = markers.COLON.match(content) or markers.PROSE.search(
        re.sub(r"\\text\w*\{", " ", content[:80])
    )
    if not inner:
        return content
    rest = (
        content[inner.end() :]
        if inner.re is markers.COLON
        else re.split(inner[0].strip()[-6:], content)[-1]
    )
    return rest.strip(" }\t\n*") or content


def _boxes(text: str, whole: bool = False) -> list[Found]:
    """Boxes that are closed and in no other; none where the last is left open, unless the text is known `whole`."""
    if "boxed" not in text:
        return []
    found, stack = [], []
    for match in markers.BRACES.finditer(text):
        if match["brace"]:
            stack.append(match)
        elif match["open"]:
            stack.append(None)
        elif match["shut"] and stack:
            box = stack.pop()
            content = text[box.end() : match.start()] if box is not None else ""
            if content.strip() and not any(other is not None for other in stack[-20:]):
                lead = len(content) - len(content.lstrip())
                found.append(
                    Found(
                        box.start(),
                        box.end() + lead,
                        match.start(),
                        content.strip(),
                        "box",
                        "",
                    )
                )
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: one.start):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    open_at = [box.start() for box in stack if box is not None]
    return [] if not whole and open_at and kept and open_at[-1] > kept[-1].end else kept


def _joined(text: str, boxes: list[Found]) -> list[Found]:
    """The last boxes between which only `and`, commas and names stand; equal ones once."""
    chosen: list[Found] = boxes[-1:]
    for one in reversed(boxes[-40:-1]):
        gap = text[one.end + 1 : chosen[0].start]
        if len(gap) > 200 or not markers.JOINT.fullmatch(gap) or gap.count("\n") > 4:
            break
        chosen.insert(0, one)
    texts = [one.text for one in chosen]
    return [one for i, one in enumerate(chosen) if one.text not in texts[:i]]


def _together(boxes: list[Found], kind: str) -> Found:
    first, last = boxes[0], boxes[-1]
    text = ", ".join(one.text for one in boxes)
    return Found(first.start, first.begin, last.end, _unmarked(text, kind), "box", "")


def _bare(text: str, kind: str) -> Found | None:
    """A completion of one short line, or of one block of code, is its own answer."""
    line = text.strip()
    content = _trimmed(line)
    if (
        not content
        or kind == EXPRESSION
        or markers.COLON.search(line)
        or markers.PROSE.search(line)
    ):
        return None
    if content == line and (
        len(line) > _SHORT
        or "\n" in line
        and not (kind == LITERAL and line[0] in "[({")
    ):
        return None
    if len(content) > _LINE or "\\boxed" in line or markers.TAG.search(line):
        return None
    begin = text.find(content)
    return Found(begin, begin, begin + len(content), content, "bare", content)
