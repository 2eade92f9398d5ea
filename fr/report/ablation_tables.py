"""What groups of columns add to the learned head, as a person reads it in a terminal."""

import numpy as np

from fr.report.tables import number, scale, span, strip, table


def render_ablation(rows: list[dict]) -> str:
    """Points that each group of signals adds to the nuisances, and that its absence costs; "" without rows."""
    if not rows:
        return ""
    gaps = [row[key] for row in rows for key in ("added", "left_out") if key in row]
    ends = [abs(gap[end]) for gap in gaps for end in ("low", "high") if gap[end] is not None]
    bound = float(np.ceil(max([1, *ends])))
    lines = []
    for row in rows:
        line = [row["group"], str(row["columns"])]
        for key in ("added", "left_out"):
            gap = row.get(key)
            drawn = strip(gap["diff"], gap["low"], gap["high"], (-bound, bound), width=21) if gap else ""
            value = number(gap["diff"], sign=True) if gap else ""
            line += [value, span(gap["low"], gap["high"], sign=True) if gap else "", drawn]
        lines.append(line)
    drawn = scale((-bound, bound), width=21)
    header = [
        "signals of the head",
        "columns",
        "over nuisances",
        "95 %",
        drawn,
        "over the others",
        "95 %",
        drawn,
    ]
    text = table(header, lines, left=(0, 4, 7))
    return f"{text}\n  points of rescue, k-fold by problem, {rows[0]['n']} failed problems; exploratory"
