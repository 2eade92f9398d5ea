r"""Answers inside `\boxed{..}`, `<answer>..</answer>` and `[ANSWER]..[/ANSWER]`."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from fr.tasks import markers
from fr.tasks.markers import LITERAL, MATH


class FoundAnswer(NamedTuple):
    """An answer in a completion; positions are characters of the completion."""

    start: int  # of the marker before it
    begin: int  # of the answer
    end: int  # after the answer
    text: str  # as written, without Markdown around it
    how: str  # tag, box, line, heading, hashes, prose, choice or bare
    rest: str  # from the answer to the end of the model's own text


def boxed_parts(text: str) -> list[str]:
    """Contents of the last boxes of a solution that hold its answer together.

    Args:
        text: A whole solution.

    Returns:
        One text per box, equal ones once; empty without a box.
    """
    return [found.text for found in _joined(text, _boxes(text, whole=True))]


def last_box(text: str, kind: str) -> FoundAnswer | None:
    """Answer in the last boxes of a text.

    Args:
        text: A completion, which may have been cut off.
        kind: Kind of the answer (`markers.KINDS`).

    Returns:
        The contents of the last boxes that belong together, joined by commas. None
        without a closed box, or if the last one is left open.
    """
    boxes = _boxes(text)
    return _together(_joined(text, boxes), kind) if boxes else None


def tags(text: str, kind: str) -> Iterator[FoundAnswer]:
    """Answers between tags.

    Args:
        text: A completion.
        kind: Kind of the answers (`markers.KINDS`).

    Yields:
        Answers in their order. The last one need not be closed, since its closing tag
        may be the stop string that ended the completion.
    """
    opened = None
    for match in markers.TAG.finditer(text):
        if not (match[1] or match[2]):
            opened = match
        elif opened:
            yield from _tagged(text, opened, match.start(), kind)
            opened = None
    if opened:
        stop = text.find("<", opened.end())
        yield from _tagged(text, opened, stop if stop > 0 else len(text), kind)


def unfenced(content: str) -> str:
    """Strip a code fence around an answer, or the second half of bold type.

    Args:
        content: An answer.

    Returns:
        The answer without spaces around it.
    """
    content = content.strip()
    if fence := markers.FENCE.match(content):
        return content[fence.end() :].removesuffix("```").strip()
    if content.endswith("**") and content.count("**") % 2:
        content = content[:-2].rstrip()
    return content


def _tagged(text: str, opened: re.Match, end: int, kind: str) -> Iterator[FoundAnswer]:
    inside = text[opened.end() : end]
    if not inside.strip():
        return
    begin = opened.end() + len(inside) - len(inside.lstrip())
    content = unfenced(inside)
    boxed = last_box(content, kind) if kind != LITERAL else None
    content = boxed.text if boxed else _unmarked(content, kind)
    yield FoundAnswer(opened.start(), begin, end, content, "tag", "")


def _unmarked(content: str, kind: str) -> str:
    """The inside of a box or a tag without a marker of its own: `The answer is 42`."""
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


def _boxes(text: str, whole: bool = False) -> list[FoundAnswer]:
    """Closed boxes that are in no other one.

    None of them counts where the last box is left open, unless the text is known to be
    `whole`.
    """
    if "boxed" not in text:
        return []
    found: list[FoundAnswer] = []
    stack: list[re.Match | None] = []
    for match in markers.BRACES.finditer(text):
        if match["brace"]:
            stack.append(match)
        elif match["open"]:
            stack.append(None)
        elif match["shut"] and stack:
            box = stack.pop()
            content = text[box.end() : match.start()] if box is not None else ""
            inner = any(other is not None for other in stack[-20:])
            if box is not None and content.strip() and not inner:
                begin = box.end() + len(content) - len(content.lstrip())
                span = box.start(), begin, match.start()
                found.append(FoundAnswer(*span, content.strip(), "box", ""))
    kept: list[FoundAnswer] = []
    for one in sorted(found, key=lambda one: one.start):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    open_at = [box.start() for box in stack if box is not None]
    return [] if not whole and open_at and kept and open_at[-1] > kept[-1].end else kept


def _joined(text: str, boxes: list[FoundAnswer]) -> list[FoundAnswer]:
    """The last boxes with only `and`, commas and names between them, without copies."""
    chosen = boxes[-1:]
    for one in reversed(boxes[-40:-1]):
        gap = text[one.end + 1 : chosen[0].start]
        if len(gap) > 200 or not markers.JOINT.fullmatch(gap) or gap.count("\n") > 4:
            break
        chosen.insert(0, one)
    texts = [one.text for one in chosen]
    return [one for i, one in enumerate(chosen) if one.text not in texts[:i]]


def _together(boxes: list[FoundAnswer], kind: str) -> FoundAnswer:
    span = boxes[0].start, boxes[0].begin, boxes[-1].end
    text = ", ".join(one.text for one in boxes)
    return FoundAnswer(*span, _unmarked(text, kind), "box", "")
