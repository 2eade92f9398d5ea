"""What was learned elsewhere, on these failures; and what heads expect beside what came of it."""

from fr.report.policy_tables import NAMES, PROTOCOLS, gap_table
from fr.report.tables import Block, Table, number, span, text

_FROZEN = ("frozen_head", "frozen_head_fresh_z", "frozen_rule", "frozen_fixed")
_BESIDE = ("best_fixed_per_cell", "head", "rule", "random_operator", "retry")  # by the other folds, here
_EVERYWHERE = "all cells"


def render_transfer(summary: dict) -> str:
    """The text of `transfer_blocks`."""
    return text(transfer_blocks(summary))


def transfer_blocks(summary: dict) -> list[Block]:
    """Rates and differences of the source's head, rule and fixed choice; what they share with these failures."""
    found = summary["transfer"]
    if not found:
        return []
    title = f"transfer from {', '.join(found['source']['cells'])}"
    why = [entry["why"] for entry in summary["unsupported"] if entry["protocol"] == "transfer"]
    if why:
        return [f"{title}: n/a ({why[0]})"]
    return [_rates(summary, title), _differences(summary), *_oracle(found), "\n".join(_words(found))]


def render_calibration(summary: dict) -> str:
    """The text of `calibration_blocks`."""
    return text(calibration_blocks(summary))


def calibration_blocks(summary: dict) -> list[Block]:
    """Rescue rates that heads expect of their choices on failures that they have not learned from, and what came."""
    rows = []
    for row in summary["calibration"]:
        if row["cell"] != _EVERYWHERE:
            continue
        gap, error, slope, departs = (row[key] for key in ("gap", "ece", "slope", "departures"))
        policy = NAMES.get(row["policy"], row["policy"])
        line = [
            f"{policy}, {PROTOCOLS.get(row['protocol'], row['protocol'])}",
            str(row["n"]),
            number(row["expected"]),
        ]
        line += [number(row["observed"]), span(gap["low"], gap["high"], sign=True)]
        line += [number(error["value"]), span(error["low"], error["high"]), number(error["noise"])]
        line += [number(slope["value"], 2), span(slope["low"], slope["high"], 2)]
        line += [number(row["intercept"]["value"], sign=True), str(departs["n"])]
        if gained := departs["gained"]:
            line += [number(value, sign=True) for value in (departs["promised"], gained["value"])]
        rows.append(
            [*line, span(gained["low"], gained["high"], sign=True)] if gained else [*line, "", "", ""]
        )
    if not rows:
        return []
    header = ["rescue rate of the choice", "n", "expected, %", "observed", "difference, 95 %"]
    header += [
        "error",
        "95 %",
        "of a calibrated one",
        "slope",
        "95 %",
        "intercept, points",
        "departs",
        "promised",
        "gained",
        "95 %",
    ]
    note = "  error: mean over bins of |observed − expected|; calibrated: slope 1, intercept 0"
    return [Table(header, rows, note=note)]


def _rates(summary: dict, title: str) -> Table:
    here = [row for row in summary["rates"] if (row["cell"], row["population"]) == (_EVERYWHERE, "all")]
    rows = []
    for protocol, names in (("transfer", _FROZEN), ("kfold", _BESIDE)):
        found = {row["policy"]: row for row in here if row["protocol"] == protocol}
        rows += [[]] if rows else []
        for row in (found[name] for name in names if name in found):
            line = [
                NAMES.get(row["policy"], row["policy"]),
                number(row["rate"]),
                span(row["low"], row["high"]),
            ]
            line.append("" if row["cost"] is None else f"{row['cost']:,.0f}")
            entropy = "" if row["route_entropy"] is None else number(row["route_entropy"], 2)
            departs = number(row["departures"], 0) if protocol == "transfer" else ""
            rows.append([*line, entropy, departs])
    header = [title, "rescued, %", "95 %", "positions", "entropy", "departs, %"]
    note = "  departs: from the source's best fixed operator; below the line: by the other folds of these failures"
    return Table(header, rows, note=note)


def _differences(summary: dict) -> Table:
    rows = [
        row
        for row in summary["comparisons"]
        if (row["protocol"], row["population"], row["cell"]) == ("transfer", "all", _EVERYWHERE)
    ]
    named = [([NAMES.get(row[key], row[key]) for key in ("policy", "reference")], row) for row in rows]
    return gap_table(["all failed problems", "minus"], named)


def _oracle(found: dict) -> list[Table]:
    rows = [
        [row["cell"], *(number(row[key]) for key in ("best_fixed", "low", "expected", "high"))]
        for row in found["oracle"]
    ]
    header = ["a perfect router, %", "best fixed in hindsight", "at least", "by true rates", "at most"]
    return [Table(header, rows)]


def _words(found: dict) -> list[str]:
    """What a reader must know before he believes a row."""
    asked = found["questions"]
    lines = [f"  the source learned from {asked['shared']} of these {asked['target']} questions"]
    if not found["source"]["departs"]:
        lines.append("  the frozen head departs nowhere: where it learned, no departure was earned")
    for cell in found["cells"]:
        scores = "its own there" if cell["known_to_source"] else "those of all its failures"
        line = f"  {cell['cell']}: the source's standard scores are {scores}; best fixed: {cell['fixed']}"
        if cell["fixed"] != cell["fixed_of_source"]:
            line += f", for {cell['fixed_of_source']} was not tried here"
        if cell["source_only"]:
            line += f"; not tried here: {', '.join(cell['source_only'])}"
        lines.append(f"{line}; the rule reads {', '.join(cell['rule_reads']) or 'nothing'}")
    for entry in found["unsupported"]:
        name = NAMES.get(entry["policy"], entry["policy"])
        lines.append(f"  {name} on {entry['cell']}: n/a ({entry['why']})")
    return lines
