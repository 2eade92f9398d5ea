"""Plots of an evaluation as PNG files."""

import itertools
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fr.comparison.titles import select, titled
from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, STEERABLE, counted, label
from fr.layout.charts import GREY, INK, PALETTE, STYLE, png
from fr.layout.tables import Record
from fr.profiles import FEATURES, Profiles

_RED = "#d1495b"
_LABELS = {
    "steerable": ("steerable-hard", _RED),
    "resample": ("resample", "#9cc3da"),
    "beyond": ("beyond reach", "#3b3f46"),
}
_AXES = {
    "spread": "spread:\nshare of tokens with J > 0",
    "concentration": "concentration:\nlog10 of max J / mean J",
    "logit_dispersion": "logit dispersion:\nlog10 of V",
    "lift": "best operator − retry,\nrescue rate",
}
_LINES = {
    "rule_z_population": _RED,
    "posterior": "#cc79a7",
    "learned": "#0072b2",
    "learned_free": "#009e73",
    "schedule": "#0072b2",
    "schedule_free": "#009e73",
    "one_order": "#b07d2b",
    "one_order_per_model": "#b07d2b",
    "best_in_hindsight": INK,
    "retry": INK,
}
_DASHES = {"done": "--", "best_in_hindsight": ":", "one_order_per_model": "--"}


def draw_landscape(profiles: Profiles, routing: RoutingConfig) -> bytes:
    """Draw failed problems in feature space, by label and by best operator.

    Args:
        profiles: The failures of one cell.
        routing: Margin and threshold of the labels.

    Returns:
        A PNG file.
    """
    labels = label(profiles.rates, profiles.operators, routing.margin, routing.hard)
    by_label = {
        _LABELS[name][0]: (labels == code, _LABELS[name][1])
        for code, name in enumerate(LABELS)
    }
    # The most frequent label first, so that the others lie on top.
    by_label = dict(sorted(by_label.items(), key=lambda group: -group[1][0].sum()))
    steerable = labels == STEERABLE
    by_best = {"not steerable": (~steerable, GREY), **_best(profiles, steerable)}
    axes = _coordinates(profiles)
    pairs = list(itertools.combinations(axes, 2))
    with matplotlib.rc_context(STYLE):
        size = (3.7 * max(2, len(pairs)), 7.6)
        figure = Figure(figsize=size, layout="constrained")
        title = f"Failure landscape of {profiles.cell}, {len(profiles)} failed problems"
        figure.suptitle(title, x=0.01, ha="left", size=13)
        above, below = figure.subfigures(2, 1, hspace=0.04, squeeze=False)[:, 0]
        _panels(above, by_label, axes, pairs, "Label")
        _panels(below, by_best, axes, pairs, "Best operator of the steerable ones")
        return png(figure)


def draw_curves(routing: Record, cell: str, title: str) -> bytes:
    """Draw problems solved within a budget, and differences at equal cost.

    Args:
        routing: Content of `routing.json`.
        cell: Name of the cell; "all cells" for orders of operators.
        title: Heading.

    Returns:
        A PNG file.
    """
    rows = titled(select(routing["curves"], cell=cell, axis="forward"), routing)
    series: dict[tuple, list] = {}
    for row in rows:
        key = (row["policy"], row.get("diagnosis"), row.get("reference"))
        series.setdefault(key, []).append(row)
    base = "best_in_hindsight" if cell != "all cells" else "one_order"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.6), layout="constrained")
        solved, gained = figure.subplots(1, 2)
        for (policy, diagnosis, reference), points in series.items():
            if reference not in (None, base) or (reference and policy == "retry"):
                continue
            colour = _LINES.get(policy, GREY)
            dashes = _DASHES.get(diagnosis, _DASHES.get(policy, "-"))
            style = {"c": colour, "ls": dashes, "zorder": 1 if colour == GREY else 2}
            x = [point["budget"] for point in points]
            value, low, high = np.array(
                [[*point["interval"].values()] for point in points], float
            ).T
            paid = f", diagnosis {diagnosis}" if diagnosis else ""
            name = points[0]["title"] + paid if colour != GREY else None
            if reference is None:
                solved.plot(x, value, label=name, **style)
            elif colour != GREY:
                gained.plot(x, value, **style)
                gained.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        if any(_LINES.get(policy) is None for policy, *_ in series):
            solved.plot([], [], c=GREY, label="another operator, always")
        minus = titled([{"policy": base}], routing)[0]["title"]
        solved.set_ylabel("solved, % of all failed problems")
        gained.set_ylabel(f"minus {minus}, points")
        gained.axhline(0, c=INK, lw=0.8)
        for axis in (solved, gained):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel("forward tokens per problem")
            axis.grid()
        figure.legend(loc="outside lower left", ncols=3)
        figure.suptitle(title, x=0.01, ha="left", size=12)
        return png(figure)


def _panels(figure, groups: Record, values: Record, pairs: Sequence, title: str):
    """One row of scatter plots with its legend; later groups lie on top."""
    axes = np.atleast_1d(figure.subplots(1, len(pairs)))
    for axis, (x, y) in zip(axes, pairs):
        for mask, colour in groups.values():
            faint = colour == GREY
            form = {"s": 14 if faint else 30, "alpha": 0.7 if faint else 0.9}
            axis.scatter(
                values[x][mask], values[y][mask], c=colour, ec="white", lw=0.5, **form
            )
        axis.set_xlabel(_AXES[x])
        axis.set_ylabel(_AXES[y])
        axis.grid()
    handles = [
        Line2D(
            [], [], ls="", marker="o", ms=6, c=colour, label=f"{name} ({mask.sum()})"
        )
        for name, (mask, colour) in groups.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(len(handles), 6),
        title=title,
        title_fontproperties={"weight": "bold", "size": 10},
        alignment="left",
    )


def _best(profiles: Profiles, steerable: np.ndarray) -> dict[str, tuple]:
    """Mask and colour of the steerable problems that each operator rescues best."""
    arms = counted(profiles.operators)
    rates = profiles.rates[:, arms]
    best = rates == rates.max(axis=1, keepdims=True)
    alone = steerable & (best.sum(axis=1) == 1)
    tied = steerable & ~alone
    groups = {"a tie": (tied, "#8a9099")} if tied.any() else {}
    for i, (arm, colour) in enumerate(zip(arms, itertools.cycle(PALETTE))):
        groups[profiles.operators[arm]] = (alone & best[:, i], colour)
    return groups


def _coordinates(profiles: Profiles) -> dict[str, np.ndarray]:
    """Features that the cell has; a single one is drawn against the lift."""
    found = {name: profiles.features[:, f] for f, name in enumerate(FEATURES)}
    found = {k: values for k, values in found.items() if not np.isnan(values).any()}
    if len(found) < 2:
        rates, retry = profiles.rates, profiles.operators.index("retry")
        found["lift"] = (
            rates[:, counted(profiles.operators)].max(axis=1) - rates[:, retry]
        )
    return found
