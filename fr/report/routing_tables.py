"""Reports of `routing.json`, the same for a terminal and for the page."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from fr.comparison.titles import ALL, PROTOCOLS, TITLES, in_order, select, titled
from fr.layout.tables import (
    REPORTS,
    Block,
    Column,
    Record,
    Section,
    number,
    register_report,
    table,
    words,
)
from fr.report import failure_tables  # noqa: F401
from fr.report.cell_tables import attempts, labels, oracle
from fr.report.findings import BASE, choices, findings, merged

_POPULATIONS = {
    "all": "failed",
    "all_unweighted": "failed, unweighted",
    "steerable": "steerable",
    "steerable_halves": "steerable by halves",
}
_AXES = {"forward": "forward tokens", "generated": "generated tokens"}


def routing_sections(found: Record) -> list[Section]:
    """Every table of an evaluation.

    Args:
        found: Content of `routing.json`.

    Returns:
        Sections: what was found, then details, folded; single cells come last.
    """
    names = ("rows", "certified", "calibration", "unsupported")
    routing = {**found, **{name: titled(found[name], found) for name in names}}
    cells, learned = routing["cells"], REPORTS["ablation"](routing["ablation"])
    learned += table("calibration", select(routing["calibration"], cell=ALL))
    power = [(cell["cell"], cell["power"]) for cell in cells]
    folded = {
        "Data": attempts(cells),
        "Labels": labels(cells),
        "Policies": _policies(routing),
        "Perfect router": oracle(routing["oracle"], PROTOCOLS),
        "Power": REPORTS["power"](power),
        "Cost": [*_costs(routing), *REPORTS["schedules"](routing)],
        "Exploratory: learned routers": learned,
        "Exploratory: transfer": _transfer(routing),
        "Exploratory: clusters": REPORTS["clusters"](routing["clusters"]),
        "Exploratory: audit": REPORTS["audit"](routing["audit"]),
    } | {f"Cell {cell['cell']}": _cell(routing, cell) for cell in cells}
    details = [Section(title, own, True) for title, own in folded.items() if any(own)]
    return [*findings(routing), *details]


register_report("routing")(routing_sections)


def _policies(routing: Record) -> list[Block]:
    """The declared comparison, certified lifts, then everything under each protocol."""
    missing = select(routing["unsupported"], cell=ALL, policy=None)
    why = {row["protocol"]: f"{row['by']}: left out ({row['why']})" for row in missing}
    everywhere = {"population": "all", "cell": ALL}
    pooled = select(routing["rows"], protocol="kfold", reference=BASE, **everywhere)
    claims = [select(pooled, policy=name) for name in ("posterior", "rule")]
    claim = _gaps(claims[0] or claims[1])
    claim = claim or [words("impossible", why="; ".join(why.values()))]
    head = "Primary comparison, the same in every run"
    blocks: list[Block] = [Section(head, [*claim, *_certified(routing["certified"])])]
    main = {p["name"]: p["block"] for p in routing["policies"] if p["main"]}
    for protocol, title in itertools.islice(PROTOCOLS.items(), 4):
        rows = select(routing["rows"], protocol=protocol, cell=ALL)
        gaps = [row for row in select(rows, population="all") if row["minus"]]
        if protocol != "transfer":
            gaps = [row for row in gaps if _shown(row, main)]
        if protocol in why:
            blocks.append(why[protocol])
        elif rows:
            inner = [*_rates(routing, rows, "population"), *_gaps(gaps)]
            blocks.append(Section(f"Exploratory: {title}", inner))
    rows = select(routing["rows"], protocol="kfold", population="all", reference=BASE)
    cells = [row for row in rows if row["policy"] in main and row["cell"] != ALL]
    return [*blocks, Section("Exploratory: by cell", _gaps(cells, cells=True))]


def _shown(row: Record, main: dict[str, str]) -> bool:
    """The declared family, distances from the best fixed operator, and controls."""
    control = row["policy"] in main and row["reference"].endswith("_permuted")
    return "p_holm" in row or row["reference"] == BASE or control


def _certified(records: Sequence[Record]) -> list[Block]:
    rows = []
    for found in records:
        kept, gap = f"{found['kept']} of {found['folds']}", found["interval"]
        gap = gap if gap["low"] is not None else f"the fixed choice in {kept} folds"
        verdict = "yes" if found["certified"] else "no"
        rows.append(found | {"gap": gap, "kept_folds": kept, "verdict": verdict})
    first = rows[0] if rows else {"runs": 0}
    runs = f" and {first['runs']} training runs" * (first["runs"] > 1)
    return table("certified", rows, **first | {"runs": runs})


def _gaps(rows: Sequence[Record], cells: bool = False) -> list[Block]:
    """Differences with p, and with Holm's p over the declared family."""
    shown = []
    for row in rows:
        gap, kept = row["interval"], None
        if gap["value"] == 0 and gap["low"] is None:
            gap = "the same"
            kept = (
                f"in {row['kept']} of {row['folds']} folds" if "kept" in row else None
            )
        shown.append(row | {"gap": gap, "kept_folds": kept})
        shown[-1]["cell"] = row["cell"] if cells else None
    return table("gaps", shown)


def _rates(routing: Record, rows: Iterable[Record], key: str) -> list[Block]:
    """Rates of every policy by population or protocol, its costs, and its choices."""
    blocks = {policy["name"]: policy["block"] for policy in routing["policies"]}
    rows = in_order(rows, routing)
    rates = _pivot(rows, lambda row: row["policy"], lambda row: row[key])
    records: list = []
    for _, group in itertools.groupby(rates, lambda row: blocks.get(row["policy"])):
        records += [{}, *merged(group)] if records else merged(group)
    titles = _POPULATIONS | PROTOCOLS
    counts = {titles[row[key]]: number(row["n"], 0) for row in rows}
    sizes = ", ".join(f"{n} {title}" for title, n in counts.items())
    chosen = []
    for row in rows:
        by = row["by"] if key == "protocol" else None
        if "," in (told := choices(row)) and (by or row["population"] == "all"):
            chosen.append(row | {"choices": told, "by": by})
    costs = f"\n{words('costs')}" * any(row.get("cost") for row in rates)
    shown = table("rates", records, sizes=sizes, costs=costs)
    return [*shown, *table("choices", chosen)]


def _pivot(rows: Iterable[Record], by: Callable, over: Callable) -> list[dict]:
    """One record per value of `by`: its first row, and every row under its `over`."""
    found: dict = {}
    for row in rows:
        found.setdefault(by(row), dict(row))[over(row)] = row
    return list(found.values())


def curves(found: Record, title: str) -> list[Block]:
    """Problems solved within each budget, and differences at equal cost.

    Args:
        found: Content of `routing.json` or `online.json`, with the curves of one cell.
        title: Line above the tables.

    Returns:
        A table per axis of cost.
    """
    rows, blocks = titled(found["curves"], found), []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        here = sorted(select(rows, axis=axis), key=lambda row: row["minus"] is not None)
        columns = {}
        for row in here:
            # Differences carry the comparison: only they print their intervals.
            end = ".interval" if row["minus"] else ".interval.value"
            name = _series(row) + ", %" * (row["minus"] is None)
            columns[name] = Column(name, _key(row) + end, sign=bool(row["minus"]))
        budgets = _pivot(here, lambda row: row["budget"], _key)
        more = list(columns.values())
        blocks += table(
            "curves", budgets, more, title=title, axis=_AXES.get(axis, axis)
        )
        declared = [number(r["budget"], 0) for r in budgets if r.get("declared")]
        if declared:
            blocks.append(words("declared", budgets=", ".join(declared)))
    return blocks


def _series(row: Record) -> str:
    paid = f", diagnosis {row['diagnosis']}" if row.get("diagnosis") else ""
    return row["title"] + paid + (f" − {row['minus']}" if row["minus"] else "")


def _key(row: Record) -> str:
    return _series(row).replace(".", "_")


def _costs(routing: Record) -> list[Block]:
    blocks: list[Block] = []
    for cell in (cell for cell in routing["cells"] if cell["cost"]):
        spent = cell["cost"]["forward_tokens"]
        spent = {k: number(spent[k], 0) for k in ("diagnosis", "failures")}
        title = words("cost", cell=cell["cell"], **spent)
        operators = set(cell["attempts"]["operators"]) - {"retry"}
        rows = select(routing["curves"], cell=cell["cell"])
        rows = [row for row in rows if row["policy"] not in operators]
        blocks += curves({**routing, "curves": rows}, title)
        blocks.append(price_words(cell["cost"]))
    return blocks


def price_words(found: Record) -> str:
    """The sentence on prices of attempts.

    Args:
        found: Record with `recorded` and `error`, the standard error of the draws of
            the order of attempts, in points.

    Returns:
        A sentence.
    """
    exact = "recorded" if found["recorded"] else "approximate"
    return words(exact, error=number(found["error"], 2))


@register_report("ablation")
def _ablation(records: Sequence[Record]) -> list[Block]:
    """Points that each group of signals adds: record `ablation`."""
    return table("ablation", records, n=records[0]["n"] if records else 0)


@register_report("schedules")
def _schedules(routing: Record) -> list[Block]:
    """One operator after another: curves of all cells together, and the orders."""
    if not (found := routing["schedules"]):
        return []
    orders = []
    for policy, families in found["orders"].items():
        for family, own in families.items():
            for choice, order in own.items():
                runs = [f"{k} {len(list(run))}" for k, run in itertools.groupby(order)]
                said = ", ".join(runs[:8]) + ", …" * (len(runs) > 8)
                name = f"{TITLES.get(policy, policy)}: {choice}"
                orders.append({"task": family, "order": name, "runs": said})
    pooled = {**routing, "curves": select(routing["curves"], cell=ALL)}
    inner = [*curves(pooled, words("schedules", **found)), price_words(found)]
    title = "Exploratory: one operator after another"
    return [Section(title, [*inner, *table("orders", orders)])]


def _transfer(routing: Record) -> list[Block]:
    if not (found := routing["transfer"]):
        return []
    cells = ", ".join(found["source"]["cells"])
    lines = [words("transfer", cells=cells, **found["questions"])]
    lines += [words("stays")] * (not found["source"]["departs"])
    for row in select(routing["unsupported"], protocol="transfer"):
        what = row["title"] or "transfer"
        lines.append(f"{what} on {row['cell']}: left out ({row['why']})")
    rows = [
        cell
        | {"known": "yes" if cell["known_to_source"] else "no: of all its failures"}
        | {"missing": ", ".join(cell["source_only"]) or None}
        | {"reads": ", ".join(cell["rule_reads"]) or "nothing"}
        for cell in found["cells"]
    ]
    return ["\n".join(lines), *table("transfer", rows)]


def _cell(routing: Record, cell: Record) -> list[Block]:
    """Policies of one cell on its steerable problems, in both in-sample protocols."""
    rows = select(routing["rows"], cell=cell["cell"], population="steerable")
    rows = [row for row in rows if row["protocol"] in ("source", "split_halves")]
    gaps = [row for row in rows if row["policy"] == "rule" and row["minus"]]
    notes = [f"note: {note}" for note in cell["notes"]]
    for row in select(gaps, reference="best_fixed_per_cell"):
        if (lift := row.get("detectable")) is not None:
            notes.append(words("detectable", by=row["by"], lift=lift))
    for row in select(routing["protocols"], cell=cell["cell"]):
        notes += [words("repeats", **row["repeats"])] if row.get("repeats") else []
    records = _pivot(gaps, lambda row: row["minus"], lambda row: row["protocol"])
    rates = _rates(routing, rows, "protocol")
    differences = table("rule", records, notes="\n".join(notes))
    return [f"{cell['n']} failed problems", *rates, *differences]
