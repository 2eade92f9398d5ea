"""A forest plot as SVG: differences with intervals, all places on one scale."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from fr.layout.markup import escaped
from fr.layout.tables import Column, Forest, number, place

_WIDTH, _NAMES, _PANEL = 1160, 190, 190  # pixels: drawing, names, narrowest panel
_ROW, _HEAD, _AXIS, _EDGE = 18, 22, 46, 20
_STEPS = (1, 2, 5, 10, 20, 50, 100)  # points between ticks
_TICKS = 4  # intervals of the axis at most
_SHOW = Column("", sign=True).show


def draw_forest(forest: Forest) -> str:
    """Draw a forest plot, without a script.

    A dot is filled where its interval excludes 0. What is the same as its reference
    under every resample has a ring at 0 without an interval.

    Args:
        forest: rows and panels.

    Returns:
        An SVG element; names are escaped.
    """
    fit = max(1, (_WIDTH - _NAMES) // _PANEL)
    bands = [forest.panels[i : i + fit] for i in range(0, len(forest.panels), fit)]
    lines = list(_lines(forest.rows))
    tall = _HEAD + _ROW * len(lines) + _AXIS
    width = (_WIDTH - _NAMES) / min(fit, len(forest.panels))
    scale, step = _scale(forest)
    drawn = []
    for b, band in enumerate(bands):
        top = b * tall
        for k, (text, row) in enumerate(lines):
            kind = ' class="note"' * (row is None)
            y = top + _HEAD + _ROW * k + 13
            drawn.append(f'<text{kind} x="0" y="{y}">{escaped(text)}</text>')
        note = f"{forest.unit}; a dot is filled where the 95 % interval excludes 0"
        y = top + tall - 8
        drawn.append(f'<text class="note" x="{_NAMES + _EDGE}" y="{y}">{note}</text>')
        for p, panel in enumerate(band):
            left = _NAMES + width * p
            drawn += _panel(panel, forest, lines, (left, top, width), scale, step)
    size = f'viewBox="0 0 {_WIDTH} {tall * len(bands)}"'
    inner = "\n".join(drawn)
    label = escaped(f"differences in {forest.unit} with 95 % intervals")
    kind = f'class="forest" role="img" aria-label="{label}"'
    return f"<svg {kind} {size}>\n{inner}\n</svg>\n"


def _lines(rows: Sequence[tuple[str, str]]) -> Iterator[tuple[str, int | None]]:
    """Lines of text and their rows; a group has a line of its own, without a row."""
    numbered = enumerate(rows)
    for minus, group in itertools.groupby(numbered, key=lambda row: row[1][1]):
        yield f"minus {minus}", None
        for i, (policy, _) in group:
            yield policy, i


def _scale(forest: Forest) -> tuple[tuple[float, float], int]:
    ends = [
        abs(end)
        for _, intervals in forest.panels
        for one in intervals
        for end in (one or {}).values()
        if end is not None
    ]
    largest = max(ends, default=1.0)
    step = next((s for s in _STEPS if 2 * largest <= s * _TICKS), _STEPS[-1])
    end = float(step * max(1, math.ceil(largest / step)))
    return (-end, end), step


def _panel(
    panel: tuple[str, Sequence[Mapping | None]],
    forest: Forest,
    lines: Sequence[tuple[str, int | None]],
    where: tuple[float, float, float],
    scale: tuple[float, float],
    step: int,
) -> Iterator[str]:
    (name, intervals), (left, top, width) = panel, where
    at = lambda x: left + _EDGE + (width - 2 * _EDGE) * place(x, scale)
    base = top + _HEAD + _ROW * len(lines) + 4
    short = name if len(name) <= 26 else f"{name[:25]}…"
    yield (
        f'<text x="{at(0):.1f}" y="{top + 13}" text-anchor="middle">'
        f"<title>{escaped(name)}</title>{escaped(short)}</text>"
    )
    yield f'<path class="zero" d="M{at(0):.1f} {top + _HEAD}V{base}"/>'
    yield f'<path class="axis-line" d="M{at(scale[0]):.1f} {base}H{at(scale[1]):.1f}"/>'
    for tick in range(int(scale[0]), int(scale[1]) + 1, step):
        said = number(tick, 0, sign=bool(tick))
        yield (
            f'<text class="note" x="{at(tick):.1f}" y="{base + 14}" '
            f'text-anchor="middle">{said}</text>'
        )
    for k, (_, row) in enumerate(lines):
        if row is None or (one := intervals[row]) is None:
            continue
        y = top + _HEAD + _ROW * k + 9
        policy, minus = forest.rows[row]
        told = escaped(f"{name}: {policy} − {minus}: {_SHOW(one)} {forest.unit}")
        low, high, value = one["low"], one["high"], one["value"]
        known = low is not None and high is not None
        clear = known and (low > 0 or high < 0)
        line = f'<path d="M{at(low):.1f} {y}H{at(high):.1f}"/>' if known else ""
        kind = "clear" if clear else "unclear"
        dot = f'<circle class="{kind}" cx="{at(value):.1f}" cy="{y}" r="3.5"/>'
        yield f"<g><title>{told}</title>{line}{dot}</g>"
