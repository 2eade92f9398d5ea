"""Plots for a paper: where failures lie by what would rescue them, and how often each policy does."""

import io
import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fr.config import RoutingConfig
from fr.diagnosis.labels import LABELS, STEERABLE, counted, label
from fr.routing.profiles import FEATURES, Profiles

_GREY = "#c9ced6"
_INK = "#2b2f36"
_LABEL_COLOURS = {"steerable": "#d1495b", "resample": "#9cc3da", "beyond": "#3b3f46"}
_LABEL_NAMES = {"steerable": "steerable-hard", "resample": "resample", "beyond": "beyond reach"}
# Okabe and Ito's palette: told apart by colour-blind readers too.
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a6c00", "#000000")
_AXES = {
    "spread": "spread: share of tokens with J > 0",
    "concentration": "concentration: log10 of max J / mean J",
    "logit_dispersion": "logit dispersion: log10 of V",
    "lift": "best operator − retry (rescue rate)",
}
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
}
_POLICIES = {
    "routed": "routed by the rule",
    "best_fixed": "best fixed operator",
    "permuted": "routed, features shuffled",
    "random_operator": "random operator",
    "retry": "retry",
    "oracle": "oracle",
}
# `sunk`: the failures had been diagnosed already.
_PATHS = {
    "routed": ("rule, diagnosis paid", "#d1495b", "-"),
    "routed_sunk": ("rule, diagnosis done", "#d1495b", "--"),
    "head": ("head, diagnosis paid", "#0072b2", "-"),
    "head_sunk": ("head, diagnosis done", "#0072b2", "--"),
    "head_free": ("head on what is free", "#009e73", "-"),
    "best_fixed": ("best operator in hindsight", _INK, ":"),
    "retry": ("retry", _INK, "-"),
}
# Orders of operators; the gaps are of those that are chosen by what comes with the rollouts.
_ORDERS = {
    "retry": ("retry", _INK, "-"),
    "best_fixed": ("best operator in hindsight", _INK, ":"),
    "one_order": ("one order for all", "#b07d2b", "-"),
    "one_order_per_model": ("one order a model", "#b07d2b", "--"),
    "head_free": ("orders by what is free", "#009e73", "-"),
    "head": ("orders by everything", "#0072b2", "-"),
}
_GAPS = {
    "minus_one_order_per_model": ("minus one order a model", "--"),
    "minus_one_order": ("minus one order", "-"),
    "minus_best": ("minus the best operator", ":"),
}


def draw_landscape(profiles: Profiles, routing: RoutingConfig) -> bytes:
    """PNG: failed problems in feature space, coloured by label and, the steerable ones, by best operator."""
    labels = label(profiles.rates, profiles.operators, routing.margin, routing.hard)
    steerable = labels == STEERABLE
    by_label = {
        _LABEL_NAMES[name]: (labels == code, _LABEL_COLOURS[name]) for code, name in enumerate(LABELS)
    }
    # The usual label first, so that the others lie on top.
    by_label = dict(sorted(by_label.items(), key=lambda group: -group[1][0].sum()))
    by_best = {"not steerable": (~steerable, _GREY), **_best_operator(profiles, steerable)}
    axes_data = _coordinates(profiles, routing)
    pairs = list(itertools.combinations(axes_data, 2))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.7 * max(2, len(pairs)), 7.6), layout="constrained")
        figure.suptitle(
            f"Failure landscape of {profiles.cell}, {len(profiles)} failed problems",
            x=0.01,
            ha="left",
            size=13,
        )
        above, below = figure.subfigures(2, 1, hspace=0.04)
        _panels(above, by_label, axes_data, pairs, "What would rescue it")
        _panels(below, by_best, axes_data, pairs, "Best operator of the steerable ones")
        return _png(figure)


def draw_rescue(cell: dict) -> bytes:
    """PNG: rescue rate and 95 % interval of every policy of one cell of routing.json, both protocols."""
    protocols = [
        ("source", "source's protocol (same attempts label and score)", "#8d95a1", "o"),
        ("split_halves", "split halves (one half labels, the other scores)", "#d1495b", "D"),
    ]
    shown = [(name, title, c, m) for name, title, c, m in protocols if cell["protocols"][name]]
    rates = cell["protocols"]["source"]["rates"]
    always = [name for name in cell["protocols"]["source"]["routes"] if name != "retry"]
    always.sort(key=lambda name: -(rates[name] or 0))
    policies = ["routed", "best_fixed", "permuted", "random_operator", *always, "retry", "oracle"]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.2, 0.42 * len(policies) + 1.9), layout="constrained")
        axis = figure.subplots()
        for offset, (name, title, colour, marker) in zip((-0.14, 0.14), shown):
            protocol = cell["protocols"][name]
            for y, policy in enumerate(policies):
                value, (low, high) = protocol["rates"][policy], protocol["intervals"][policy]
                if value is None:
                    continue
                axis.plot([low, high], [y + offset] * 2, c=colour, lw=2, solid_capstyle="round", zorder=2)
                axis.plot(value, y + offset, marker, c=colour, ms=6, mec="white", mew=0.7, zorder=3)
                here = (high, y + offset)
                axis.annotate(
                    f"{value:.1f}",
                    here,
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    size=7,
                    color=colour,
                )
            axis.plot(
                [], [], marker, c=colour, ls="-", lw=2, label=f"{title}, {protocol['problems']:.0f} problems"
            )
        axis.set_yticks(range(len(policies)), [_POLICIES.get(p, f"always {p}") for p in policies])
        axis.invert_yaxis()
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.grid(axis="x", color="#eceff3")
        axis.axhspan(-0.5, 0.5, color="#f5f1e8", zorder=0)
        axis.set_ylim(len(policies) - 0.5, -0.5)
        axis.set_xlim(0, axis.get_xlim()[1] * 1.03)
        axis.set_xlabel("rescued attempts on steerable-hard problems, % (bars: 95 % bootstrap over problems)")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), alignment="left", borderaxespad=0.2)
        figure.suptitle(f"Rescue rates of {cell['cell']}", x=0.01, ha="left", size=12)
        return _png(figure)


def draw_cost(cell: dict) -> bytes:
    """PNG: problems of one cell solved within a budget, by path, and what routing gains over the best operator."""
    curve = cell["cost"]["curve"]
    budgets = [point["budget"] for point in curve]
    routed = [name for name in _PATHS if f"{name}_minus_best" in curve[0]]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.2, 3.4), layout="constrained")
        solved, gained = figure.subplots(1, 2)
        for name in curve[0]["solved"]:
            title, colour, dashes = _PATHS.get(name, (None, _GREY, "-"))
            values = [point["solved"][name] for point in curve]
            solved.plot(budgets, values, dashes, c=colour, label=title, zorder=2 if title else 1)
        solved.plot([], [], c=_GREY, label="another operator, always")
        for name in routed:
            _, colour, dashes = _PATHS[name]
            _band(gained, budgets, [point[f"{name}_minus_best"] for point in curve], colour, dashes)
        gained.set_ylabel("minus the best operator, points")
        return _budgets(figure, solved, gained, f"What a budget buys: {cell['cell']}")


def draw_schedules(found: dict) -> bytes:
    """PNG: problems solved within a budget by orders of operators, and what choosing one by the failure adds."""
    curve = found["curve"]
    budgets = [point["budget"] for point in curve]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.2, 3.4), layout="constrained")
        solved, gained = figure.subplots(1, 2)
        for name, (title, colour, dashes) in _ORDERS.items():
            if name in curve[0]["solved"]:
                values = [point["solved"][name] for point in curve]
                solved.plot(budgets, values, dashes, c=colour, label=title)
        for key, (title, dashes) in _GAPS.items():
            colour = _ORDERS["head_free"][1]
            _band(gained, budgets, [point["head_free"][key] for point in curve], colour, dashes)
            gained.plot([], [], dashes, c=colour, label=title)
        gained.set_ylabel("orders by what is free, points")
        return _budgets(
            figure, solved, gained, f"One operator after the other: {found['problems']} failed problems"
        )


def _band(axis, budgets: list[float], gaps: list[dict], colour: str, dashes: str) -> None:
    """A difference along the budgets, with its interval."""
    axis.plot(budgets, [gap["mean"] for gap in gaps], dashes, c=colour)
    low, high = ([np.nan if gap[end] is None else gap[end] for gap in gaps] for end in ("low", "high"))
    axis.fill_between(budgets, low, high, color=colour, alpha=0.15, lw=0)


def _budgets(figure: Figure, solved, gained, title: str) -> bytes:
    """What both plots of budgets share."""
    solved.set_ylabel("solved, % of all failed problems")
    gained.axhline(0, c=_INK, lw=0.8)
    for axis in (solved, gained):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("forward positions a problem")
        axis.grid(color="#eceff3")
    figure.legend(loc="outside lower left", ncols=3)
    figure.suptitle(title, x=0.01, ha="left", size=12)
    return _png(figure)


def _panels(figure, groups: dict[str, tuple[np.ndarray, str]], values: dict, pairs: list, title: str) -> None:
    """One row of scatter plots with its legend; later groups lie on top."""
    for axis, (x, y) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs):
        for mask, colour in groups.values():
            faint = colour == _GREY
            axis.scatter(
                values[x][mask],
                values[y][mask],
                s=14 if faint else 30,
                c=colour,
                alpha=0.7 if faint else 0.9,
                lw=0.5,
                ec="white",
            )
        axis.set_xlabel(_AXES[x])
        axis.set_ylabel(_AXES[y])
        axis.grid(color="#f0f2f5")
        axis.set_axisbelow(True)
    handles = [
        Line2D([], [], ls="", marker="o", ms=6, c=colour, label=f"{name} ({mask.sum()})")
        for name, (mask, colour) in groups.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(handles),
        title=title,
        alignment="left",
        title_fontproperties={"weight": "bold", "size": 10},
        handletextpad=0.1,
        columnspacing=1.4,
    )


def _best_operator(profiles: Profiles, steerable: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    arms = counted(profiles.operators)
    rates = profiles.rates[:, arms]
    best = rates == rates.max(axis=1, keepdims=True)
    alone = steerable & (best.sum(axis=1) == 1)
    groups = {"a tie": (steerable & ~alone, "#8a9099")} if (steerable & ~alone).any() else {}
    for i, arm in enumerate(arms):
        groups[profiles.operators[arm]] = (alone & best[:, i], _PALETTE[i % len(_PALETTE)])
    return groups


def _coordinates(profiles: Profiles, routing: RoutingConfig) -> dict[str, np.ndarray]:
    """Features that the cell has; a single one is drawn against the lift."""
    found = {name: profiles.features[:, f] for f, name in enumerate(FEATURES)}
    found = {name: values for name, values in found.items() if not np.isnan(values).any()}
    if len(found) < 2:
        rates = profiles.rates
        found["lift"] = (
            rates[:, counted(profiles.operators)].max(axis=1) - rates[:, profiles.operators.index("retry")]
        )
    return found


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib, so that the same numbers give the same file.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
