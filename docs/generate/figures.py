"""Draw the figures of README and docs from docs/results/data.

    python docs/generate/figures.py

Each figure carries the SHA-256 of its data, so that a test sees when it is stale.
"""

import hashlib
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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


DRAWINGS = {"orders.svg": (orders, draw_orders)}


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
