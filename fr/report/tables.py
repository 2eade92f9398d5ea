"""Plain text tables for a terminal: thin lines, numbers flush right, intervals one can see."""

from collections.abc import Sequence

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table with a line under its header; columns are flush right but for `left`; an empty row: a rule."""
    cells = [list(header), *(list(row) for row in rows if row)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
        return "  " + "  ".join(padded).rstrip()

    rule = "  " + "──".join("─" * w for w in widths)
    return "\n".join([line(header), rule, *(line(row) if row else rule for row in rows)])


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


def strip(
    value: float | None, low: float | None, high: float | None, bounds: tuple[float, float], width: int = 41
) -> str:
    """An interval drawn on the scale `bounds`, as `├──●──┤`; dots mark the scale, `┊` its zero if inside."""
    if value is None or low is None or high is None:
        return "·" * width
    start, end = bounds

    def place(x: float) -> int:
        return int(np.clip(round((x - start) / (end - start) * (width - 1)), 0, width - 1))

    drawn = ["·"] * width
    if start < 0 < end:
        drawn[place(0)] = "┊"
    drawn[place(low) : place(high) + 1] = "─" * (place(high) - place(low) + 1)
    drawn[place(low)], drawn[place(high)] = "├", "┤"
    drawn[place(value)] = "●"
    return "".join(drawn)


def scale(bounds: tuple[float, float], width: int = 41) -> str:
    """The ends of a scale, as the header over its strips."""
    start, end = (number(bound, 0, sign=bounds[0] < 0) for bound in bounds)
    return start + end.rjust(width - len(start))
