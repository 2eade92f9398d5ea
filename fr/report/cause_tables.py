"""Planted causes as a person reads them in a terminal: what rescues each, and whether failures tell them."""

from fr.report.failure_tables import audit_blocks
from fr.report.tables import Block, Table, number, span, text


def render_causes(result: dict) -> str:
    """The text of `cause_blocks`."""
    return text(cause_blocks(result))


def cause_blocks(result: dict) -> list[Block]:
    """Rescue rates by operator and cause, how well causes are told by what is read, and the audit of them."""
    audited = audit_blocks(result["audit"]) if result.get("audit") else []
    return [_rescue(result), *_diagnosis(result), *audited]


def _rescue(result: dict) -> Table:
    found = {(row["operator"], row["cause"]): row for row in result["rescue"]}
    header = ["rescued, % [95 %]"] + [f"{cause}, {result['failed'][cause]}" for cause in result["causes"]]
    rows = [
        [operator, *(_rate(found[operator, cause]) for cause in result["causes"])]
        for operator in result["operators"]
    ]
    note = (
        f"  failed problems of {len(result['seeds'])} seeds in the head; ▲ ▼: the difference from retry has an "
        "interval above or below 0"
    )
    return Table(header, rows, note=note)


def _rate(row: dict) -> str:
    gap = row["minus_retry"]
    known = gap and gap["low"] is not None
    mark = "▲" if known and gap["low"] > 0 else "▼" if known and gap["high"] < 0 else " "
    return f"{number(row['mean'], 0)} {span(row['low'], row['high'], 0)}{mark}"


def _diagnosis(result: dict) -> list[Block]:
    if not result["diagnosis"]:
        return ["  causes told: n/a (needs two seeds, to learn from one of them)"]
    rows = [
        [
            entry["reads"],
            str(len(entry["columns"])),
            number(entry["accuracy"]["mean"]),
            span(entry["accuracy"]["low"], entry["accuracy"]["high"]),
            ", ".join(number(value, 0) for value in entry["by_seed"]),
        ]
        for entry in result["diagnosis"]
    ]
    header = ["causes told by", "columns", "balanced accuracy, %", "95 %", "by seed"]
    note = f"  chance {number(result['diagnosis'][0]['chance'])} %; each seed by the others"
    causes = result["causes"]
    matrices = [
        Table(
            [f"told by {entry['reads']}, % of the true cause (rows)", *causes],
            [[cause, *(number(share, 0) for share in row)] for cause, row in zip(causes, entry["confusion"])],
        )
        for entry in result["diagnosis"]
        if entry["reads"] in ("signals and nuisances", "outside truth")
    ]
    return [Table(header, rows, note=note), *_early(result.get("early", [])), *matrices]


def _early(tables: list[dict]) -> list[Block]:
    """How well causes are told by the first failures of a problem, beside how many problems have so many."""
    tables = [table for table in tables if table["diagnosis"]]
    if not tables:
        return []
    header = ["failures read", "problems", *(entry["reads"] for entry in tables[0]["diagnosis"])]
    rows = [
        [str(table["failures"]), str(table["problems"]), *(_accuracy(e) for e in table["diagnosis"])]
        for table in tables
    ]
    return [Table(header, rows, left=(), note="  causes told by the first failures alone, as above")]


def _accuracy(entry: dict) -> str:
    found = entry["accuracy"]
    return f"{number(found['mean'])} {span(found['low'], found['high'])}"
