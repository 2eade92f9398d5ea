"""Tables of planted causes: rescue by cause, and causes recognised from failures."""

from collections.abc import Mapping, Sequence

from fr.layout.tables import REPORTS, Block, Column, Table, number


def cause_tables(found: Mapping) -> list[Block]:
    """Tables of `causes.json`, for a terminal and for the page.

    Args:
        found: Content of the file.

    Returns:
        Rescue rates by operator and cause, accuracies, confusions, and the audit.
    """
    names, seeds = found["causes"], len(found["seeds"])
    cells = {(row["operator"], row["cause"]): _marked(row) for row in found["rescue"]}
    headers = [Column(f"{name}, {found['failed'][name]}") for name in names]
    note = (
        f"header: failed problems of {seeds} seeds; ▲ ▼: the difference from retry has "
        "an interval above or below 0"
    )
    rows = [[o, *(cells[o, name] for name in names)] for o in found["operators"]]
    columns = [Column("operator", left=True), *headers]
    blocks: list[Block] = [Table(columns, rows, "Rescued, % [95 %]", note)]
    audited = REPORTS["audit"](found["audit"]) if found.get("audit") else []
    if not found["diagnosis"]:
        why = "needs two seeds, to learn from one of them"
        return [*blocks, f"causes recognised: left out ({why})", *audited]
    blocks += [_recognised(found["diagnosis"]), *_early(found.get("early", []))]
    for entry in found["diagnosis"]:
        if entry["reads"] in ("signals and nuisances", "outside truth"):
            shares = [Column(name, digits=0) for name in names]
            rows = [[name, *row] for name, row in zip(names, entry["confusion"])]
            title = f"Recognised from {entry['reads']}, % of the true cause"
            columns = [Column("true cause", left=True), *shares]
            blocks.append(Table(columns, rows, title))
    return [*blocks, *audited]


def _recognised(entries: Sequence[Mapping]) -> Table:
    columns = [
        Column("cause recognised from", left=True),
        Column("columns"),
        Column("balanced accuracy, %"),
        Column("by seed"),
    ]
    by_seed = lambda entry: ", ".join(number(x, 0) for x in entry["by_seed"])
    rows = [
        [entry["reads"], len(entry["columns"]), entry["accuracy"], by_seed(entry)]
        for entry in entries
    ]
    chance = number(entries[0]["chance"])
    note = f"chance {chance} %; learned from other seeds"
    return Table(columns, rows, note=note)


def _early(tables: Sequence[Mapping]) -> list[Block]:
    """Accuracy from the first failures of a problem alone."""
    tables = [table for table in tables if table["diagnosis"]]
    if not tables:
        return []
    read = [Column(entry["reads"]) for entry in tables[0]["diagnosis"]]
    columns = [Column("failures read", left=True), Column("problems"), *read]
    rows = [
        [str(table["failures"]), table["problems"]]
        + [entry["accuracy"] for entry in table["diagnosis"]]
        for table in tables
    ]
    note = "balanced accuracy, %, from the first failures alone"
    return [Table(columns, rows, note=note)]


def _marked(row: Mapping) -> str:
    gap = row["minus_retry"]
    known = gap and gap["low"] is not None
    mark = (
        "▲" if known and gap["low"] > 0 else "▼" if known and gap["high"] < 0 else " "
    )
    return Column("", digits=0).show(row["interval"]) + mark
