"""What groups of columns add to the learned head, as a person reads it in a terminal."""

import numpy as np

from fr.report.tables import Bar, Scale, Table, number, span, text


def render_ablation(rows: list[dict]) -> str:
    """The text of `ablation_blocks`."""
    return text(ablation_blocks(rows))


def ablation_blocks(rows: list[dict]) -> list[Table]:
    """Points that each group of signals adds to the nuisances, and that its absence costs; none without rows."""
    if not rows:
        return []
    gaps = [row[key] for row in rows for key in ("added", "left_out") if key in row]
    ends = [abs(gap[end]) for gap in gaps for end in ("low", "high") if gap[end] is not None]
    bound = float(np.ceil(max([1, *ends])))
    lines = []
    for row in rows:
        line = [row["group"], str(row["columns"])]
        for key in ("added", "left_out"):
            gap = row.get(key)
            drawn = Bar(gap["diff"], gap["low"], gap["high"], (-bound, bound), width=21) if gap else ""
            value = number(gap["diff"], sign=True) if gap else ""
            line += [value, span(gap["low"], gap["high"], sign=True) if gap else "", drawn]
        lines.append(line)
    drawn = Scale((-bound, bound), width=21)
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
    note = f"  points of rescue, k-fold by problem, {rows[0]['n']} failed problems; exploratory"
    return [Table(header, lines, left=(0, 4, 7), note=note)]
