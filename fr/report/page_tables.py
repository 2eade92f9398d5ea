"""Tables that stand on the page alone: what a terminal shows cell by cell, one line a cell; every policy a line."""

import numpy as np

from fr.report.policy_tables import BLOCKS, NAMES, PROTOCOLS
from fr.report.routing_tables import PROTOCOLS as RULE_PROTOCOLS
from fr.report.tables import Bar, Scale, Table, difference, number, span
from fr.routing.references import PRIMARY

WHERE = {"protocol": "kfold", "population": "all", "cell": "all cells"}
_ALWAYS = "always_"
_LOOKED_UP = (
    "best_fixed_per_model",
    "best_fixed_per_cell",
    "best_fixed_per_task",
    "best_fixed",
    "frozen_fixed",
    "retry",
)


def primary(routing: dict) -> dict | None:
    """The row of the comparison that was declared; None where its protocol cannot be made of these failures."""
    there = {(row["policy"], row["reference"]): row for row in _rows(routing["comparisons"], **WHERE)}
    return next((there[pair] for pair in PRIMARY if pair in there), None)


def declared(routing: dict) -> list[dict]:
    """Rows of the family that Holm runs over, all cells and all failed problems, in every protocol."""
    where = {name: WHERE[name] for name in ("population", "cell")}
    return [row for row in _rows(routing["comparisons"], **where) if "p_holm" in row]


def comparison_table(rows: list[dict]) -> Table:
    """Policy minus reference, with interval, number of problems, p and Holm's."""
    bounds = _bounds(rows)
    lines = [
        [
            protocol_name(row["protocol"]),
            policy_name(row["policy"]),
            policy_name(row["reference"]),
        ]
        + [number(row["diff"], sign=True), span(row["low"], row["high"], sign=True)]
        + [Bar(row["diff"], row["low"], row["high"], bounds), str(row["n"])]
        + [number(row["p"], 3), number(row.get("p_holm"), 3)]
        for row in rows
    ]
    header = ["protocol", "policy", "minus", "points", "95 %", Scale(bounds), "problems", "p", "Holm p"]
    return Table(header, lines, left=(0, 1, 2, 5))


def policies_table(routing: dict, alone: bool = False) -> Table:
    """Every policy in every protocol: its rate, how far it is from the best fixed operator of its model, its cost.

    With `alone` each operator instead, as the policy that always takes it.
    """
    rates = _rows(routing["rates"], population="all", cell=WHERE["cell"])
    rates = [row for row in rates if row["policy"].startswith(_ALWAYS) == alone]
    gaps = {
        (row["protocol"], row["policy"]): row
        for row in _rows(routing["comparisons"], population="all", cell=WHERE["cell"])
        if row["reference"] == "best_fixed_per_model"
    }
    bounds, lines = _bounds(gaps.values()), []
    for protocol in dict.fromkeys(row["protocol"] for row in rates):
        lines += [[]] if lines else []
        rows = sorted(_rows(rates, protocol=protocol), key=lambda row: _order(row["policy"]))
        for i, row in enumerate(rows):
            gap = gaps.get((protocol, row["policy"]))
            line = [protocol_name(protocol) if i == 0 else "", policy_name(row["policy"])]
            line += [number(row["rate"]), span(row["low"], row["high"])]
            line += _gap(gap, bounds) if gap else [""] * 5
            lines.append([*line, str(row["n"]), number(row["cost"], 0), number(row["cost_per_rescue"], 0)])
    header = ["protocol", "policy", "rescued, %", "95 %", "minus best fixed, per model", "95 %", Scale(bounds)]
    header += ["p", "Holm p", "problems", "cost", "cost a rescue"]
    note = (
        "cost: mean forward positions of the chosen attempt, the ancestor's by its size, and of the diagnosis "
        "where the policy reads failures; n/a where the profiles do not have them"
    )
    return Table(header, lines, left=(0, 1, 6), note=note)


def routes_table(routing: dict) -> Table:
    """How the policies that choose did choose: entropy, departures from the fixed choice, operators."""
    lines = []
    rows = _rows(routing["rates"], population="all", cell=WHERE["cell"])
    for row in sorted(rows, key=lambda row: (row["protocol"], _order(row["policy"]))):
        if row["routes"] is None or row["policy"] in _LOOKED_UP or row["policy"].startswith(_ALWAYS):
            continue
        routes = sorted(row["routes"].items(), key=lambda route: -route[1])
        line = [protocol_name(row["protocol"]), policy_name(row["policy"])]
        line += [number(row["route_entropy"], 2), number(row["departures"], 0)]
        lines.append([*line, ", ".join(f"{operator} {count}" for operator, count in routes)])
    header = [
        "protocol",
        "policy",
        "entropy of its routes, nats",
        "departs from the fixed choice, %",
        "routes",
    ]
    return Table(header, lines, left=(0, 1, 4))


def rule_table(cells: list[dict]) -> Table:
    """The rule on the steerable problems of every cell, where attempts label and score, and in split halves."""
    references = {"best_fixed": "best fixed operator", "retry": "retry", "permuted": "its features shuffled"}
    lines = []
    for protocol, title in RULE_PROTOCOLS.items():
        lines += [[]] if lines else []
        for cell in cells:
            found = cell["protocols"][protocol]
            if not found:
                continue
            line = [title, cell["cell"], number(found["problems"], 0), number(found["rates"]["routed"])]
            line.append(span(*found["intervals"]["routed"]))
            for reference in references:
                gap = found.get(f"routed_minus_{reference}")
                line.append(difference(gap))
                line.append(number(gap.get("p_holm"), 3) if gap else "")
            lines.append(line)
    header = ["protocol", "cell", "steerable", "rule, %", "95 %"]
    for title in references.values():
        header += [f"minus {title}", "Holm p"]
    return Table(header, lines, left=(0, 1))


def attempts_table(cells: list[dict]) -> Table:
    """Failed problems of every cell, those left out, and the attempts behind a rate."""
    lines = []
    for cell in cells:
        operators: dict[str, list[str]] = {}
        for name, found in cell["attempts"]["operators"].items():
            operators.setdefault(_attempts(found), []).append(name)
        line = [cell["cell"], *(str(cell[key]) for key in ("n", "excluded", "single_failure"))]
        line.append("given" if cell["attempts"]["given"] else "fitted")
        lines.append([*line, "; ".join(f"{count}: {', '.join(names)}" for count, names in operators.items())])
    header = [
        "cell",
        "failed problems",
        "never failed",
        "failed once",
        "attempts",
        "of an operator, each problem",
    ]
    note = (
        "attempts of an operator: median [fewest–most]; fitted: recovered from printed rates, so lower bounds "
        "(0: nothing fits)"
    )
    return Table(header, lines, left=(0, 5), note=note)


def labels_table(cells: list[dict]) -> Table:
    """Labels of every cell, what chance makes of them, and how often a second set of attempts agrees."""
    known = [cell["certainty"]["stability"] for cell in cells if cell["certainty"]]
    sizes = [row["attempts"] for row in known[0]] if known else []
    lines = []
    for cell in cells:
        labels, null, missed = cell["labels"], cell["label_null"], cell["unreached"]
        line = [cell["cell"], *(str(labels[key]) for key in ("steerable", "resample", "beyond"))]
        line.append(str(missed["n"]))
        line += (
            [number(null["seen"]), f"{number(null['mean'])} {span(null['low'], null['high'])}"]
            if null
            else ["n/a", "n/a"]
        )
        line.append(number(null["p"], 3) if null else "n/a")
        stability = cell["certainty"]["stability"] if cell["certainty"] else []
        same = {row["attempts"]: row["same"] for row in stability}
        lines.append([*line, *(number(same.get(size), 0) for size in sizes)])
    header = ["cell", "steerable-hard", "resample", "beyond reach", "unreached", "steerable, %"]
    header += ["if operators did not differ, %", "p", *(f"same at {size}, %" for size in sizes)]
    note = (
        "unreached: retry did not solve it either; same at n: problems to which two sets of n attempts an operator "
        "give the same label, by a hierarchical model of true rates"
    )
    return Table(header, lines, note=note)


def oracle_table(cells: list[dict]) -> Table:
    """What a perfect router could have won: over all failed problems by the model, over steerable ones as bracket."""
    lines = []
    for cell in cells:
        known, halves = cell["certainty"], cell["protocols"]["split_halves"]
        line = [cell["cell"], *(number(known and known[key]) for key in ("best_fixed", "oracle"))]
        bracket = halves["oracle_bracket"] if halves else {}
        line.append(number(halves["rates"]["best_fixed"]) if halves else "n/a")
        lines.append([*line, *(number(bracket.get(key)) for key in ("low", "expected", "high"))])
    header = ["cell", "all failed: best fixed, true rates", "perfect router", "steerable halves: best fixed"]
    header += ["perfect router, at least", "by the model", "at most"]
    return Table(header, lines, note="%; at least: chosen on one half of the attempts, scored on the other")


def policy_name(policy: str) -> str:
    """What a table calls a policy."""
    return NAMES.get(policy, policy.replace(_ALWAYS, "always "))


def protocol_name(protocol: str) -> str:
    """What a table calls an out-of-fold protocol."""
    return PROTOCOLS.get(protocol, protocol)


def _rows(rows: list[dict], **where) -> list[dict]:
    return [row for row in rows if where.items() <= row.items()]


def _bounds(gaps) -> tuple[float, float]:
    ends = [abs(gap[end]) for gap in gaps for end in ("low", "high") if gap[end] is not None]
    bound = float(np.ceil(max([1, *ends])))
    return -bound, bound


def _gap(gap: dict, bounds: tuple[float, float]) -> list:
    drawn = Bar(gap["diff"], gap["low"], gap["high"], bounds)
    values = [number(gap["diff"], sign=True), span(gap["low"], gap["high"], sign=True), drawn]
    return [*values, number(gap["p"], 3), number(gap["p_holm"], 3) if "p_holm" in gap else ""]


def _order(policy: str) -> int:
    every = [name for block in BLOCKS for name in block]
    return every.index(policy) if policy in every else len(every)


def _attempts(found: dict) -> str:
    middle = number(found["median"], 0)
    same = found["least"] == found["most"]
    return middle if same else f"{middle} [{found['least']}–{found['most']}]"
