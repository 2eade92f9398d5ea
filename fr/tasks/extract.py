r"""Extraction of the answer that a completion ends with; no `eval`, linear time.

It is the last of: `<answer>..</answer>`, `[ANSWER]..[/ANSWER]`, `\boxed{}`, `####`,
`Answer:` in many forms (a heading, bold, another language) and sentences such as
`the answer is`. Text between `<think>` and `</think>` is not searched, and a text that
never stops thinking has no answer.
"""

import re
from collections.abc import Iterator

from fr.tasks import markers
from fr.tasks.boxed import FoundAnswer, last_box, tags, unfenced
from fr.tasks.markers import EXPRESSION, LETTER, LINES, LITERAL, MATH, option_letter

CUE = "Answer:"  # the line that worked examples end with; forcing it asks for an answer
ANSWER = "answer"  # the word before the expression that ends a Countdown trace
THINK = "<think>"  # a template may write it at the end of a prompt
PROMPT_TAIL = 16  # tokens at the end of a prompt that are searched for it

MAX_CHARACTERS = 1_000_000  # of a completion, counted from its end
MAX_REFERENCE = 4000  # characters of a right answer
_SHORT = 80  # characters of a line that may be an answer without a marker
_LINE = 2000  # characters of an answer on one line
_LONG = 40_000  # ... or in a display or a block of code
_FIRST, _RECENT = 32, 64  # markers of one kind that are looked at

_KIND_OF = {
    "countdown": EXPRESSION,
    "maze": EXPRESSION,
    "gpqa": LETTER,
    "cruxeval": LITERAL,
}


def kind_of(task: str) -> str:
    """Kind of a task's answers.

    Args:
        task: Registered name of the task.

    Returns:
        One of `markers.KINDS`.
    """
    return LINES if task.startswith("reasoning_gym") else _KIND_OF.get(task, MATH)


def find_answer(completion: str, kind: str = MATH) -> FoundAnswer | None:
    """Find the answer that a completion ends with.

    Args:
        completion: New text of an attempt.
        kind: Kind of the answer: `math` (values and words), `letter` (of an option),
            `literal` (of Python), `lines` (all text after the marker) or `expression`
            (of Countdown; a plan of the maze).

    Returns:
        The answer or None.
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
    part = _own_part(text)
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
    """Text of the answer that a completion ends with.

    Args:
        completion: New text of an attempt.
        kind: Kind of the answer (`find_answer`).

    Returns:
        The answer as written, or None.
    """
    found = find_answer(completion, kind)
    return found.text if found else None


def opens_thought(prompt: str) -> bool:
    """True if a prompt ends inside a thought that its template has begun.

    Args:
        prompt: Text of the prompt, or its end.

    Returns:
        True or False.
    """
    tail, last = prompt[-200:], None
    for last in markers.THINKING.finditer(tail):
        continue
    return bool(last and not _closes(last) and not tail[last.end() :].strip())


def literal_length(text: str) -> int:
    """Length of the Python literal that a text begins with.

    Args:
        text: Starts with a bracket or a quote.

    Returns:
        Characters; 0 if the literal does not end.
    """
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


def _own_part(text: str) -> tuple[int, int] | None:
    """The characters after all thoughts and before the next turn; None in a thought."""
    start, thinking = 0, False
    for match in markers.THINKING.finditer(text):
        thinking = not _closes(match)
        start = start if thinking else match.end()
    if thinking:
        return None
    ends = markers.TURN_ENDS.search(text, start)
    if ends and text[start : ends.start()].strip():
        return start, ends.start()
    return start, len(text)


def _closes(match: re.Match) -> bool:
    return any(match[name] for name in ("close", "close2", "close3", "close4"))


def _last(text: str, kind: str) -> FoundAnswer | None:
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
    # the last one wins, unless it only comments on the one before
    for one in found:
        if chosen is None or not _remark(one, kind):
            chosen = one
    if chosen is None:
        return _bare(text, kind)
    return chosen._replace(rest=text[chosen.begin :].strip())


def _order(one: FoundAnswer) -> tuple[int, bool]:
    """By position; a tag counts from its end, so that markers inside come before it."""
    return (one.end if one.how == "tag" else one.begin), one.how in ("tag", "box")


def _remark(one: FoundAnswer, kind: str) -> bool:
    """True if a sentence after an answer states no value and no name of its own."""
    if one.how == "prose" and kind in (MATH, LINES):
        return bool(re.match(r"[a-z]{2,}(?![\w(]*\()|a ", one.text)) and not re.match(
            r"[^.]{0,40}\d", one.text
        )
    return one.how == "hashes" and bool(re.match(r"[A-Za-z]", one.text))


def _candidates(text: str, kind: str) -> Iterator[FoundAnswer]:
    if box := last_box(text, kind):
        yield box
    yield from tags(text, kind)
    if kind == EXPRESSION:
        for match in _some(markers.COUNTDOWN, text):
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


def _readable(one: FoundAnswer, kind: str) -> bool:
    """True if a sentence states an answer of the kind that is wanted."""
    if kind == LETTER:
        return option_letter(one.text) is not None
    if kind == LITERAL:
        return bool(
            re.match(r"[\[({'\"\d`$*+-]|b'|True|False|None|f\(|assert", one.text)
        )
    if kind == EXPRESSION:
        dress = r"[\s$*`_({\[]*(?:\\(?:\(|\[|left|[dt]?frac|boxed|text\w*)[\s({\[]*)*"
        return bool(re.match(dress + r"[\d(\[{-]", one.text))
    return not re.match(
        r"(?:not|never|wrong|unclear|unknown|obvious|clear|correct|as follows"
        r"|the following)\b",
        one.text,
    )


def _stated(text: str, match: re.Match, how: str, kind: str) -> Iterator[FoundAnswer]:
    """The answer after a marker: its line, the next line with text, or a display."""
    gap = markers.GAP.match(text, match.end())
    begin = gap.end() if gap else match.end()
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
    yield FoundAnswer(match.start(), begin, end, unfenced(content), how, "")


def _extent(rest: str, kind: str) -> int:
    """Length of the answer at the start of a text: display, block, literal or line."""
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


def _bare(text: str, kind: str) -> FoundAnswer | None:
    """A completion of one short line, or of one block of code, is its own answer."""
    line = text.strip()
    content = unfenced(line)
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
    return FoundAnswer(begin, begin, begin + len(content), content, "bare", content)
