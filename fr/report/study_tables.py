"""A study as a person reads it in a terminal."""

from fr.report.evaluation_tables import label, scaled
from fr.report.tables import number, span, table


def render_study(result: dict) -> str:
    """Figures of every arm with intervals, differences from the reference, tokens of a training."""
    arms, seeds = result["arms"], len(result["seeds"])
    figures = next(iter(arms.values()))["figures"]
    head = f"  {seeds} seeds, {result['problems']} problems each; 95 % over seeds and problems"
    values = [
        [label(name), *(_with_span(name, arm["figures"][name]) for arm in arms.values())] for name in figures
    ]
    kinds = next(iter(arms.values()))["tokens"]
    values += [[]] + [
        [f"{kind.replace('_', ' ')} of a training", *(f"{arm['tokens'][kind]:,.0f}" for arm in arms.values())]
        for kind in kinds
    ]
    values.append(
        ["all tokens of a training", *(f"{sum(arm['tokens'].values()):,.0f}" for arm in arms.values())]
    )
    rows = [
        [
            f"{row['arm']} − {row['reference']}",
            label(row["figure"]),
            number(scaled(row["figure"], row["mean"]), sign=True),
            span(*(scaled(row["figure"], row[end]) for end in ("low", "high")), sign=True),
            number(row["p"], 3),
            number(row.get("holm_p"), 3),
            "primary" if row["primary"] else "exploratory",
        ]
        for row in sorted(result["differences"], key=lambda row: not row["primary"])
    ]
    header = ["difference", "figure", "points", "95 %", "p", "Holm p", ""]
    return "\n\n".join([head, table(["%", *arms], values), table(header, rows, left=(0, 1, 6))])


def _with_span(name: str, value: dict) -> str:
    return f"{number(scaled(name, value['mean']))} {span(*(scaled(name, value[e]) for e in ('low', 'high')))}"
