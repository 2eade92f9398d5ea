"""A passage as running text for a terminal, each part on a ground by its share."""

import os
import textwrap
import typing
import unicodedata

from fr.errors import printable
from fr.layout.tables import Passage
from fr.layout.text import WIDTH

# Grounds of the 256 colours of a terminal, from light to dark blue, with black or white
# letters. Lightness rises with the share, so that they serve without seeing hue.
_GROUNDS = ((189, 16), (153, 16), (75, 16), (32, 231), (25, 231))
_PLAIN = 0.5  # share from which a part has brackets where there are no colours
_LONGEST = 20_000  # characters of a passage
_INDENT = "  "


def shows_colours(stream: typing.TextIO) -> bool:
    """Say whether a stream is a terminal that is asked for colours.

    Args:
        stream: such as `sys.stdout`.

    Returns:
        False for a file or a pipe, a terminal without colours, and with NO_COLOR set.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


def to_coloured(passage: Passage, colours: bool) -> str:
    """Write a passage as running text of at most 100 columns.

    Hidden characters become signs, so that no text moves the cursor or colours.
    Without colours, parts of a large share stand in brackets.

    Args:
        passage: parts, shares and marks.
        colours: write codes of 256 colours.

    Returns:
        The text, a legend of the shares, and their meaning.
    """
    lines, taken = [_Line()], 0
    for text, share, mark in passage.parts:
        if taken > _LONGEST:
            lines += [_Line(), _Line("… (the rest is left out)")]
            break
        taken += len(text)
        for i, line in enumerate(text[:_LONGEST].split("\n")):
            lines += [_Line()] * bool(i)
            for piece in _pieces(printable(line)):
                _put(lines, piece if colours else _bracketed(piece, share), share)
        for piece in _pieces(f" ◂ {printable(mark)}" if mark else ""):
            _put(lines, piece, None)
    shown = "\n".join(line.shown(colours) for line in lines)
    meaning = textwrap.wrap(printable(passage.meaning), WIDTH - len(_INDENT))
    notes = [_legend(colours), *(f"{_INDENT}{line}" for line in meaning)]
    return "\n".join([shown, "", *notes])


class _Line:
    """A line of pieces with their shares, and its columns."""

    def __init__(self, text: str = ""):
        self.pieces: list[tuple[str, float | None]] = [(text, None)]
        self.columns = len(_INDENT) + _columns(text)

    def shown(self, colours: bool) -> str:
        drawn = (_ground(*piece) if colours else piece[0] for piece in self.pieces)
        return f"{_INDENT}{''.join(drawn)}".rstrip()


def _put(lines: list[_Line], piece: str, share: float | None) -> None:
    """Add a piece to the last line, or to a new one where it does not fit."""
    if lines[-1].columns + _columns(piece) > WIDTH:
        lines.append(_Line())
        piece = piece.removeprefix(" ")
    lines[-1].pieces.append((piece, share))
    lines[-1].columns += _columns(piece)


def _pieces(text: str) -> list[str]:
    """A text in pieces that fit a line."""
    most = (WIDTH - len(_INDENT)) // 2 - 2  # a character has two columns at most
    return [text[i : i + most] for i in range(0, len(text), most)]


def _bracketed(text: str, share: float | None) -> str:
    bare = text.strip()
    large = share is not None and share >= _PLAIN and bare
    return text.replace(bare, f"[{bare}]") if large else text


def _ground(text: str, share: float | None) -> str:
    level = _level(share)
    if level is None or not text:
        return text
    ground, letters = _GROUNDS[level]
    return f"\x1b[48;5;{ground};38;5;{letters}m{text}\x1b[0m"


def _level(share: float | None) -> int | None:
    """Index of the ground; the lowest sixth has none."""
    if share is None:
        return None
    level = int(min(max(share, 0.0), 1.0) * (len(_GROUNDS) + 1)) - 1
    return None if level < 0 else min(level, len(_GROUNDS) - 1)


def _legend(colours: bool) -> str:
    if not colours:
        return f"{_INDENT}[…]: {100 * _PLAIN:.0f} % or more"
    steps = len(_GROUNDS) + 1
    said = (
        _ground(f" from {100 * (i + 1) / steps:.0f} % ", (i + 1.5) / steps)
        for i in range(len(_GROUNDS))
    )
    return _INDENT + " ".join(said)


def _columns(text: str) -> int:
    """Columns of a terminal; wide characters of East Asia have two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
