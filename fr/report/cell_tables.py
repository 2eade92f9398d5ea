"""Reports of the cells of `routing.json`: attempts, labels, interaction, power."""

from collections.abc import Iterable, Sequence

from fr.layout.tables import (
    Block,
    Column,
    Record,
    number,
    register_report,
    table,
)


@register_report("power")
def _power(cells: Iterable[tuple[str, Record | None]]) -> list[Block]:
    """The smallest lift that attempts can show: record `power` by name of its cell."""
    rows: list[dict] = []
    for name, power in cells:
        rows.append({"cell": name} | (power or {}))
        for i, row in enumerate(power["needed"] if power else ()):
            rows[-1][f"need_{i}"] = f"{row['10']:,} / {row['100']:,}"
    return table("power", rows)


def attempts(cells: Sequence[Record]) -> list[Block]:
    """Failed problems and attempts per operator.

    Args:
        cells: Records `cells` of `routing.json`.

    Returns:
        A table with a row per cell.
    """
    rows = []
    for cell in cells:
        counts: dict[str, list[str]] = {}
        for name, n in cell["attempts"]["operators"].items():
            ends = f" [{n['least']}–{n['most']}]" * (n["least"] != n["most"])
            counts.setdefault(number(n["median"], 0) + ends, []).append(name)
        tried = (f"{count}: {', '.join(names)}" for count, names in counts.items())
        known = "given" if cell["attempts"]["given"] else "fitted"
        rows.append({**cell, "known": known, "tried": "; ".join(tried)})
    return table("cells", rows)


def labels(cells: Sequence[Record]) -> list[Block]:
    """Labels, their certainty, and true rates under a hierarchical model.

    Args:
        cells: Records `cells` of `routing.json`.

    Returns:
        Tables with a row per cell, and per label.
    """
    known, rows = [cell for cell in cells if cell["power"]], []
    sizes = [row["attempts"] for row in known[0]["power"]["stability"]] if known else []
    for cell in cells:
        stability = cell["power"]["stability"] if cell["power"] else ()
        same = {f"same at {row['attempts']}, %": row["same"] for row in stability}
        rows.append({**cell, **same})
    nulls = [", ".join(c["label_null"]["operators"]) for c in cells if c["label_null"]]
    columns = [Column(f"same at {size}, %", digits=0) for size in sizes]
    posteriors = [
        {"cell": cell["cell"], "label": name} | found
        for cell in known
        for name, found in cell["power"]["labels"].items()
    ]
    fixed = [", ".join(cell["power"]["deterministic"]) or None for cell in known]
    rates = [{**cell, "deterministic": names} for cell, names in zip(known, fixed)]
    return [
        *table(
            "labels", rows, columns, operators="; ".join(dict.fromkeys(nulls)) or "none"
        ),
        *table("label_posteriors", posteriors),
        *table("headroom", rates),
    ]


def oracle(records: Sequence[Record], protocols: dict[str, str]) -> list[Block]:
    """Rescue rates of a perfect router.

    Args:
        records: Records `oracle` of `routing.json`.
        protocols: Title of each protocol.

    Returns:
        A table with a row per cell and protocol.
    """
    among = lambda row: protocols.get(row.get("protocol"), "all failed")
    return table("oracle", [{**row, "among": among(row)} for row in records])
