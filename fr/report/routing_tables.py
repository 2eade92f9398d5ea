"""The routing summary of one cell as a person reads it in a terminal."""

import numpy as np

from fr.report.policy_tables import certainty_block
from fr.report.schedule_tables import price_words
from fr.report.tables import Bar, Block, Scale, Table, difference, number, span, text

_NAMES = {
    "no_fallback": "routed, no fallback",
    "z_population": "routed, z over the cell",
    "permuted": "routed, features shuffled",
    "random_operator": "random operator",
    "best_fixed": "best fixed operator",
    "oracle": "oracle",
}
PROTOCOLS = {"source": "source's protocol", "split_halves": "split halves"}


def render_cell(cell: dict) -> str:
    """The text of `cell_blocks`."""
    return text(cell_blocks(cell))


def cell_blocks(cell: dict) -> list[Block]:
    """Labels, rates in both protocols, differences and cost of one cell of `routing.json`."""
    title = "\n".join([f"{cell['cell']}   {cell['n']} failed problems", *_notes(cell)])
    parts: list[Block] = [title, _labels(cell), certainty_block(cell["certainty"])]
    for name, title in PROTOCOLS.items():
        if protocol := cell["protocols"][name]:
            parts += [_rates(title, protocol), _differences(protocol)]
        else:
            parts.append(f"  {title}: n/a (attempts behind the rates are unknown)")
    return [*parts, cost_block(cell["cost"])]


def _notes(cell: dict) -> list[str]:
    notes = [f"  note: {note}" for note in cell["notes"]]
    if met := cell["population"]:
        notes.append(
            f"  population: {number(met['share'])} % of the problems are in this table, and a deployed router meets "
            f"{number(met['deployed'])} % of them; each counts as often as it is met"
        )
    return notes


def _labels(cell: dict) -> Table:
    null, labels, missed = cell["label_null"], cell["labels"], cell["unreached"]
    rows = [
        [
            "steerable-hard",
            str(labels["steerable"]),
            "an operator beats retry by the margin, and retry mostly fails",
        ],
        ["resample", str(labels["resample"]), "retry works, or nothing beats it by the margin"],
        ["beyond reach", str(labels["beyond"]), "no operator solved it; retry may have"],
        ["unreached", str(missed["n"]), "nor did retry" + _bound(missed["upper_bound"])],
    ]
    note = ""
    if null:
        note = (
            f"  chance: {number(null['mean'])} % {span(null['low'], null['high'])} would be called "
            "steerable if operators did not differ;\n"
            f"          seen {number(null['seen'])} % of {null['problems']} "
            f"(p = {null['p']:.3f}, over {', '.join(null['operators'])})"
        )
    return Table(["label", "n", ""], rows, left=(0, 2), note=note)


def _bound(percent: float | None) -> str:
    return f": an attempt succeeds in less than {number(percent)} % (95 % bound)" if percent else ""


def _rates(title: str, protocol: dict) -> Table:
    rates, intervals = protocol["rates"], protocol["intervals"]
    always = [name for name in protocol["routes"] if rates.get(name) is not None]
    end = 10 * np.ceil(max([10, *(high for _, high in intervals.values() if high is not None)]) / 10)
    blocks = (
        ["routed", "no_fallback", "z_population"],
        ["best_fixed", "permuted", "random_operator"],
        always,
        ["oracle"],
    )
    rows = []
    for block in blocks:
        rows += [[]] if rows else []
        for name in (name for name in block if name in rates):
            plain = name if name in ("routed", "retry") else f"always {name}"
            bar = Bar(rates[name], *intervals[name], (0, end))
            count = str(protocol["routes"].get(name, ""))
            rows.append([_NAMES.get(name, plain), number(rates[name]), span(*intervals[name]), bar, count])
    n = f"{title}, {number(protocol['problems'], 0)} steerable"
    note = "\n".join(_read_with(protocol))
    return Table([n, "%", "95 %", Scale((0, end)), "routes"], rows, left=(0, 3), note=note)


def _read_with(protocol: dict) -> list[str]:
    """What the rates of a protocol are to be read with."""
    lines, bracket = [], protocol["oracle_bracket"]
    if bracket["low"] is not None:
        line = f"  a perfect router: between {number(bracket['low'])} and {number(bracket['high'])} %"
        known = f", {number(bracket['expected'])} % by the model of true rates" if bracket["expected"] else ""
        lines.append(line + known)
        if bracket["outside"]:
            lines.append(f"    (outside of its bracket: {bracket['outside']})")
    if protocol.get("repeats"):
        again, chance = protocol["repeats"]["seen"], protocol["repeats"]["chance"]
        lines.append(
            f"  of what one half calls steerable the other does too: {number(again)} % "
            f"(of all problems: {number(chance)} %)"
        )
    if protocol.get("dropped"):
        lines.append(
            f"  {protocol['dropped']} problems left out: fewer than 4 attempts, or an unknown number"
        )
    if protocol.get("deterministic"):
        names = ", ".join(protocol["deterministic"])
        lines.append(f"  the same rate in both halves, being deterministic: {names}")
    return lines


def _differences(protocol: dict) -> Table:
    rows = []
    pairs = {
        key.removeprefix("routed_minus_"): value
        for key, value in protocol.items()
        if key.startswith("routed_minus_")
    }
    widest = max([1, *(abs(d[end]) for d in pairs.values() for end in ("low", "high") if d[end] is not None)])
    bounds = (-float(np.ceil(widest)), float(np.ceil(widest)))
    for name, d in pairs.items():
        bar = Bar(d["mean"], d["low"], d["high"], bounds)
        p = f"{d['p_holm']:.3f}" if "p_holm" in d else ""
        rows.append(
            [
                _NAMES.get(name, name),
                number(d["mean"], sign=True),
                span(d["low"], d["high"], sign=True),
                bar,
                p,
            ]
        )
    power = protocol["power"]["best_fixed"]
    note = f"  smallest lift over the best fixed operator seen with 80 % power: {number(power)} points"
    return Table(["routed minus", "points", "95 %", Scale(bounds), "Holm p"], rows, left=(0, 3), note=note)


def cost_block(cost: dict | None) -> Block:
    """Share of the problems solved within a budget by each path, and differences from retry."""
    if cost is None:
        return "  cost: n/a (the table has no <operator>_cost and diagnosis_cost columns)"
    spent = cost["positions"]
    head = (
        f"  cost: diagnosis {spent['diagnosis']:,.0f} forward positions a problem, "
        f"{spent['failures']:,.0f} of them for its rollouts"
    )
    if not cost["curve"]:
        return head
    rows = []
    for point in cost["curve"]:
        solved = point["solved"]
        paths = ("routed", "routed_sunk", "head", "head_sunk", "head_free", "retry", "best_fixed")
        gaps = [point.get(f"{name}_minus_best") for name in ("routed_sunk", "head_sunk", "head_free")]
        shares = [number(solved.get(name)) for name in paths]
        rows.append([f"{point['budget']:,.0f}", *shares, *map(difference, gaps)])
    header = [
        "positions",
        "rule, diagnosis paid",
        "rule, diagnosis done",
        "head, diagnosis paid",
        "head, diagnosis done",
        "free head",
        "retry",
        "best fixed",
        "rule, done − best",
        "head, done − best",
        "free head − best",
    ]
    return Table(
        header,
        rows,
        lead=f"{head}; of all failed problems, % solved within a budget",
        note="  diagnosis paid: out of the budget; done: the failures had been diagnosed already; free head: reads "
        f"what comes with the rollouts; best fixed: in hindsight\n  {price_words(cost)}",
    )
