"""Every policy of `routing.json` side by side, out of fold, as a person reads it in a terminal."""

import numpy as np

from fr.report.tables import Bar, Block, Scale, Table, number, span, text

PROTOCOLS = {
    "kfold": "k-fold by problem",
    "leave_cell_out": "leave one cell out",
    "leave_family_out": "leave one family out",
}
_POPULATIONS = {
    "all": "all failed",
    "all_unweighted": "unweighted",
    "steerable": "steerable",
    "steerable_halves": "split halves",
}
NAMES = {
    "posterior": "posterior mean",
    "posterior_nuisances": "posterior mean, nuisances only",
    "posterior_permuted": "posterior mean, columns permuted",
    "head": "learned head, gated",
    "head_free": "head on what is free",
    "head_signals": "head without nuisances",
    "head_nuisances": "head on nuisances only",
    "head_question": "head on the question only",
    "head_prompt": "head on the prompt only",
    "head_intercept": "head on nothing",
    "head_permuted": "head, columns permuted",
    "frozen_head": "frozen head",
    "frozen_head_fresh_z": "frozen head, fresh z",
    "frozen_rule": "frozen rule",
    "frozen_fixed": "source's best fixed",
    "rule_no_fallback": "rule, no fallback",
    "rule_subset": "rule, z over the steerable",
    "rule_subset_no_fallback": "the same, no fallback",
    "best_fixed_per_model": "best fixed, per model and task",
    "best_fixed_per_cell": "best fixed, per cell",
    "best_fixed_per_task": "best fixed, per family",
    "best_fixed": "best fixed, one for all",
    "random_operator": "random operator",
    "permuted": "its features shuffled",
}
BLOCKS = (
    ("posterior", "posterior_nuisances", "posterior_permuted"),
    (
        "head",
        "head_free",
        "head_signals",
        "head_nuisances",
        "head_question",
        "head_prompt",
        "head_intercept",
        "head_permuted",
    ),
    ("rule", "rule_no_fallback", "rule_subset", "rule_subset_no_fallback"),
    ("best_fixed_per_model", "best_fixed_per_cell", "best_fixed_per_task", "best_fixed", "random_operator", "retry"),
)


def render_interaction(records: list[dict]) -> str:
    """The text of `interaction_table`."""
    return str(interaction_table(records))


def interaction_table(records: list[dict]) -> Table:
    """Whether operators differ from problem to problem: to be read before any policy."""
    rows, notes = [], []
    for found in records:
        if found["why"]:
            rows.append([found["cell"], str(found["problems"]), *["n/a"] * 7])
            notes.append(f"  {found['cell']}: {found['why']}")
            continue
        sd, points = found["sd"], found["headroom"]
        row = [found["cell"], str(found["problems"]), str(len(found["operators"]))]
        row += [f"{found['p']:.3f}", f"{found['p_holm']:.3f}"]
        row += [number(sd["value"], 2), span(sd["low"], sd["high"], 2)]
        rows.append([*row, number(points["value"]), span(points["low"], points["high"])])
    left = sorted({name for found in records for name in found["left_out"]})
    if left:
        notes.append(f"  left out, deterministic or tried once: {', '.join(left)}")
    header = ["is there anything to route?", "problems", "operators", "p", "Holm p", "interaction, sd in logits"]
    header += ["95 %", "headroom, points", "95 %"]
    lead = (
        "p of a bootstrap where operators differ alike on every problem (no router can win there), and\n"
        "what a perfect router would have over the best fixed operator"
    )
    return Table(header, rows, lead=lead, note="\n".join(notes))


def render_power(cells: list[tuple[str, dict | None]]) -> str:
    """The text of `power_table`."""
    return str(power_table(cells))


def power_table(cells: list[tuple[str, dict | None]]) -> Table:
    """What the attempts of each (cell, certainty) can show, to be read before any policy is judged."""
    rows = []
    for name, known in cells:
        if known is None:
            rows.append([name, *["n/a"] * 6])
            continue
        power = known["power"]
        needed = [f"{row['10']:,} / {row['100']:,}" for row in power["needed"]]
        found = [str(power["problems"]), str(power["attempts"]), number(power["detectable"])]
        rows.append([name, *found, *needed])
    header = ["cell", "problems", "attempts", "points seen", "needed: 2 points", "5 points", "10 points"]
    lead = (
        "what the attempts can show: lift over a fixed operator seen with 80 % power, and the problems that\n"
        "smaller ones need at 10 / 100 attempts an operator, for a router that departs on every problem"
    )
    return Table(header, rows, lead=lead)


def render_policies(summary: dict) -> str:
    """The text of `policy_blocks`."""
    return text(policy_blocks(summary))


def policy_blocks(summary: dict) -> list[Block]:
    """Rates, differences and Holm p of every policy under each out-of-fold protocol, over all cells."""
    why = {entry["protocol"]: entry["why"] for entry in summary["unsupported"]}
    parts: list[Block] = certified_blocks(summary["certified"])
    for protocol, title in PROTOCOLS.items():
        if protocol in why:
            parts.append(f"{title}: n/a ({why[protocol]})")
            continue
        parts += [
            _rates(summary, protocol, title),
            _differences(summary, protocol),
            _cells(summary, protocol),
        ]
    return parts


def certified_blocks(records: list[dict]) -> list[Block]:
    """The lift of each router in closed form, averaged over fold splits, what certifies it, and whether it beats
    every fixed choice; records of an earlier version have no `told`.
    """
    rows, bound = [], 1.0
    for found in records:
        bound = max([bound, *(abs(found["lift"][end] or 0) for end in ("low", "high"))])
    for found in records:
        lift, every = found["lift"], found["every"]
        if lift["low"] is None:
            row = [f"kept the fixed choice in {found['kept']} of {found['folds']} folds", "", "", "", ""]
        else:
            bar = Bar(lift["diff"], lift["low"], lift["high"], (-float(np.ceil(bound)), float(np.ceil(bound))), 31)
            p = [number(lift["p"], 4), number(lift["p_holm"], 4)]
            row = [number(lift["diff"], sign=True), span(lift["low"], lift["high"], sign=True), bar, *p]
        row += [number(every["diff"], sign=True), number(every["p"], 4)] if every else ["n/a", "n/a"]
        told = [number(found["told"], 4), "yes" if found["certified"] else "no"] if "told" in found else ["n/a"] * 2
        rows.append([NAMES[found["policy"]], *row, f"{found['kept']} of {found['folds']}", *told])
    if not rows:
        return []
    first = records[0]
    units = f"{first['questions']} questions" + (f" and {first['runs']} training runs" if first["runs"] > 1 else "")
    header = ["certified lift", "over best fixed, points", "95 %", Scale((-np.ceil(bound), np.ceil(bound)), 31)]
    header += ["p", "Holm p", "over every fixed choice", "p", "kept the fixed choice"]
    header += ["columns tell operators apart, p", "certified"]
    note = (
        f"  clusters: {units}; intervals include {first['included']}\n"
        "  certified: columns tell operators apart (p ≤ 0.05) and the lift is above 0 (one-sided p ≤ 0.05);\n"
        "  routers are tested in this order, each only if those before it are certified"
    )
    return [Table(header, rows, left=(0, 3), note=note)]


def certainty_block(known: dict | None) -> Block:
    """True rates, oracle and labels of one cell under the hierarchical model."""
    if known is None:
        return "  true rates: n/a (attempts behind the rates are unknown)"
    rows = [
        [name, number(label["expected"]), number(label["posterior"]), str(label["sure"])]
        for name, label in known["labels"].items()
    ]
    lead = (
        f"  true rates (hierarchical binomial model): best fixed operator {number(known['best_fixed'])} %, "
        f"a perfect router {number(known['oracle'])} %\n"
        f"  {_headroom(known['headroom'])}"
    )
    header = ["label", "expected", "mean posterior of those given, %", "of 90 % and more"]
    same = ", ".join(f"{row['attempts']}: {number(row['same'], 0)} %" for row in known["stability"])
    note = f"  two sets of n attempts an operator give a problem the same label at n = {same}"
    return Table(header, rows, lead=lead, note=note)


def _headroom(found: dict) -> str:
    """Points of a perfect router over the best fixed operator, and how many of them deterministic ones make."""
    points = lambda name: f"{number(found[name]['mean'])} points " + span(
        found[name]["low"], found[name]["high"]
    )
    line = f"headroom: {points('all')}"
    if not found["deterministic"]:
        return line
    names = ", ".join(found["deterministic"])
    return (
        f"{line}, of which deterministic operators ({names}) {points('of_deterministic')}; "
        f"without them {points('without_deterministic')}"
    )


def _rates(summary: dict, protocol: str, title: str) -> Table:
    found = {
        (row["population"], row["policy"]): row
        for row in summary["rates"]
        if row["protocol"] == protocol and row["cell"] == "all cells"
    }
    shown = [name for name in _POPULATIONS if (name, "retry") in found]
    header = [f"{title}, all cells"]
    for name in shown:
        header += [f"{_POPULATIONS[name]}, {found[name, 'retry']['n']}", "95 %"]
    rows = []
    for block in BLOCKS:
        rows += [[]] if rows and rows[-1] else []
        for policy in block:
            if ("all", policy) not in found:
                continue
            row = [NAMES.get(policy, policy)]
            for name in shown:
                rate = found.get((name, policy))
                row += [number(rate["rate"]), span(rate["low"], rate["high"])] if rate else ["n/a", ""]
            entropy, departs = (found["all", policy][key] for key in ("route_entropy", "departures"))
            rows.append([*row, number(entropy, 2) if entropy is not None else "", number(departs, 0)])
    return Table([*header, "entropy", "departs, %"], rows)


def _differences(summary: dict, protocol: str) -> Table:
    rows = [
        row
        for row in summary["comparisons"]
        if row["protocol"] == protocol and row["cell"] == "all cells" and row["population"] == "all"
    ]
    # The controls belong to no declared family.
    control = {(name, f"{name}_permuted") for name in ("posterior", "head")}
    control |= {(permuted, "best_fixed_per_model") for _, permuted in control}
    rows = [row for row in rows if "p_holm" in row or (row["policy"], row["reference"]) in control]
    return gap_table(
        ["all failed problems", "minus"],
        [
            ([NAMES.get(row["policy"], row["policy"]), NAMES.get(row["reference"], row["reference"])], row)
            for row in rows
        ],
    )


def _cells(summary: dict, protocol: str) -> Table:
    rows = [
        row
        for row in summary["comparisons"]
        if row["protocol"] == protocol
        and row["cell"] != "all cells"
        and row["population"] == "all"
        and row["policy"] in ("posterior", "head", "rule")
        and row["reference"] == "best_fixed_per_model"
    ]
    return gap_table(
        ["minus best fixed, per model and task", "cell"],
        [([NAMES.get(row["policy"], row["policy"]), row["cell"]], row) for row in rows],
    )


def kept_text(row: dict) -> str:
    """What stands in the place of an interval where two policies made the same choices."""
    return f"kept the fixed choice in {row['kept']} of {row['folds']} folds" if "kept" in row else "choices"


def gap_table(header: list[str], rows: list[tuple[list[str], dict]]) -> Table:
    """Differences of (names, row of `comparisons`) with interval, drawing and Holm's p; two columns of names."""
    ends = [abs(row[end]) for _, row in rows for end in ("low", "high") if row[end] is not None]
    bound = float(np.ceil(max([1, *ends])))
    lines = []
    for names, row in rows:
        bar = Bar(row["diff"], row["low"], row["high"], (-bound, bound), width=31)
        p = f"{row['p_holm']:.3f}" if row.get("p_holm") is not None else ""
        gap = [number(row["diff"], sign=True), span(row["low"], row["high"], sign=True)]
        if row["diff"] == 0 and row["low"] is None:
            gap, bar = ["the same", kept_text(row)], ""
        lines.append([*names, *gap, bar, p])
    titles = [*header, "points", "95 %", Scale((-bound, bound), width=31), "Holm p"]
    return Table(titles, lines, left=(0, 1, 4))
