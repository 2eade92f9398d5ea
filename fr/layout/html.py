"""Blocks of a report as one HTML file without scripts or links."""

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from fr.layout.forest import draw_forest
from fr.layout.markup import escaped
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

_WIDTH, _HEIGHT, _EDGE = 150, 12, 4  # of a drawn interval, in pixels
_LINES = "\n\t"  # of running text


def page(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """One HTML file; all text is escaped, hidden characters are signs.

    Args:
        title: Heading of the page.
        subtitle: Sentence below it.
        sections: Content.

    Returns:
        The text of the file.
    """
    style = resources.files("fr.layout").joinpath("page.css").read_text()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escaped(title)}</title>
<meta name="viewport" content="width=device-width">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
<p class="note">{escaped(subtitle)}</p>
</header>
<main>
{to_html(sections)}</main>
</body>
</html>
"""


def to_html(blocks: Iterable[Block], level: int = 2) -> str:
    """HTML elements of blocks.

    Args:
        blocks: Tables, sections, images and sentences.
        level: Level of the headings of sections.

    Returns:
        The elements, one after another.

    Raises:
        TypeError: An element is not a block.
    """
    return "".join(_block(block, level) for block in blocks)


def _block(block: Block, level: int) -> str:
    match block:
        case str():
            return f"<p>{escaped(block.strip(), _LINES)}</p>\n" if block.strip() else ""
        case Section(title, blocks, folded):
            inner = to_html(blocks, level + 1)
            head = f"<h{level}>{escaped(title)}</h{level}>"
            if folded:
                head = f"<summary>{head}</summary>"
                return f"<details>\n{head}\n{inner}</details>\n"
            return f"<section>\n{head}\n{inner}</section>\n"
        case Images(images):
            return f'<div class="figures">\n{"".join(map(_figure, images))}</div>\n'
        case Forest():
            return draw_forest(block)
        case Passage():
            return _passage(block)
        case Table():
            return _table(block)
    raise TypeError(f"{type(block).__name__} is not a block of a report")


def _figure(image: tuple[str, bytes]) -> str:
    caption, data = escaped(image[0]), base64.b64encode(image[1]).decode()
    drawn = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>\n"


def _passage(passage: Passage) -> str:
    spans = []
    for text, share, mark in passage.parts:
        shade = "" if share is None else f' style="--share:{round(100 * share)}%"'
        said = "" if share is None else f' title="{round(100 * share)} %"'
        spans.append(f"<span{shade}{said}>{escaped(text, _LINES)}</span>")
        spans.append(f" <mark>{escaped(mark)}</mark> " if mark else "")
    note = f'<p class="note">{escaped(passage.meaning, _LINES)}</p>\n'
    return f'<p class="passage">{"".join(spans)}</p>\n{note}'


def _table(table: Table) -> str:
    header = table.columns
    scales = [table.scale(i) if column.bar else None for i, column in enumerate(header)]

    def cell(i: int, tag: str, inside: str) -> str:
        left = ' class="left"' * header[i].left
        return f"<{tag}{left}>{inside}</{tag.split()[0]}>"

    def row(values: Sequence) -> str:
        cells = []
        for i, value in enumerate(values):
            bar = _bar(value, scales[i]) if isinstance(value, Mapping) else ""
            tag = 'th scope="row"' if i == 0 and value else "td"
            cells.append(cell(i, tag, escaped(header[i].show(value)) + bar))
        return f"<tr>{''.join(cells)}</tr>\n"

    head = "".join(
        cell(i, 'th scope="col"', _title(column.title, scales[i]))
        for i, column in enumerate(header)
    )
    # An empty row is a rule: the rows after it are a body of their own.
    body = "".join(
        f"<tbody>\n{''.join(map(row, rows))}</tbody>\n"
        for full, rows in itertools.groupby(table.rows, key=bool)
        if full
    )
    title = f'<p class="title">{escaped(table.title, _LINES)}</p>\n' * bool(table.title)
    note = f'<p class="note">{escaped(table.note, _LINES)}</p>\n' * bool(table.note)
    inner = f"<table>\n<thead><tr>{head}</tr></thead>\n{body}</table>"
    return f'{title}<div class="wide">{inner}</div>\n{note}'


def _bar(interval: Mapping, scale: tuple[float, float] | None) -> str:
    """An interval as a drawing beside its numbers."""
    if scale is None or interval["value"] is None:
        return ""
    at = lambda x: f"{_EDGE + (_WIDTH - 2 * _EDGE) * place(x, scale):.1f}"
    middle = _HEIGHT // 2
    drawn = f'<path d="M{at(0)} 0V{_HEIGHT}" opacity=".35"/>' if scale[0] < 0 else ""
    if None not in interval.values():
        low, high = at(interval["low"]), at(interval["high"])
        drawn += f'<path d="M{low} {middle}H{high}M{low} 3V9M{high} 3V9"/>'
        drawn += f'<circle cx="{at(interval["value"])}" cy="{middle}" r="3"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg {size} aria-hidden="true">{drawn}</svg>'


def _title(title: str, scale: tuple[float, float] | None) -> str:
    if scale is None:
        return escaped(title, _LINES)
    ends = (f"<span>{number(end, 0, sign=scale[0] < 0)}</span>" for end in scale)
    axis = f'<span class="axis">{"".join(ends)}</span>'
    return f'<span class="drawn"><span>{escaped(title, _LINES)}</span>{axis}</span>'
