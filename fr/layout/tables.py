"""Reports as data: tables, sections, images and sentences.

A report is a function from a JSON record to blocks, made known by `register_report`;
`tables.toml` describes the tables and the sentences.
"""

import dataclasses
import functools
import math
import string
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

REPORTS: dict[str, Callable[[Any], list["Block"]]] = {}
Record = dict[str, Any]  # of a JSON file
Cell = str | int | float | Mapping | None
_OF_ONE = {"are": "is", "were": "was", "have": "has"}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table: its header, its values and their format.

    Attributes:
        title: Header, with the unit unless the table has one unit.
        key: Path of the value in a record (`labels.steerable`); the title unless given.
        digits: Decimals of numbers other than counts.
        sign: Print the sign of every number, as of a difference.
        left: Flush left, as text.
        bar: Draw the intervals beside their numbers, on one scale for the column.
        missing: Text in place of None.
    """

    title: str
    key: str = ""
    digits: int = 1
    sign: bool = False
    left: bool = False
    bar: bool = False
    missing: str = ""

    def value(self, record: Any) -> Cell:
        """Read the value of a row.

        Args:
            record: Record of the row.

        Returns:
            The value; None where the path ends early.
        """
        key = self.key or self.title
        for name in [key] if key in record else key.split("."):
            record = record.get(name) if isinstance(record, Mapping) else None
        return record

    def show(self, cell: Cell) -> str:
        """Format a cell.

        Args:
            cell: A value, or an interval record.

        Returns:
            Text without padding; intervals as `value [low, high]`.
        """
        if isinstance(cell, Mapping):
            return " ".join(filter(None, self.parts(cell)))
        if cell is None or isinstance(cell, str):
            return self.missing if cell is None else cell
        if math.isnan(cell):
            return self.missing
        return number(cell, 0 if isinstance(cell, int) else self.digits, self.sign)

    def parts(self, interval: Mapping) -> tuple[str, str]:
        """Format an interval.

        Args:
            interval: Record with `value`, `low` and `high`.

        Returns:
            Its value and its ends; no ends where they are not known.
        """
        ends = ("value", "low", "high")
        if interval["value"] is None:
            return self.missing, ""
        texts = [number(interval[end], self.digits, self.sign) for end in ends]
        return texts[0], "[{1}, {2}]".format(*texts) * (interval["low"] is not None)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of plain values.

    Attributes:
        columns: Columns.
        rows: Cells in the order of the columns; an empty row is a rule.
        title: Line above the table.
        note: Lines below the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""

    def scale(self, i: int) -> tuple[float, float]:
        """The axis on which the intervals of a column are drawn.

        Args:
            i: Index of the column.

        Returns:
            Both ends: symmetric about zero for differences, else from zero.
        """
        cells = [row[i] for row in self.rows if row]
        ends = [x for cell in cells if isinstance(cell, Mapping) for x in cell.values()]
        largest = max((abs(x) for x in ends if x is not None), default=1.0)
        if self.columns[i].sign:
            return -max(1.0, math.ceil(largest)), max(1.0, math.ceil(largest))
        return 0.0, 10.0 * max(1, math.ceil(largest / 10))


@dataclasses.dataclass(frozen=True)
class Section:
    """Blocks under a heading.

    Attributes:
        title: The heading.
        blocks: What stands below it.
        folded: A page hides the blocks until the reader opens them; a terminal shows
            them on request.
    """

    title: str
    blocks: Sequence["Block"]
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Images:
    """Pictures; a terminal shows none.

    Attributes:
        images: Pairs of a caption and the bytes of a PNG file.
    """

    images: Sequence[tuple[str, bytes]]


@dataclasses.dataclass(frozen=True)
class Forest:
    """Differences with intervals in several places, drawn on one scale.

    Attributes:
        rows: Per row the policy and what is subtracted from it.
        panels: Per place its name and, by row, an interval record in points; None
            where there is none. A terminal shows the first panel.
        unit: What the scale measures.
    """

    rows: Sequence[tuple[str, str]]
    panels: Sequence[tuple[str, Sequence[Mapping | None]]]
    unit: str = "points"

    @property
    def first(self) -> Table:
        """The first panel as a table."""
        name, intervals = self.panels[0]
        columns = [
            Column(name, left=True),
            Column("minus", left=True),
            Column(self.unit, sign=True, bar=True),
        ]
        shown = list(zip(self.rows, intervals))
        rows: list[list[Cell]] = [[*n, one] for n, one in shown if one is not None]
        return Table(columns, rows)


@dataclasses.dataclass(frozen=True)
class Passage:
    """A text in parts, each on a ground as dark as its share.

    Attributes:
        parts: Per part its text, a share in [0, 1] or None, and words of its mark.
        meaning: What the shares are.
    """

    parts: Sequence[tuple[str, float | None, str]]
    meaning: str


Block = Table | Section | Images | Forest | Passage | str


def register_report(name: str) -> Callable:
    """Make a report known.

    Args:
        name: Its name.

    Returns:
        A decorator of a function from a record to blocks.
    """
    return lambda make: REPORTS.setdefault(name, make)


class _Counts(string.Formatter):
    """`{n: rollouts are}` is `5 rollouts are`, and `1 rollout is` for one."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if not format_spec.startswith(" "):
            return super().format_field(value, format_spec)
        nouns, _, verb = format_spec.rpartition(" ")
        if verb not in _OF_ONE:
            nouns, verb = format_spec, ""
        if isinstance(value, int) and value == 1:
            nouns, verb = nouns.removesuffix("s"), _OF_ONE.get(verb, "")
        return f"{value}{nouns}{' ' * bool(verb)}{verb}"


_COUNTS = _Counts()


@functools.cache
def _described() -> dict[str, dict[str, str]]:
    file = resources.files("fr.layout").joinpath("tables.toml")
    return tomllib.loads(file.read_text())


def described(name: str) -> dict[str, str]:
    """Read one part of `tables.toml`.

    Args:
        name: A table, or a group of words.

    Returns:
        Texts by key.
    """
    return dict(_described()[name])


def _column(line: str, first: bool, words: Mapping) -> Column:
    """A line `title | key | format` of the file."""
    title, key, form = (part.strip() for part in f"{line}||".split("|")[:3])
    flags = form.split()
    return Column(
        title.format_map(words),
        key or title,
        digits=next((int(flag[1:]) for flag in flags if flag[0] == "."), 1),
        sign="+" in flags,
        left=first or "<" in flags,
        bar="bar" in flags,
    )


def table(
    name: str, records: Sequence[Mapping], more: Sequence[Column] = (), **words: Any
) -> list[Block]:
    """A table that `tables.toml` describes.

    Args:
        name: Name of the table.
        records: Per row a record that the columns read; an empty one is a rule.
        more: Further columns, after the described ones.
        **words: What its braces are filled with.

    Returns:
        The table, without columns that have no value and rows that have none after
        their name; nothing without records.
    """
    if not records:
        return []
    described = _described()[name]
    lines = described["columns"].strip().splitlines()
    columns = [
        column
        for column in (*(_column(x, x == lines[0], words) for x in lines), *more)
        if any(_tells(column.value(r)) for r in records)
    ]
    rows = [[column.value(r) for column in columns] if r else [] for r in records]
    if len(columns) > 1:
        rows = [row for row in rows if not row or any(map(_tells, row[1:]))]
    texts = (described.get(part, "").strip() for part in ("title", "note"))
    return [Table(columns, rows, *(_COUNTS.vformat(text, (), words) for text in texts))]


def _tells(cell: Cell) -> bool:
    """True of a cell with a value."""
    return (cell.get("value") if isinstance(cell, Mapping) else cell) is not None


def words(name: str, /, **filled: Any) -> str:
    """A sentence that `tables.toml` describes.

    Args:
        name: Its key.
        **filled: What its braces are filled with.

    Returns:
        The sentence; numbers and intervals have one decimal. `{n: rollouts}` of a
        sentence is `1 rollout` for one, `5 rollouts` for five.
    """
    show = Column("").show
    shown = {
        key: show(value) if isinstance(value, float) or _is_interval(value) else value
        for key, value in filled.items()
    }
    return _COUNTS.vformat(_described()["sentences"][name].strip(), (), shown)


def _is_interval(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value


def number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A number as reports print it.

    Args:
        value: The number; None and NaN are n/a.
        digits: Decimals.
        sign: Print a plus sign, too.

    Returns:
        Text with a true minus sign and commas between thousands.
    """
    if value is None or math.isnan(value):
        return "n/a"
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def place(x: float, scale: tuple[float, float]) -> float:
    """Position of a number on an axis.

    Args:
        x: The number.
        scale: Both ends of the axis.

    Returns:
        From 0 at the start to 1 at the end; what lies beyond is put there.
    """
    return min(1.0, max(0.0, (x - scale[0]) / (scale[1] - scale[0])))
