"""Cells of tables from numbers of docs/results/data."""

import dataclasses

MINUS = "−"


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of a page."""

    columns: list[str]  # titles
    rows: list[list[str]]  # cells, as they are shown

    def lines(self) -> list[str]:
        """Lines of Markdown."""
        rule = "|" + "---|" * len(self.columns)
        return [_line(self.columns), rule, *map(_line, self.rows)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """A number with `digits` decimals and a true minus sign; `sign` adds a plus."""
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def interval(low: float, high: float, digits: int = 1, sign: bool = False) -> str:
    """A 95 % interval in brackets."""
    return f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def estimate(
    value: float, low: float, high: float, digits: int = 1, sign: bool = False
) -> str:
    """A number and its 95 % interval."""
    return f"{number(value, digits, sign)} {interval(low, high, digits)}"


def shown(found: dict | None, digits: int = 1, sign: bool = False) -> str:
    """A measured number with its interval, without one if it has none; – if unknown."""
    if not found or found["value"] is None:
        return "–"
    ends = found["low"], found["high"]
    if None in ends:
        return number(found["value"], digits, sign)
    return estimate(found["value"], *ends, digits, sign)


def cell(given) -> str:
    """A cell of stored tables.

    Args:
        given: Text, shown unchanged. Or a number, shown with the decimals that it
            is stored with. Or an object with `value` and optionally `low` and
            `high` (a 95 % interval), `digits`, `sign`, `unit`, `bold`, `note`.
    """
    if not isinstance(given, dict):
        return given if isinstance(given, str) else _plain(given)
    digits, sign = given.get("digits", 1), given.get("sign", False)
    text = number(given["value"], digits, sign)
    if unit := given.get("unit"):
        text = f"{text} {unit}" if unit == "%" else text + unit
    if "low" in given:
        text = f"{text} {interval(given['low'], given['high'], digits)}"
    if note := given.get("note"):
        text = f"{text}{note}"
    return f"**{text}**" if given.get("bold") else text


def _plain(value: float) -> str:
    digits = 0 if isinstance(value, int) else len(repr(value).split(".")[1])
    return number(value, digits)
