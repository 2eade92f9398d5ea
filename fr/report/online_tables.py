"""What online routing bought, as a person reads it in a terminal."""

import numpy as np

from fr.report.tables import Bar, Scale, Table, number, span


def render_online(summary: dict) -> str:
    """Routes, and the share of the problems that the policy and its reference have at each cost."""
    name, reference = summary["policy"], summary["reference"]
    routes = ", ".join(f"{operator} {count}" for operator, count in summary["routes"].items()) or "none"
    found = "solved" if summary["verifier"] else "right by vote"
    ends = [
        abs(gap[end]) for row in summary["curve"] for gap in row["minus"].values() for end in ("low", "high")
    ]
    bounds = (-float(np.ceil(max([1, *ends]))), float(np.ceil(max([1, *ends]))))
    rows = []
    for row in summary["curve"]:
        line = [f"{row['budget']:,.0f}" + " *" * row["declared"], number(row["share"][name])]
        if gap := row["minus"].get(name):
            bar = Bar(gap["mean"], gap["low"], gap["high"], bounds)
            line += [number(row["share"][reference]), number(gap["mean"], sign=True)]
            line += [span(gap["low"], gap["high"], sign=True), bar]
        rows.append(line)
    header = ["positions a problem", f"{name}, %"]
    if name != reference:
        header += [f"{reference}, %", "points", "95 %", Scale(bounds)]
    lead = (
        f"  {summary['problems']} problems, {summary['after']} plain attempts before a problem is routed; "
        f"routes: {routes}\n  {found} within a cost"
    )
    if any(row["declared"] for row in summary["curve"]):
        note = "  * the budget that config.intervention.budget declared before the attempts; others are exploratory"
    else:
        note = "  no budget was declared before the attempts (config.intervention.budget): all are exploratory"
    return str(Table(header, rows, left=(5,), lead=lead, note=note))
