"""Limits of the results of a run, in sentences."""

from collections.abc import Iterator

from fr.comparison.titles import select, titled
from fr.layout.tables import Record, number, words

_CHANCE = 0.05  # p above which labels are called what chance makes


def limits(routing: Record, summary: Record | None) -> list[str]:
    """Sentences that limit what the results say.

    Args:
        routing: Content of `routing.json`.
        summary: Content of `summary.json`, if any.

    Returns:
        Sentences; several cells with the same limit share one.
    """
    said: dict[str, list[str]] = {}
    for cell in routing["cells"]:
        for line in _cell(cell, routing["protocols"]):
            said.setdefault(line, []).append(cell["cell"])
    every = len(routing["cells"])
    found = [
        f"{'Every cell' if len(cells) == every > 1 else ', '.join(cells)}: {line}."
        for line, cells in said.items()
    ]
    for row in titled(routing["unsupported"], routing):
        found.append(f"No {row['title'] or row['by']} on {row['cell']}: {row['why']}.")
    for record in routing["clusters"]:
        why = record["why"]
        found += [f"Clusters of {record['cell']}: {why}."] * bool(why)
    for record in routing["audit"]:
        what = f"Audit, {record['target']} within {record['scope']}"
        names = " and with the ".join(record["confounded"])
        found += [f"{what}: confounded with the {names}."] * bool(names)
        found += [f"{what}: {record['why']}."] * bool(record["why"])
    if not summary:
        return found
    tried = summary["attempts"]
    names = ", ".join(
        name for name, o in tried["operators"].items() if o["uses_oracle"]
    )
    found += [f"Uses truth from outside of the model: {names}."] * bool(names)
    return found + [
        f"Operator {k} left out: {v}." for k, v in tried["left_out"].items()
    ]


def _cell(cell: Record, protocols: list[Record]) -> Iterator[str]:
    yield from cell["notes"]
    null, cost = cell["label_null"], cell["cost"]
    if not cell["attempts"]["given"]:
        yield words("fitted")
    if cell["single_failure"]:
        yield words("once", **cell)
    if null is None:
        yield words("no_chance")
    elif null["p"] > _CHANCE:
        yield words("chance", p=number(null["p"], 3))
    if cell["power"] is None:
        yield words("no_power")
    if cost is None or not cost["recorded"]:
        yield words("priced" if cost else "no_cost")
    halves = select(protocols, cell=cell["cell"], protocol="split_halves")
    if not halves:
        yield words("no_halves")
    for row in halves:
        if row["dropped"]:
            yield words("dropped", **row)
        if row["deterministic"]:
            yield words("deterministic", operators=", ".join(row["deterministic"]))
