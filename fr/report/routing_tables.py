"""Reports of `routing.json`, the same for a terminal and for the page."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from fr.report.failure_tables import audit, clusters
from fr.report.tables import Block, Column, Section, number, table

ALL = "all cells"
_PROTOCOLS = {
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
_TITLES = {  # of what is no router
    "permuted": "its choices shuffled",
    "oracle": "oracle",
    "best_in_hindsight": "best operator in hindsight",
    "one_order": "one order",
    "one_order_per_model": "one order per model",
    "schedule": "learned orders",
    "schedule_free": "learned orders, free signals",
}
_COSTS = (
    "\ncost: mean forward tokens of the chosen attempt, the ancestor's by its size, and "
    "of the diagnosis where the policy reads failures"
)
_AXES = {"forward": "forward tokens", "generated": "generated tokens"}


def titled(rows: Iterable[Mapping], routing: Mapping) -> list[dict]:
    """Rows with the names that people read.

    Args:
        rows: Records with `policy`, and perhaps `protocol` and `reference`.
        routing: Content of the file, for the titles of its policies.

    Returns:
        Copies with `title`, `minus` (the reference) and `by` (the protocol).
    """
    titles = _TITLES | {p["name"]: p["title"] for p in routing.get("policies", ())}
    return [
        {
            **row,
            "title": titles.get(row.get("policy"), row.get("policy")),
            "minus": titles.get(row.get("reference"), row.get("reference")),
            "by": _PROTOCOLS.get(row.get("protocol"), row.get("protocol")),
        }
        for row in rows
    ]


def in_order(rows: Iterable[Mapping], routing: Mapping) -> list[dict]:
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


def select(rows: Iterable[Mapping], **where) -> list:
    """Rows with the given values.

    Args:
        rows: Records.
        **where: Value by key; None where the key must be absent or null.

    Returns:
        The rows, in their order.
    """
    return [row for row in rows if all(row.get(k) == v for k, v in where.items())]


def routing_sections(found: Mapping) -> list[Section]:
    """Every table of an evaluation.

    Args:
        found: Content of `routing.json`.

    Returns:
        Sections, those of single cells last.
    """
    names = ("rows", "certified", "calibration", "unsupported")
    routing = {**found, **{name: titled(found[name], found) for name in names}}
    cells, pooled = routing["cells"], select(routing["calibration"], cell=ALL)
    learned = [*ablation(routing["ablation"]), *table("calibration", pooled)]
    power = [(cell["cell"], cell["power"]) for cell in cells]
    return [
        Section("Data", _attempts(cells)),
        Section("Labels", _labels(cells)),
        Section("Policies", _policies(routing)),
        Section("Perfect router", _oracle(routing["oracle"])),
        Section("Power", [*interaction(routing["interaction"]), *power_table(power)]),
        Section("Cost", [*_costs(routing), *schedules(routing)]),
        Section("Exploratory: learned routers", learned),
        Section("Exploratory: transfer", _transfer(routing)),
        Section("Exploratory: clusters", clusters(routing["regimes"])),
        Section("Exploratory: audit", audit(routing["audit"])),
        *(Section(f"Cell {c['cell']}", _cell(routing, c), folded=True) for c in cells),
    ]


def interaction(records: Sequence[Mapping]) -> list[Block]:
    """The test of whether operators differ between problems: record `interaction`."""
    rows = [record | {"count": len(record["operators"])} for record in records]
    notes = [f"  {r['cell']}: {r['why']}" for r in records if r["why"]]
    if left := sorted({name for record in records for name in record["left_out"]}):
        notes.append(f"  left out, deterministic or tried once: {', '.join(left)}")
    return [*table("interaction", rows), "\n".join(notes)]


def power_table(cells: Iterable[tuple[str, Mapping | None]]) -> list[Block]:
    """The smallest lift that attempts can show: record `power` by name of its cell."""
    rows: list[dict] = []
    for name, power in cells:
        rows.append({"cell": name} | (power or {}))
        for i, row in enumerate(power["needed"] if power else ()):
            rows[-1][f"need_{i}"] = f"{row['10']:,} / {row['100']:,}"
    return table("power", rows)


def _attempts(cells: Sequence[Mapping]) -> list[Block]:
    rows = []
    for cell in cells:
        counts: dict[str, list[str]] = {}
        for name, n in cell["attempts"]["operators"].items():
            ends = f" [{n['least']}–{n['most']}]" * (n["least"] != n["most"])
            counts.setdefault(number(n["median"], 0) + ends, []).append(name)
        tried = (f"{count}: {', '.join(names)}" for count, names in counts.items())
        known = "given" if cell["attempts"]["given"] else "fitted"
        rows.append(cell | {"known": known, "tried": "; ".join(tried)})
    return table("cells", rows)


def _labels(cells: Sequence[Mapping]) -> list[Block]:
    """Labels, their certainty, and true rates under a hierarchical model."""
    known = [cell for cell in cells if cell["power"]]
    sizes = [row["attempts"] for row in known[0]["power"]["stability"]] if known else []
    rows = []
    for cell in cells:
        stability = cell["power"]["stability"] if cell["power"] else ()
        rows.append(
            cell | {f"same at {r['attempts']}, %": r["same"] for r in stability}
        )
    nulls = [", ".join(c["label_null"]["operators"]) for c in cells if c["label_null"]]
    same = [Column(f"same at {size}, %", digits=0) for size in sizes]
    posteriors = [
        {"cell": cell["cell"], "label": name} | found
        for cell in known
        for name, found in cell["power"]["labels"].items()
    ]
    rates = [
        c | {"deterministic": ", ".join(c["power"]["deterministic"])} for c in known
    ]
    return [
        *table(
            "labels", rows, same, operators="; ".join(dict.fromkeys(nulls)) or "n/a"
        ),
        *table("label_posteriors", posteriors),
        *table("headroom", rates),
    ]


def _policies(routing: Mapping) -> list[Block]:
    """The declared comparison, certified lifts, then everything under each protocol."""
    missing = select(routing["unsupported"], cell=ALL, policy=None)
    why = {row["protocol"]: f"{row['by']}: n/a ({row['why']})" for row in missing}
    base, everywhere = "best_fixed_per_model", {"population": "all", "cell": ALL}
    pooled = select(routing["rows"], protocol="kfold", reference=base, **everywhere)
    claims = [select(pooled, policy=name) for name in ("posterior", "rule")]
    first = _gaps(claims[0] or claims[1])
    first = first or [f"It cannot be made: {'; '.join(why.values())}"]
    head = "Primary comparison, the same in every run"
    blocks: list[Block] = [Section(head, [*first, *_certified(routing["certified"])])]
    for protocol, title in itertools.islice(_PROTOCOLS.items(), 4):
        rows = select(routing["rows"], protocol=protocol, cell=ALL)
        gaps = [row for row in select(rows, population="all") if row["minus"]]
        if protocol != "transfer":
            gaps = [r for r in gaps if "p_holm" in r or r["reference"] == base]
        if protocol in why:
            blocks.append(why[protocol])
        elif rows:
            inner = [*_rates(routing, rows, "population"), *_gaps(gaps)]
            blocks.append(Section(f"Exploratory: {title}", inner))
    main = [policy["name"] for policy in routing["policies"] if policy["main"]]
    rows = select(routing["rows"], protocol="kfold", population="all", reference=base)
    cells = [row for row in rows if row["policy"] in main and row["cell"] != ALL]
    return [*blocks, Section("Exploratory: by cell", _gaps(cells, cells=True))]


def _certified(records: Sequence[Mapping]) -> list[Block]:
    rows = []
    for found in records:
        kept, gap = f"{found['kept']} of {found['folds']}", found["interval"]
        gap = gap if gap["low"] is not None else f"the fixed choice in {kept} folds"
        verdict = "yes" if found["certified"] else "no"
        rows.append(found | {"gap": gap, "kept_folds": kept, "verdict": verdict})
    first = rows[0] if rows else {"runs": 0}
    runs = f" and {first['runs']} training runs" * (first["runs"] > 1)
    return table("certified", rows, **first | {"runs": runs})


def _gaps(rows: Sequence[Mapping], cells: bool = False) -> list[Block]:
    """Differences with p, and with Holm's p over the declared family."""
    shown = []
    for row in rows:
        same = row["interval"]["value"] == 0 and row["interval"]["low"] is None
        kept = None
        if same and "kept" in row:
            kept = f"in {row['kept']} of {row['folds']} folds"
        more = {"gap": "the same" if same else row["interval"], "kept_folds": kept}
        shown.append(row | more | {"cell": row["cell"] if cells else None})
    return table("gaps", shown)


def _rates(routing: Mapping, rows: Iterable[Mapping], key: str) -> list[Block]:
    """Rates of every policy by population or protocol, its costs, and its choices."""
    policies = {policy["name"]: policy["block"] for policy in routing["policies"]}
    rows = in_order(rows, routing)
    rates = _pivot(rows, lambda row: row["policy"], lambda row: row[key])
    records: list = []
    for _, group in itertools.groupby(rates, lambda row: policies.get(row["policy"])):
        records += [{}, *group] if records else group
    titles = _POPULATIONS | _PROTOCOLS
    counts = {titles[row[key]]: number(row["n"], 0) for row in rows}
    sizes = ", ".join(f"{n} {title}" for title, n in counts.items())
    choices = []
    for row in rows:
        taken = sorted((row.get("routes") or {}).items(), key=lambda route: -route[1])
        words = ", ".join(f"{operator} {n}" for operator, n in taken if n)
        by = row["by"] if key == "protocol" else None
        if "," in words and (by or row["population"] == "all"):
            choices.append(row | {"choices": words, "by": by})
    costs = _COSTS * any(row.get("cost") for row in rates)
    shown = table("rates", records, sizes=sizes, costs=costs)
    return [*shown, *table("choices", choices)]


def _pivot(rows: Iterable[Mapping], by: Callable, over: Callable) -> list[dict]:
    """One record per value of `by`: its first row, and every row under its `over`."""
    found: dict = {}
    for row in rows:
        found.setdefault(by(row), dict(row))[over(row)] = row
    return list(found.values())


def _oracle(records: Sequence[Mapping]) -> list[Block]:
    rows = [
        row | {"among": _PROTOCOLS.get(row.get("protocol"), "all failed")}
        for row in records
    ]
    return table("oracle", rows)


def curves(found: Mapping, title: str) -> list[Block]:
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
        blocks += table(
            "curves",
            budgets,
            list(columns.values()),
            title=title,
            axis=_AXES.get(axis, axis),
        )
        declared = [number(r["budget"], 0) for r in budgets if r.get("declared")]
        if declared:
            words = f"  declared before the attempts: {', '.join(declared)} per problem"
            blocks.append(f"{words}; other budgets are exploratory")
    return blocks


def _series(row: Mapping) -> str:
    paid = f", diagnosis {row['diagnosis']}" if row.get("diagnosis") else ""
    return row["title"] + paid + (f" − {row['minus']}" if row["minus"] else "")


def _key(row: Mapping) -> str:
    return _series(row).replace(".", "_")


def _costs(routing: Mapping) -> list[Block]:
    blocks: list[Block] = []
    for cell in (cell for cell in routing["cells"] if cell["cost"]):
        spent = cell["cost"]["forward_tokens"]
        title = (
            f"{cell['cell']}: % of all failed problems solved within a budget; diagnosis "
            f"{number(spent['diagnosis'], 0)} forward tokens per problem, "
            f"{number(spent['failures'], 0)} of them for its rollouts"
        )
        operators = set(cell["attempts"]["operators"]) - {"retry"}
        rows = select(routing["curves"], cell=cell["cell"])
        rows = [row for row in rows if row["policy"] not in operators]
        blocks += curves({**routing, "curves": rows}, title)
        blocks.append(price_words(cell["cost"]))
    return blocks or [
        "No costs: the profiles lack <operator>_cost and diagnosis_cost, which "
        "scripts/intervene.py writes."
    ]


def price_words(found: Mapping) -> str:
    """How attempts were charged.

    Args:
        found: Record with `recorded` and `error`.

    Returns:
        A sentence with the error that drawing the order of the attempts leaves.
    """
    if found["recorded"]:
        return (
            "  prices: every recorded attempt at its own cost, drawn without replacement; "
            f"standard error of the draws at most {number(found['error'], 2)} points"
        )
    return (
        "  prices: APPROXIMATE, every attempt at the mean cost of its operator at its "
        "problem (there is no file of attempts); right and wrong attempts cost "
        "differently, which has moved such shares by 8 points"
    )


def schedules(routing: Mapping) -> list[Block]:
    """One operator after another: curves of all cells together, and the orders."""
    if not (found := routing["schedules"]):
        return []
    title = (
        f"{found['problems']} failed problems, % solved within a budget, out of fold; an "
        "order served the training problems of its fold best"
    )
    orders = []
    for policy, families in found["orders"].items():
        for family, choices in families.items():
            for choice, order in choices.items():
                runs = [f"{k} {len(list(run))}" for k, run in itertools.groupby(order)]
                words = ", ".join(runs[:8]) + ", …" * (len(runs) > 8)
                name = f"{_TITLES.get(policy, policy)}: {choice}"
                orders.append({"task": family, "order": name, "runs": words})
    pooled = {**routing, "curves": select(routing["curves"], cell=ALL)}
    inner = [*curves(pooled, title), price_words(found), *table("orders", orders)]
    return [Section("Exploratory: one operator after another", inner)]


def ablation(records: Sequence[Mapping]) -> list[Block]:
    """Points that each group of signals adds: record `ablation`."""
    return table("ablation", records, n=records[0]["n"] if records else 0)


def _transfer(routing: Mapping) -> list[Block]:
    if not (found := routing["transfer"]):
        return []
    asked, source = found["questions"], found["source"]
    lines = [
        f"transfer from {', '.join(source['cells'])}, which learned from {asked['shared']} of these "
        f"{asked['target']} questions"
    ]
    if not source["departs"]:
        lines.append("the frozen router deviates nowhere: no deviation was earned")
    for cell in found["cells"]:
        scores = "its own there" if cell["known_to_source"] else "of all its failures"
        words = (
            f"{cell['cell']}: standard scores are {scores}; best fixed: {cell['fixed']}"
        )
        if cell["fixed"] != cell["fixed_of_source"]:
            words += f", since {cell['fixed_of_source']} was not tried here"
        if cell["source_only"]:
            words += f"; not tried here: {', '.join(cell['source_only'])}"
        lines.append(
            f"{words}; the rule reads {', '.join(cell['rule_reads']) or 'nothing'}"
        )
    for row in select(routing["unsupported"], protocol="transfer"):
        lines.append(
            f"{row['title'] or 'transfer'} on {row['cell']}: n/a ({row['why']})"
        )
    return ["\n".join(lines)]


def _cell(routing: Mapping, cell: Mapping) -> list[Block]:
    """Policies of one cell on its steerable problems, in both in-sample protocols."""
    rows = select(routing["rows"], cell=cell["cell"], population="steerable")
    rows = [row for row in rows if row["protocol"] in ("source", "split_halves")]
    gaps = [row for row in rows if row["policy"] == "rule" and row["minus"]]
    notes = [f"note: {note}" for note in cell["notes"]]
    for row in select(gaps, reference="best_fixed_per_cell"):
        lift = f"{number(row.get('detectable'))} points over the best fixed operator"
        notes.append(f"{row['by']}: {lift} are detected with 80 % power")
    for row in select(routing["protocols"], cell=cell["cell"]):
        if again := row.get("repeats"):
            seen, chance = number(again["seen"]), number(again["chance"])
            notes.append(
                f"steerable in both halves: {seen} % (of all problems: {chance} %)"
            )
    records = _pivot(gaps, lambda row: row["minus"], lambda row: row["protocol"])
    differences = table("rule", records, notes="\n".join(notes))
    return [
        f"{cell['n']} failed problems",
        *_rates(routing, rows, "protocol"),
        *differences,
    ]
