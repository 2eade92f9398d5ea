"""Tables of the power of routing tests, by name."""

from cells import Table, estimate, number
from registry import load, register, wilson


@register("power_interaction")
def interaction() -> Table:
    """Share of tables in which the test of operator × problem finds something."""
    rows = []
    for name, row in load("routing_power")["simulated"]["interaction"].items():
        covered = ""
        if "covered" in row:
            covered = f"{number(100 * row['covered'], 0)} ({row['covered_of']})"
        rows.append([name, str(row["tables"]), number(100 * row["found"]), covered])
    columns = ["tables", "number", "found, %"]
    columns.append("headroom covered by its 95 % interval, % (tables)")
    return Table(columns, rows)


@register("power_lift")
def lift() -> Table:
    """Share of tables with a certified lift, by test."""
    keys = ("certified", "told", "one_sided", "found", "lost", "every")
    rows = []
    for name, row in load("routing_power")["simulated"]["lift"].items():
        shares = [number(100 * row[key]) for key in keys]
        kept = number(100 * row["kept"], 0)
        rows.append([name, str(row["tables"]), *shares, number(row["lift"]), kept])
    columns = ["tables", "number", "certified", "told", "lift", "interval above 0"]
    columns += ["interval below 0", "every", "mean lift, points"]
    columns.append("folds that kept the fixed choice")
    return Table(columns, rows)


@register("power_before")
def before() -> Table:
    """The routers of an earlier commit on the same landscapes."""
    names = {
        "today's gated head": "gated router",
        "ungated": "router without a gate",
        "gated, binomial objective": "gated router, binomial objective",
    }
    stored = load("routing_power")["before"]
    cases = ("clear, lift 6", "clearer, lift 6", "faint, lift 6", "no lift")
    first = stored["today's gated head"]
    columns = ["", *(f"{case} ({first[case]['tables']})" for case in cases)]
    rows = [
        [title, *(number(100 * stored[key][case]["found"]) for case in cases)]
        for key, title in names.items()
    ]
    return Table(columns, rows)


@register("power_released")
def released() -> Table:
    """The test of operator × problem on the released cells."""
    rows = []
    for row in load("routing_power")["released"]["interaction"]:
        sd, headroom = (
            estimate(row[key]["value"], row[key]["low"], row[key]["high"], digits)
            for key, digits in (("sd", 2), ("headroom", 1))
        )
        p = [f"{row['p']:.3f}", f"{row['p_holm']:.3f}"]
        rows.append(
            [row["cell"].replace("|", " "), str(row["problems"]), *p, sd, headroom]
        )
    columns = ["cell", "problems", "p", "Holm p", "interaction, sd in logits"]
    return Table([*columns, "headroom, points"], rows)


@register("certificates")
def certificates() -> Table:
    """Verdicts where the truth is known, in percent; of lifts with an interval."""
    rows = []
    for name, row in load("certificates")["landscapes"].items():
        count = row["tables"]
        share = lambda kind: number(100 * row[kind] / count)  # noqa: B023
        lift = estimate(*wilson(row["lift"], count))
        others = map(share, ("none", "too little data", "leaked"))
        rows.append([name, f"{count:,}", lift, *others])
    columns = ["tables", "number", "lift [95 %]", "none", "too little data", "leaked"]
    return Table(columns, rows)


@register("certificates.nulls")
def certificates_nulls() -> Table:
    """All tables without a lift together."""
    found = load("certificates")["landscapes"]
    nulls = [row for name, row in found.items() if "no lift" in name]
    count, lifts, leaks = (
        sum(row[key] for row in nulls) for key in ("tables", "lift", "leaked")
    )
    shares = [estimate(*wilson(each, count), 2) for each in (lifts, leaks)]
    columns = ["tables without a lift", "called a lift, % [95 %]"]
    return Table([*columns, "called leaked, % [95 %]"], [[f"{count:,}", *shares]])
