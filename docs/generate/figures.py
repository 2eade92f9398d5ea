"""Draw the figures of README and docs from docs/results/data.

    python docs/generate/figures.py

Each figure carries the SHA-256 of its data, so that a test sees when it is stale.
"""

import functools
import hashlib
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tables_studies import by_group, grouped, primaries  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent
DATA = DOCS / "results" / "data"
FIGURES = DOCS / "figures"
# Label, colour and line style of each curve of `orders.svg`, by its key in the data.
_CURVES = {
    "one_order_per_model": ("one order per model (reads no failure)", "#1b6ca8", "-"),
    "head_free": ("orders by the learned router", "#c44536", "-"),
    "best_fixed": ("best single operator, in hindsight", "#7a7a7a", "--"),
    "one_order": ("one order for all models", "#7a7a7a", ":"),
    "retry": ("retry", "#b5b5b5", "-"),
}

# Colour and line style of the metrics of a study by group; told apart without colour.
_PALETTE = (
    ("#1b6ca8", "o-"),
    ("#c44536", "s--"),
    ("#4a7c59", "^:"),
    ("#7a7a7a", "d-."),
    ("#8a5a9e", "v-"),
)


def orders() -> dict:
    """Data of `orders.svg`: shares of problems solved within a budget."""
    data = json.loads((DATA / "routing.json").read_text())
    return data["planted"]["orders"]["found"]["curves"]["forward"]


def digest(data) -> str:
    """The SHA-256 that a figure carries of its data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def draw_orders(path: Path) -> None:
    """Problems solved within a budget of forward tokens, on planted causes."""
    rows = orders()
    budgets = [row["budget"] for row in rows]
    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    for key, (label, colour, style) in _CURVES.items():
        solved = [row["solved"][key] for row in rows]
        axes.plot(budgets, solved, style, color=colour, label=label, linewidth=1.8)
    axes.set_xlabel("budget, forward tokens per problem")
    axes.set_ylabel("problems solved, %")
    axes.set_ylim(20, 90)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    found = {"Description": f"sha256:{digest(rows)}", "Date": None}
    figure.savefig(path, metadata=found)
    plt.close(figure)


def draw_failure_modes(path: Path) -> None:
    """The primary comparison of every measured study, with its interval."""
    rows = primaries()[::-1]
    height = 0.9 + 0.46 * len(rows)
    figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
    axes.axvline(0, color="#7a7a7a", linewidth=0.8)
    for place, row in enumerate(rows):
        value, low, high = row["value"], row["low"], row["high"]
        sure = low > 0 or high < 0
        colour = "#1b6ca8" if sure else "#7a7a7a"
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8)
        axes.plot(value, place, "o", color=colour, markersize=5)
        axes.annotate(
            row["primary"], (0, place), (0, 7), color="#555555", fontsize=7.5,
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.2)
    axes.set_xlabel("difference, percentage points, with its 95 % interval")
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    found = {"Description": f"sha256:{digest(primaries())}", "Date": None}
    figure.savefig(path, metadata=found)
    plt.close(figure)


def draw_groups(name: str, path: Path) -> None:
    """The metrics of a study by group, one panel per arm."""
    rows = by_group(name)
    arms = list(dict.fromkeys(arm for arm, *_ in rows))
    figure, panels = plt.subplots(
        1, len(arms), figsize=(max(6.4, 2.6 * len(arms)), 3.0), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    metrics = list(dict.fromkeys(metric for _, metric, _ in rows))
    for axes, arm in zip(panels[0], arms):
        of_arm = [(metric, values) for own, metric, values in rows if own == arm]
        for metric, values in of_arm:
            colour, mark = _PALETTE[metrics.index(metric) % len(_PALETTE)]
            y = [v["value"] for v in values.values()]
            low, high = ([v[end] for v in values.values()] for end in ("low", "high"))
            axes.fill_between(range(len(y)), low, high, color=colour, alpha=0.15)
            axes.plot(y, mark, color=colour, label=metric, linewidth=1.6, markersize=4)
        keys = list(of_arm[0][1])
        axes.set_xticks(range(len(keys)), [key.partition("=")[2] for key in keys])
        axes.set_xlabel(keys[0].partition("=")[0])
        axes.set_title(arm, fontsize=9.5)
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("%, with 95 % intervals")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize=8.5, ncols=min(3, len(labels)),
        loc="outside lower center",
    )  # fmt: skip
    found = {"Description": f"sha256:{digest(rows)}", "Date": None}
    figure.savefig(path, metadata=found)
    plt.close(figure)


DRAWINGS: dict = {
    "orders.svg": (orders, draw_orders),
    "failure_modes.svg": (primaries, draw_failure_modes),
} | {
    f"study_{name}.svg": (
        functools.partial(by_group, name),
        functools.partial(draw_groups, name),
    )
    for name in grouped()
}


def main() -> None:
    """Draw every figure."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fr"})
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 9.5})
    FIGURES.mkdir(exist_ok=True)
    for name, (_, draw) in DRAWINGS.items():
        draw(FIGURES / name)
        print(FIGURES / name)


if __name__ == "__main__":
    main()
