"""The page of an atlas, `atlas.html`: its tables, plots, and failed traces with V."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from etils import epath
from matplotlib.figure import Figure

from fr.atlas.atlas_tables import atlas_blocks, interval_of
from fr.atlas.branches import FailedTrace
from fr.layout.charts import INK, PALETTE, STYLE, png
from fr.layout.html import page
from fr.layout.tables import Images, Passage, Record, Section
from fr.workdir import write_whole

NAME = "atlas.html"
_SHOWN = 8  # traces on the page
_SHADE = "ground: share of plain branches from that place that are right"


def write_atlas_page(
    workdir: epath.Path, found: Record, traces: Sequence[FailedTrace]
) -> None:
    """Write `atlas.html`.

    Args:
        workdir: Folder of the run.
        found: Content of `atlas.json`.
        traces: Its failed traces, in the same order.
    """
    shown = list(zip(found["traces"], traces))[:_SHOWN]
    sections = [
        Section("What rescues, and from where", [Images(_plots(found))]),
        Section("Numbers", atlas_blocks(found)),
        Section(
            "Failed traces",
            [
                Section(record["row"], [passage(record, trace)])
                for record, trace in shown
            ],
        ),
    ]
    names = f"{found['specialist']}, ancestor {found['ancestor'] or 'none'}"
    said = f"{len(traces)} failed traces, {found['branches']:,} branches, {names}"
    write_whole(workdir / NAME, page("Atlas", said, sections).encode())


def passage(record: Record, trace: FailedTrace) -> Passage:
    """The text of a trace, part by part between cuts, with the rate of retry.

    Args:
        record: Its entry of `traces` of `atlas.json`.
        trace: The trace.

    Returns:
        The passage; marks are points of no return, and the drop.
    """
    written, cuts = trace.written, record["cuts"]
    begins = [written.length(cut) for cut in cuts]
    ends = [*begins[1:], len(written.text)]
    marks: dict[int, list[str]] = {}
    for operator, cut in record["no_return"].items():
        if cut is not None:
            marks.setdefault(cut, []).append(f"{operator} is lost")
    if record["drop_after"] is not None:
        marks.setdefault(record["drop_after"], []).append("largest drop after this")
    parts: list[tuple[str, float | None, str]] = []
    for k, (begin, end) in enumerate(zip(begins, ends)):
        made = record["made"]["retry"][k]
        share = record["right"]["retry"][k] / made if made else None
        text = written.text[begin:end]
        parts.append((text, share, ", ".join(marks.get(cuts[k], ()))))
    return Passage(parts, _SHADE)


def _plots(found: Record) -> list[tuple[str, bytes]]:
    series = (
        ("rate", "right after an operator, %", "V: rate by the place of the cut"),
        ("advantage", "minus retry from there, points", "A: advantage over retry"),
        ("per_1000", "rescues per 1,000 forward tokens", "what a unit of budget buys"),
    )
    return [(title, _lines(found, *each)) for *each, title in series]


def _lines(found: Record, key: str, label: str) -> bytes:
    """One line per operator over the places, with its interval."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axis = figure.subplots()
        for i, operator in enumerate(found["operators"]):
            if key == "advantage" and not i:
                continue
            rows = [row for row in found["values"] if row["operator"] == operator]
            at = [row["place"] for row in rows]
            each = [interval_of(row[key]) for row in rows]
            value, low, high = np.array(
                [[e["value"], e["low"], e["high"]] for e in each], float
            ).T
            colour = INK if not i else PALETTE[(i - 1) % len(PALETTE)]
            axis.plot(at, value, color=colour, marker="o", ms=3, label=operator)
            axis.fill_between(at, low, high, color=colour, alpha=0.12, lw=0)
        if key == "advantage":
            axis.axhline(0, c=INK, lw=0.8)
        axis.set_xlabel("share of the failed trace that is kept")
        axis.set_ylabel(label)
        axis.grid()
        figure.legend(loc="outside lower left", ncols=4)
        return png(figure)
