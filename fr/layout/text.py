"""Blocks as text for a terminal of 100 columns."""

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from fr.errors import readable
from fr.layout.tables import (
    Block,
    Forest,
    Images,
    Passage,
    Section,
    Table,
    number,
    place,
)

WIDTH = 100  # characters of a line
_BARS = (31, 21, 13, 0)  # characters of a drawn interval: the first that fits
_HEADING = 40  # characters of a word that a header keeps whole
_WRAPPED = 26  # characters that a column of text has at least where it is wrapped


def to_text(blocks: Iterable[Block], full: bool = True) -> str:
    """Blocks for a terminal.

    A table that is too wide loses its drawn intervals first; then columns of text are
    wrapped and the table is split: its leading columns of text head every part.

    Args:
        blocks: Tables, sections, images and sentences.
        full: Also show sections that a page folds.

    Returns:
        Text of at most `WIDTH` columns, with an empty line between blocks.

    Raises:
        TypeError: An element is not a block.
    """
    return "\n\n".join(filter(None, (_block(block, full) for block in blocks)))


def _block(block: Block, full: bool = True) -> str:
    match block:
        case str():
            return "\n".join(map(_fill, _split(block)))
        case Section(title, blocks, folded):
            inner = to_text(blocks, full) if full or not folded else ""
            return f"{_fill(f'── {readable(title)}')}\n\n{inner}" if inner else ""
        case Images():
            return ""
        case Forest():
            return _table(block.first)
        case Passage():
            return _passage(block)
        case Table():
            return _table(block)
    raise TypeError(f"{type(block).__name__} is not a block of a report")


def _passage(passage: Passage) -> str:
    """A part to a line, with its share before it and its mark after it."""
    lines = []
    for text, share, mark in passage.parts:
        head = "" if share is None else f"{round(100 * share)} %"
        said = " ".join(text.split()) + f"  ◂ {mark}" * bool(mark)
        first, *rest = textwrap.wrap(readable(said), WIDTH - 8) or [""]
        lines += [f"{head:>6}  {first}", *(f"{'':8}{line}" for line in rest)]
    return "\n".join([*lines, *map(_fill, _split(f"  {passage.meaning}"))])


def _table(table: Table) -> str:
    for bar in _BARS:
        columns = [_column(table, i, bar) for i in range(len(table.columns))]
        if sum(column.width + 2 for column in columns) <= WIDTH:
            break
    rules = [not row for row in table.rows]
    parts = "\n\n".join(_lines(part, rules) for part in _parts(columns))
    note = "\n".join(_fill(f"  {line}") for line in _split(table.note))
    return "\n".join(filter(None, [_block(table.title), parts, note]))


class _Lines:
    """A column as text: the lines of its header and the lines of each cell."""

    def __init__(self, head: list[str], cells: list[list[str]], left: bool):
        self.head, self.cells, self.left = head, cells, left

    @property
    def width(self) -> int:
        return max(map(len, itertools.chain(self.head, *self.cells)))

    def wrap(self, width: int) -> None:
        self.head = textwrap.wrap(" ".join(self.head), width) or [""]
        self.cells = [textwrap.wrap(" ".join(c), width) or [""] for c in self.cells]

    def line(self, lines: Sequence[str], k: int) -> str:
        text = lines[k] if k < len(lines) else ""
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def _column(table: Table, i: int, bar: int) -> _Lines:
    """A column in which values and ends of intervals stand under one another."""
    column, scale = table.columns[i], table.scale(i)
    heading = readable(column.title, "\n")
    cells = [row[i] for row in table.rows if row]
    intervals = [cell for cell in cells if isinstance(cell, Mapping)]
    bar = bar if column.bar and intervals else 0
    longest = lambda texts: max(map(len, texts), default=0)
    values, ends = (
        map(longest, zip(*map(column.parts, intervals))) if intervals else (0, 0)
    )

    def show(cell) -> str:
        if not isinstance(cell, Mapping):
            return readable(column.show(cell))
        value, end = column.parts(cell)
        return f"{value:>{values}} {end:>{ends}}" + _bar(cell, scale, bar)

    texts = list(map(show, cells))
    # A header is wrapped to what it heads, but not into a tower.
    room = values + 1 + ends if bar else longest(texts)
    words = min(longest(heading.split()), _HEADING)
    room = max(room, words, min(len(heading), 7), 1)
    head = textwrap.wrap(heading, room) or [""]
    if bar:
        low, high = (number(end, 0, column.sign) for end in scale)
        tails = [" " * bar] * (len(head) - 1) + [low + high.rjust(bar - len(low))]
        head = [f"{title}  {tail}" for title, tail in zip(head, tails)]
    return _Lines(head, [[text] for text in texts], column.left)


def _parts(columns: list[_Lines]) -> list[list[_Lines]]:
    keys = list(itertools.takewhile(lambda column: column.left, columns))
    least = lambda c: min(c.width, _WRAPPED) if c.left else c.width
    parts = [list(keys)]
    for column in columns[len(keys) :]:
        taken = sum(least(each) + 2 for each in [*parts[-1], column])
        if taken > WIDTH and len(parts[-1]) > len(keys):
            parts.append(list(keys))
        parts[-1].append(column)
    for part in parts:
        for column in sorted(part, key=lambda column: -column.width):
            excess = sum(each.width + 2 for each in part) - WIDTH
            if excess > 0 and column.left:
                column.wrap(max(_WRAPPED, column.width - excess))
    return parts


def _lines(columns: list[_Lines], rules: list[bool]) -> str:
    join = lambda texts: ("  " + "  ".join(texts)).rstrip()
    rule = "  " + "──".join("─" * column.width for column in columns)
    tall = max(len(column.head) for column in columns)
    head = [[""] * (tall - len(column.head)) + column.head for column in columns]
    rows = iter(zip(*(column.cells for column in columns)))
    lines = [
        join(column.line(title, k) for column, title in zip(columns, head))
        for k in range(tall)
    ]
    lines.append(rule)
    for ruled in rules:
        row = [] if ruled else next(rows)
        lines += [rule] * ruled
        for k in range(max(map(len, row), default=0)):
            lines.append(join(c.line(cell, k) for c, cell in zip(columns, row)))
    return "\n".join(lines)


def _split(text: str) -> list[str]:
    """Lines of a text, fit for a terminal; none of an empty one."""
    return readable(text, "\n\t").removesuffix("\n").split("\n") if text else []


def _fill(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _bar(interval: Mapping, scale: tuple[float, float], width: int) -> str:
    """`  ··├──●──┤··`; dots mark the scale, `┊` its zero if it lies inside."""
    if not width or interval["value"] is None:
        return " " * (width and width + 2)
    drawn, at = ["·"] * width, lambda x: round(place(x, scale) * (width - 1))
    if scale[0] < 0:
        drawn[at(0)] = "┊"
    if None not in interval.values():
        low, high = at(interval["low"]), at(interval["high"])
        drawn[low : high + 1] = "─" * (high - low + 1)
        drawn[low], drawn[high] = "├", "┤"
        drawn[at(interval["value"])] = "●"
    return "  " + "".join(drawn)
