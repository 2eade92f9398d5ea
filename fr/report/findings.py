"""First sections of an evaluation of routing: verdict, forest plot, costs, words."""

from collections.abc import Iterable, Sequence

from fr.comparison.titles import ALL, in_order, select, titled
from fr.layout.tables import Block, Forest, Record, Section, described, table, words
from fr.report.certificate_tables import to_route, verdict

BASE = "best_fixed_per_model"
_POOLED = {"protocol": "kfold", "population": "all"}


def findings(routing: Record) -> list[Section]:
    """Say the result, before any table of details.

    Args:
        routing: Content of `routing.json`.

    Returns:
        Sections: the verdict with a forest plot, what there is to route, costs, words.
    """
    glossary = [{"word": k, "meaning": v} for k, v in described("words").items()]
    return [
        Section("What was found", [*verdict(routing["verdict"]), *_forest(routing)]),
        Section(
            "Is there anything to route",
            to_route(routing["cells"], routing["interaction"]),
        ),
        Section("What it costs", _spent(routing)),
        Section("Words", table("glossary", glossary)),
    ]


def _forest(routing: Record) -> list[Block]:
    """Operators minus retry and routers minus the best fixed operator, by cell."""
    main = {p["name"]: p for p in routing["policies"] if p["main"]}
    operators = [p["name"] for p in routing["policies"] if p["block"] == "operator"]
    wanted = [(name, "retry") for name in operators]
    wanted += [(name, BASE) for name in main]
    found = select(routing["rows"], **_POOLED)
    cells = [cell["cell"] for cell in routing["cells"]]
    places = cells if len(cells) == 1 else [ALL, *cells]
    by = {(r["cell"], r["policy"], r.get("reference")): r["interval"] for r in found}
    kept = [pair for pair in wanted if any((place, *pair) in by for place in places)]
    if not kept:
        return []
    names = titled(({"policy": p, "reference": r} for p, r in kept), routing)
    rows = [(row["title"].removeprefix("always "), row["minus"]) for row in names]
    panels = [(place, [by.get((place, *pair)) for pair in kept]) for place in places]
    return [Forest(rows, panels)]


def _spent(routing: Record) -> list[Block]:
    """Rescue rates and costs of what a deployer would choose between."""
    rows = select(routing["rows"], cell=ALL, **_POOLED)
    main = {p["name"] for p in routing["policies"] if p["main"]}
    shown = [
        row | {"all": row, "choices": choices(row)}
        for row in in_order(rows, routing)
        if row["policy"] in {*main, BASE, "retry"}
    ]
    costs = words("costs") * any(row.get("cost") for row in shown)
    return table("spent", merged(shown), costs=costs)


def choices(row: Record) -> str:
    """List the operators that a policy chose.

    Args:
        row: Row of `routing.json`.

    Returns:
        Operators with their numbers of problems, the most frequent first.
    """
    taken = sorted((row.get("routes") or {}).items(), key=lambda route: -route[1])
    return ", ".join(f"{operator} {n}" for operator, n in taken if n)


def merged(rows: Iterable[Record]) -> Sequence[Record]:
    """Put policies into one row that choose the same operators with the same result.

    Args:
        rows: Records with a title, routes and an interval.

    Returns:
        The cheapest record of each group, with the titles of all.
    """
    found: dict[tuple, Record] = {}
    for i, row in enumerate(rows):
        parts = [row, *(each for each in row.values() if isinstance(each, dict))]
        told = [(p["interval"], p.get("routes")) for p in parts if "interval" in p]
        key = tuple(map(str, told)) if row.get("routes") else (i,)
        first = found.setdefault(key, row)
        if first is not row:
            one = min(first, row, key=lambda r: r.get("cost") or 0)
            found[key] = {**one, "title": f"{first['title']}; {row['title']}"}
    return list(found.values())
