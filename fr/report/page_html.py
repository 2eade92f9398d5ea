"""Blocks of a report as plain HTML: one file without script or network, for a screen and for paper."""

import base64
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from html import escape

from fr.report.tables import Bar, Block, Cell, Scale, Table


@dataclasses.dataclass(frozen=True)
class Title:
    """A heading within a section."""

    text: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names, and what is said of each."""

    pairs: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Words:
    """Sentences of which each stands for itself."""

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Figures:
    """(caption, PNG) pairs, side by side where there is room."""

    images: Sequence[tuple[str, bytes]]


@dataclasses.dataclass(frozen=True)
class More:
    """Blocks that a reader opens; closed, they are not printed."""

    title: str
    blocks: Sequence["Part"]


Part = Block | Title | Facts | Words | Figures | More

_WIDTH, _HEIGHT, _EDGE = 150, 12, 4  # of a bar, in pixels
_STYLE = """
:root { font: 15px/1.45 system-ui, sans-serif; color-scheme: light dark;
  --muted: color-mix(in srgb, CanvasText 65%, Canvas); --line: color-mix(in srgb, CanvasText 20%, Canvas); }
body { max-width: 78rem; margin: 0 auto; padding: 1.5rem; background: Canvas; color: CanvasText; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: .9rem 0 .2rem; }
h2, h3 { break-after: avoid; }
p { margin: .4rem 0; max-width: 60rem; white-space: pre-line; }
ul { margin: .4rem 0; padding-left: 1.2rem; max-width: 60rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .4rem 0; }
dt, figcaption, .note { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
tr, figure { break-inside: avoid; }
th, td { padding: .1rem .5rem; text-align: right; font-weight: normal; white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; color: var(--muted); }
tbody { border-top: 1px solid var(--line); }
.left { text-align: left; }
td.left:last-child { white-space: normal; }
.note, figcaption, summary { font-size: .85rem; }
.scale { display: flex; justify-content: space-between; }
svg { vertical-align: middle; stroke: currentColor; fill: currentColor; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; max-width: 78rem; }
figure:only-child { max-width: 44rem; }
figure { margin: 0; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
summary { cursor: pointer; margin: .5rem 0; }
@page { margin: 12mm; }
@media print { :root { font-size: 10.5px; line-height: 1.25; } body, p, ul { max-width: none; padding-right: 0; }
  body { padding: 0; } h2 { margin-top: .7rem; } td, th { padding: 0 .3rem; } svg { width: 24mm; }
  .wide { overflow: visible; } .figures { grid-template-columns: repeat(2, 1fr); }
  details:not([open]), section:not(:has(> :not(h2, details))) { display: none; } }
"""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[Part]]]) -> str:
    """The whole file: (heading, parts) after one another; all text is escaped."""
    body = "".join(
        f"<section>\n<h2>{escape(heading)}</h2>\n{''.join(to_html(part) for part in parts)}</section>\n"
        for heading, parts in sections
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="note">{escape(subtitle)}</p>\n</header>\n<main>\n'
        f"{body}</main>\n</body>\n</html>\n"
    )


@functools.singledispatch
def to_html(part: Part) -> str:
    """One part of a page."""
    raise TypeError(f"{type(part).__name__} has no form in HTML")


@to_html.register
def _(part: str) -> str:
    return f"<p>{escape(part.strip())}</p>\n" if part.strip() else ""


@to_html.register
def _(part: Title) -> str:
    return f"<h3>{escape(part.text)}</h3>\n"


@to_html.register
def _(part: Facts) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>\n" for name, said in part.pairs)
    return f"<dl>\n{pairs}</dl>\n"


@to_html.register
def _(part: Words) -> str:
    return "<ul>\n" + "".join(f"<li>{escape(line)}</li>\n" for line in part.lines) + "</ul>\n"


@to_html.register
def _(part: Figures) -> str:
    images = "".join(
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        for caption, png in part.images
    )
    return f'<div class="figures">\n{images}</div>\n'


@to_html.register
def _(part: More) -> str:
    inner = "".join(to_html(block) for block in part.blocks)
    return f"<details>\n<summary>{escape(part.title)}</summary>\n{inner}</details>\n"


@to_html.register
def _(part: Table) -> str:
    cell = lambda i, value, scope="": _cell(value, "th" if scope else "td", i in part.left, scope)
    head = "".join(cell(i, value, "col") for i, value in enumerate(part.header))
    # An empty row is a rule: a body of its own behind it.
    bodies = [
        list(rows) for ruled, rows in itertools.groupby(part.rows, key=lambda row: not row) if not ruled
    ]
    lines = "".join(
        "<tbody>\n"
        + "".join(
            f"<tr>{''.join(cell(i, v, 'row' if i == 0 and v else '') for i, v in enumerate(row))}</tr>\n"
            for row in rows
        )
        + "</tbody>\n"
        for rows in bodies
    )
    lead, note = (f'<p class="note">{escape(t.strip())}</p>\n' if t else "" for t in (part.lead, part.note))
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n{lines}</table>"
    return f'{lead}<div class="wide">{table}</div>\n{note}'


def _cell(value: Cell, tag: str, left: bool, scope: str) -> str:
    inside = {Bar: _bar, Scale: _scale}.get(type(value), escape)(value)
    marks = (f' scope="{scope}"' if scope else "") + (' class="left"' if left else "")
    return f"<{tag}{marks}>{inside}</{tag}>"


def _bar(bar: Bar) -> str:
    """The interval as a drawing; its numbers stand beside it."""
    at = lambda x: f"{_EDGE + (_WIDTH - 2 * _EDGE) * bar.place(x):.1f}"
    middle = _HEIGHT // 2
    drawn = ""
    if bar.bounds[0] < 0 < bar.bounds[1]:
        drawn += f'<path d="M{at(0)} 0V{_HEIGHT}" opacity=".35"/>'
    if bar.known:
        low, high = at(bar.low), at(bar.high)
        drawn += f'<path d="M{low} {middle}H{high}M{low} 3V9M{high} 3V9"/>'
        drawn += f'<circle cx="{at(bar.value)}" cy="{middle}" r="3"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg {size} aria-hidden="true">{drawn}</svg>'


def _scale(scale: Scale) -> str:
    start, end = (escape(text) for text in scale.ends)
    return f'<span class="scale"><span>{start}</span><span>{end}</span></span>'
