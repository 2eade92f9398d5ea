"""Reports of `routing.json`, the same for a terminal and for the page."""

import itertools
from collections.abc import Callable, Iterable, Sequence

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

ALL = "all cells"
PROTOCOLS = {
    "kfold": "k-fold by problem",
    "leave_cell_out": "leave one cell out",
    "leave_family_out": "leave one family out",
    "transfer": "transfer",
    "source": "source's protocol",
    "split_halves": "split halves",
}
_POPULATIONS = {
    "all": "failed",
    "all_unweighted": "failed, unweighted",
    "steerable": "steerable",
    "steerable_halves": "steerable by halves",
}
_TITLES = {  # of policies that are not routers
    "permuted": "its choices shuffled",
    "oracle": "oracle",
    "best_in_hindsight": "best operator in hindsight",
    "one_order": "one order",
    "one_order_per_model": "one order per model",
    "schedule": "learned orders",
    "schedule_free": "learned orders, free signals",
}
_AXES = {"forward": "forward tokens", "generated": "generated tokens"}


def titled(rows: Iterable[Record], routing: Record) -> list[dict]:
    """Rows with the names that people read.

    Args:
        rows: Records with `policy`, and perhaps `protocol` and `reference`.
        routing: Content of the file, for the titles of its policies.

    Returns:
        Copies with `title`, `minus` (the reference) and `by` (the protocol).
    """
    titles = _TITLES | {p["name"]: p["title"] for p in routing.get("policies", ())}
    named = lambda names, name: names.get(name, name)
    return [
        row
        | {"title": named(titles, row.get("policy"))}
        | {"minus": named(titles, row.get("reference"))}
        | {"by": named(PROTOCOLS, row.get("protocol"))}
        for row in map(dict, rows)
    ]


def in_order(rows: Iterable[Record], routing: Record) -> list[dict]:
    """Rates with the names that people read, in the order of the tables.

    Args:
        rows: Rows of `routing.json`.
        routing: Content of the file, for the order of its policies.

    Returns:
        What `titled` gives of the rows without a reference.
    """
    order = [p["name"] for p in routing["policies"]] + ["permuted", "oracle"]
    place = {name: i for i, name in enumerate(order)}
    rates = select(titled(rows, routing), reference=None)
    return sorted(rates, key=lambda row: place.get(row["policy"], len(order)))


def select(rows: Iterable[Record], **where) -> list:
    """Rows with the given values.

    Args:
        rows: Records.
        **where: Value by key; None where the key must be absent or null.

    Returns:
        The rows, in their order.
    """
    return [row for row in rows if all(row.get(k) == v for k, v in where.items())]


def routing_sections(found: Record) -> list[Section]:
    """Every table of an evaluation.

    Args:
        found: Content of `routing.json`.

    Returns:
        Sections; single cells come last.
    """
    names = ("rows", "certified", "calibration", "unsupported")
    routing = {**found, **{name: titled(found[name], found) for name in names}}
    cells, learned = routing["cells"], REPORTS["ablation"](routing["ablation"])
    learned += table("calibration", select(routing["calibration"], cell=ALL))
    power = [(cell["cell"], cell["power"]) for cell in cells]
    first = REPORTS["interaction"](routing["interaction"])
    return [
        Section("Data", attempts(cells)),
        Section("Labels", labels(cells)),
        Section("Policies", _policies(routing)),
        Section("Perfect router", oracle(routing["oracle"], PROTOCOLS)),
        Section("Power", [*first, *REPORTS["power"](power)]),
        Section("Cost", [*_costs(routing), *REPORTS["schedules"](routing)]),
        Section("Exploratory: learned routers", learned),
        Section("Exploratory: transfer", _transfer(routing)),
        Section("Exploratory: clusters", REPORTS["clusters"](routing["clusters"])),
        Section("Exploratory: audit", REPORTS["audit"](routing["audit"])),
        *(Section(f"Cell {c['cell']}", _cell(routing, c), folded=True) for c in cells),
    ]


register_report("routing")(routing_sections)


def _policies(routing: Record) -> list[Block]:
    """The declared comparison, certified lifts, then everything under each protocol."""
    missing = select(routing["unsupported"], cell=ALL, policy=None)
    why = {row["protocol"]: f"{row['by']}: n/a ({row['why']})" for row in missing}
    base, everywhere = "best_fixed_per_model", {"population": "all", "cell": ALL}
    pooled = select(routing["rows"], protocol="kfold", reference=base, **everywhere)
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
    rows = select(routing["rows"], protocol="kfold", population="all", reference=base)
    cells = [row for row in rows if row["policy"] in main and row["cell"] != ALL]
    return [*blocks, Section("Exploratory: by cell", _gaps(cells, cells=True))]


def _shown(row: Record, main: dict[str, str]) -> bool:
    """The declared family, distances from the best fixed operator, and controls."""
    control = row["policy"] in main and row["reference"].endswith("_permuted")
    return "p_holm" in row or row["reference"] == "best_fixed_per_model" or control


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
    rows, choices = in_order(rows, routing), []
    rates = _pivot(rows, lambda row: row["policy"], lambda row: row[key])
    records: list = []
    for _, group in itertools.groupby(rates, lambda row: blocks.get(row["policy"])):
        records += [{}, *group] if records else group
    titles = _POPULATIONS | PROTOCOLS
    counts = {titles[row[key]]: number(row["n"], 0) for row in rows}
    sizes = ", ".join(f"{n} {title}" for title, n in counts.items())
    for row in rows:
        taken = sorted((row.get("routes") or {}).items(), key=lambda route: -route[1])
        chosen = ", ".join(f"{operator} {n}" for operator, n in taken if n)
        by = row["by"] if key == "protocol" else None
        if "," in chosen and (by or row["population"] == "all"):
            choices.append(row | {"choices": chosen, "by": by})
    costs = f"\n{words('costs')}" * any(row.get("cost") for row in rates)
    shown = table("rates", records, sizes=sizes, costs=costs)
    return [*shown, *table("choices", choices)]


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
    return blocks or [words("no_costs")]


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
        for family, choices in families.items():
            for choice, order in choices.items():
                runs = [f"{k} {len(list(run))}" for k, run in itertools.groupby(order)]
                said = ", ".join(runs[:8]) + ", …" * (len(runs) > 8)
                name = f"{_TITLES.get(policy, policy)}: {choice}"
                orders.append({"task": family, "order": name, "runs": said})
    pooled = {**routing, "curves": select(routing["curves"], cell=ALL)}
    inner = [*curves(pooled, words("schedules", **found)), price_words(found)]
    title = "Exploratory: one operator after another"
    return [Section(title, [*inner, *table("orders", orders)])]


def _transfer(routing: Record) -> list[Block]:
    if not (found := routing["transfer"]):
        return [words("no_transfer")]
    cells = ", ".join(found["source"]["cells"])
    lines = [words("transfer", cells=cells, **found["questions"])]
    lines += [words("stays")] * (not found["source"]["departs"])
    for row in select(routing["unsupported"], protocol="transfer"):
        what = row["title"] or "transfer"
        lines.append(f"{what} on {row['cell']}: n/a ({row['why']})")
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
