"""Tables of the routing results and of README, by name."""

from cells import Table, estimate, number
from registry import load, points, register, spread, triple, wilson


@register("glance")
def glance() -> Table:
    """The six rows of README."""
    released = load("routing_power")["released"]["certified"][0]
    planted = load("routing")["planted"]
    rescued = planted["attempt"]["found"][0]
    value, low, high = rescued["head minus best_fixed_per_model"]
    grpo, pcs, study = load("grpo"), load("committed"), load("study_signal")
    rows = [
        (
            "Do failures and their rescues teach more than right retries?",
            f"tiny Countdown model, {len(study['seeds'])} seeds, equal tokens",
            _signal(study["differences"]),
            "signal",
        ),
        (
            "Does a learned router beat the best fixed operator?",
            f"released profiles: 4 models, {_released_problems()} failed problems",
            points(released["lift"], 2),
            "routing_power",
        ),
        (
            "… the best operator of each model?",
            f"planted causes: {rescued['problems']} failed problems of 6 models",
            points({"mean": value, "low": low, "high": high}),
            "planted",
        ),
        (
            "What does GRPO add?",
            f"tiny Countdown model, {grpo['seeds']} seeds",
            points(grpo["tables"]["accuracy"]["rows"][1][2]),
            "grpo",
        ),
        (
            "… and progressive confidence shaping, at equal tokens?",
            f"another ancestor, {pcs['seeds']} seeds",
            points(pcs["tables"]["study"]["rows"][0][4]),
            "committed",
        ),
        (
            "How often is a wrong answer graded right?",
            "audit set; math-verify on its part of it",
            f"{_false_right('fr')}; {_false_right('math-verify')}",
            "answers",
        ),
    ]
    where = "docs/results"
    linked = [[*cells, f"[page]({where}/{page}.md)"] for *cells, page in rows]
    return Table(["question", "data", "answer [95 %]", ""], linked)


def _signal(differences: list[dict]) -> str:
    """The study's primary comparison, and the control that explains it."""
    of = lambda arm: next(
        row["difference"]
        for row in differences
        if (row["arm"], row["reference"], row["metric"])
        == ("dpo_parted", arm, "held_out:accuracy")
    )
    return f"{points(of('rft'))}; {points(of('shuffled'))} over shuffled pairs"


def _released_problems() -> int:
    return sum(
        row["problems"] for row in load("routing_power")["released"]["interaction"]
    )


def _false_right(grader: str) -> str:
    kinds = load("answers")["graders"][grader]["kinds"].values()
    count = sum(kind["false_right"] for kind in kinds)
    total = sum(kind["not_right"] for kind in kinds)
    value, low, high = wilson(count, total)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


@register("released_halves")
def released_halves() -> Table:
    """Lead of routing over the best fixed operator, by protocol."""
    rows = [
        [name.replace("|", " "), triple(cell["source"]), triple(cell["split_halves"])]
        for name, cell in sorted(load("routing")["released"].items())
    ]
    return Table(["cell", "source's protocol", "split halves"], rows)


@register("released_headroom")
def released_headroom() -> Table:
    """Headroom of the released cells, with and without deterministic operators."""
    keys = ("all", "of_deterministic", "without_deterministic")
    rows = [
        [name.replace("|", " "), *(spread(cell["headroom"][key]) for key in keys)]
        for name, cell in sorted(load("routing")["released"].items())
    ]
    columns = ["cell", "all operators", "of which dense_steer", "without it"]
    return Table(columns, rows)


@register("planted_attempt")
def planted_attempt() -> Table:
    """Rescues per attempt on planted causes, out of fold."""
    names = {
        "all eight": "all eight",
        "no ancestor in the loop": "without the ancestor in the loop",
        "nor truth from outside": "… and without outside truth",
    }
    rows = []
    for found in load("routing")["planted"]["attempt"]["found"]:
        rescued = found["rescued"]
        keys = ("retry", "best_fixed_per_cell", "best_fixed_per_model", "head")
        gaps = ("best_fixed_per_cell", "best_fixed_per_model")
        minus = [triple(found[f"head minus {gap}"]) for gap in gaps]
        rows.append(
            [names[found["operators"]]]
            + [number(rescued[key]) for key in keys]
            + [minus[0], f"**{minus[1]}**"]
        )
    columns = ["operators", "retry", "best fixed per cell", "best fixed per model"]
    columns += ["router", "router − per cell", "router − per model"]
    return Table(columns, rows)


@register("planted_orders")
def planted_orders() -> Table:
    """Problems solved within a budget, and the router's differences."""
    keys = ("retry", "best_fixed", "one_order", "one_order_per_model", "head_free")
    gaps = ("minus_best", "minus_one_order", "minus_one_order_per_model")
    rows = []
    for row in load("routing")["planted"]["orders"]["found"]["curves"]["forward"]:
        minus = [
            estimate(
                *(row["head_free"][gap][k] for k in ("mean", "low", "high")), 1, True
            )
            for gap in gaps
        ]
        solved = [number(row["solved"][key]) for key in keys]
        rows.append([number(row["budget"], 0), *solved, *minus[:2], f"**{minus[2]}**"])
    columns = ["forward tokens", "retry", "best operator, hindsight", "one order"]
    columns += ["one order per model", "router's orders", "router − best operator"]
    columns += ["router − one order", "router − one order per model"]
    return Table(columns, rows)


@register("planted_prices")
def planted_prices() -> Table:
    """Errors of budget curves under mean prices and under recorded attempts."""
    rows = []
    for row in load("routing")["planted"]["prices"]["found"]["operators"]:
        span = lambda key, digits: (
            f"{number(row[key]['least'], digits)} to {number(row[key]['most'], digits)}"
        )
        error = number(row["stated error"], 2)
        rows.append(
            [row["operator"], span("mean prices", 1), span("recorded", 2), error]
        )
    columns = ["operator", "mean prices", "recorded attempts", "stated error"]
    return Table(columns, rows)


@register("planted_population")
def planted_population() -> Table:
    """Problems in the table and problems that a router meets, by failures."""
    rows = []
    for row in load("routing")["planted"]["population"]["found"]:
        both = lambda key: f"{number(row[key])} ({number(row[f'{key}, unweighted'])})"
        shares = [number(row["share"]), number(row["deployed"])]
        counts = [str(row["failures"]), str(row["problems"])]
        rows.append(
            counts + shares + [both("retry, an attempt"), both("retry within 256")]
        )
    columns = ["K", "problems", "of all, %", "met, %"]
    columns += [
        "a retry rescues, weighted (unweighted), %",
        "solved by retries within 256, %",
    ]
    return Table(columns, rows)
