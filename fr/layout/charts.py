"""The look of charts, and charts as PNG files."""

import io

from matplotlib.figure import Figure

GREY, INK = "#c9ced6", "#2b2f36"
# The palette of Okabe and Ito, which colour-blind readers can tell apart.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a6c00")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "text.color": INK,
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
}


def png(figure: Figure) -> bytes:
    """Write a figure.

    Args:
        figure: The figure.

    Returns:
        A PNG file; the same numbers give the same bytes.
    """
    buffer = io.BytesIO()
    # Without the version of matplotlib.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
