"""Tables as data, and as plain text for a terminal: thin lines, numbers flush right, intervals one can see."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Bar:
    """An interval on the scale `bounds`; as text `├──●──┤`: dots mark the scale, `┊` its zero if inside."""

    value: float | None
    low: float | None
    high: float | None
    bounds: tuple[float, float]
    width: int = 41  # in characters

    @property
    def known(self) -> bool:
        """Whether there is something to draw."""
        return not (self.value is None or self.low is None or self.high is None)

    def place(self, x: float) -> float:
        """Where a number lies on the scale: 0 its start, 1 its end; what lies beyond is put there."""
        start, end = self.bounds
        return float(np.clip((x - start) / (end - start), 0, 1))

    def __str__(self) -> str:
        drawn = ["·"] * self.width
        if not self.known:
            return "".join(drawn)
        at = lambda x: round(self.place(x) * (self.width - 1))
        low, high = at(self.low), at(self.high)
        if self.bounds[0] < 0 < self.bounds[1]:
            drawn[at(0)] = "┊"
        drawn[low : high + 1] = "─" * (high - low + 1)
        drawn[low], drawn[high] = "├", "┤"
        drawn[at(self.value)] = "●"
        return "".join(drawn)


@dataclasses.dataclass(frozen=True)
class Scale:
    """The ends of a scale, as the header over its bars."""

    bounds: tuple[float, float]
    width: int = 41

    @property
    def ends(self) -> tuple[str, str]:
        """Both as printed."""
        return tuple(number(bound, 0, sign=self.bounds[0] < 0) for bound in self.bounds)

    def __str__(self) -> str:
        start, end = self.ends
        return start + end.rjust(self.width - len(start))


Cell = str | Bar | Scale


@dataclasses.dataclass(frozen=True)
class Table:
    """One table, whatever shows it; columns are flush right but for `left`; an empty row: a rule.

    `lead` stands over it and `note` under it, with the indents of a terminal. `str` gives its text.
    """

    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    left: Sequence[int] = (0,)
    lead: str = ""
    note: str = ""

    def __str__(self) -> str:
        return "\n".join(
            part for part in (self.lead, table(self.header, self.rows, self.left), self.note) if part
        )


Block = Table | str  # a string: a paragraph


def text(blocks: Iterable[Block]) -> str:
    """Blocks as a person reads them in a terminal, an empty line between them."""
    return "\n\n".join(str(block) for block in blocks)


def table(header: Sequence[Cell], rows: Sequence[Sequence[Cell]], left: Sequence[int] = (0,)) -> str:
    """The text of a table, with a line under its header; see `Table`."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells if row) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
        return "  " + "  ".join(padded).rstrip()

    rule = "  " + "──".join("─" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) if row else rule for row in cells[1:])])


def number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A number as printed in a table; n/a for None and NaN."""
    if value is None or np.isnan(value):
        return "n/a"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def span(low: float | None, high: float | None, digits: int = 1, sign: bool = False) -> str:
    """An interval as printed in a table."""
    if low is None or high is None:
        return "n/a"
    return f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def difference(found: dict | None) -> str:
    """A difference in points, `{mean, low, high}`, with its interval as printed in one cell of a table."""
    if not found:
        return "n/a"
    return f"{number(found['mean'], sign=True)} {span(found['low'], found['high'], sign=True)}"
