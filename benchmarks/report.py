"""The verdict of a benchmark, and its tables for the terminal."""

from collections.abc import Sequence

from benchmarks.parts import Part
from benchmarks.side_by_side import Result
from benchmarks.systems import PEERS
from fr.layout.tables import Column, Table, number
from fr.layout.text import to_text

OURS, FEWEST = "fr", 64  # `fr` is judged at this many rows or more
GOAL = 2.0  # times the best peer


def verdict(systems: dict[str, Result], parts: dict[str, Part]) -> dict:
    """Compute the figures that are compared with peers.

    `fr_over_best_peer` is the strict ratio: `fr` with statistics over the best peer
    without, each at its own best number of rows. `with_over_with` takes both with
    statistics.

    Args:
        systems: results by name of the system.
        parts: measured parts by name.

    Returns: The figures; a figure is None where a part or peer is missing, and `why`
        names it.
    """
    ratios = {
        "fr_over_best_peer": None,
        "with_over_with": None,
        "best_peer": None,
        "why": _why(systems),
    }
    if ratios["why"] is None:
        ours = _ours(systems[OURS], "with_stats")[1]
        best = {
            kind: max((systems[name].best(kind)[1], name) for name in PEERS)
            for kind in ("tokens_per_s", "with_stats")
        }
        ratios["best_peer"] = best["tokens_per_s"][1]
        ratios["fr_over_best_peer"] = ours / best["tokens_per_s"][0]
        ratios["with_over_with"] = ours / best["with_stats"][0]
    figure = lambda part, key: parts[part].record[key] if part in parts else None
    return {
        **ratios,
        "statistics_cost": figure("statistics", "cost"),
        "roofline_fraction": figure("roofline", "fraction"),
    }


def rows_of_verdict(systems: dict[str, Result], otherwise: int) -> int:
    """Choose the number of rows at which the parts are measured.

    Args:
        systems: results by name of the system.
        otherwise: the number without a result of `fr`.

    Returns:
        The best number of rows of `fr`.
    """
    best = _ours(systems[OURS], "with_stats") if OURS in systems else None
    return best[0] if best else otherwise


def _ours(result: Result, kind: str) -> tuple[int, float] | None:
    found = [
        (rows, by[kind])
        for rows, by in result.batch.items()
        if kind in by and rows >= FEWEST
    ]
    return max(found, key=lambda pair: pair[1]) if found else None


def _why(systems: dict[str, Result]) -> str | None:
    """The reason for a missing comparison; None if there is one."""
    for name in (OURS, *PEERS):
        if name not in systems:
            flag = f"--peer={name}:/path/to/python"
            return f"{name} was not measured: the verdict needs {flag}"
        if systems[name].error:
            return f"{name} failed: {systems[name].error}"
    if _ours(systems[OURS], "with_stats") is None:
        return f"{OURS} was not measured at {FEWEST} rows or more"
    return None


def systems_table(systems: dict[str, Result]) -> str:
    """Render tokens/s of every system by number of rows, without and with statistics.

    `*` marks a system's best, `~` the rate of one short run of the search for its best.

    Args:
        systems: results by name of the system.

    Returns:
        The table.
    """
    sizes = sorted(
        {
            size
            for result in systems.values()
            for size in {*result.batch, *result.sought}
        }
    )
    header = [
        "tokens/s",
        "statistics",
        *(f"{size} rows" for size in sizes),
        "compile s",
        "peak MB",
    ]
    rows = []
    for name, result in systems.items():
        for kind, label in (("tokens_per_s", "without"), ("with_stats", "with")):
            best = result.best(kind)
            cells = [_rate(result, size, kind, best) for size in sizes]
            first, memory = (
                kind == "tokens_per_s",
                result.peak_device_mb or result.peak_rss_mb,
            )
            tail = (
                [number(result.record()["compile_s"]), number(memory, 0)]
                if first
                else ["", ""]
            )
            rows.append([name if first else "", label, *cells, *tail])
    notes = [
        f"{name}: {result.about}" for name, result in systems.items() if result.about
    ]
    notes += [
        f"{name} failed: {result.error}"
        for name, result in systems.items()
        if result.error
    ]
    columns = [Column(title, left=i < 2) for i, title in enumerate(header)]
    return to_text([Table(columns, rows, note="\n".join(notes))])


def _rate(result: Result, size: int, kind: str, best: tuple[int, float] | None) -> str:
    if (rate := result.batch.get(size, {}).get(kind)) is not None:
        return number(rate) + ("*" if best and best[0] == size else " ")
    sought = result.sought.get(size, {}).get(kind)
    return "–" if sought is None else number(sought) + "~"


def figures_table(
    found: dict, parts: dict[str, Part], failed: dict[str, str], short: bool
) -> str:
    """Render every figure with its goal, and the parts that could not be measured.

    Args:
        found: the verdict.
        parts: measured parts by name.
        failed: reasons by name of the part.
        short: True for a short run, whose figures mean nothing.

    Returns:
        The table.
    """
    rows = []
    if found["fr_over_best_peer"] is not None:
        peer = found["best_peer"]
        rows.append(
            _figure(
                f"with statistics, over {peer} without",
                found["fr_over_best_peer"],
                GOAL,
                True,
                " x",
            )
        )
        rows.append(
            [
                "with statistics, over the best peer with",
                f"{number(found['with_over_with'], 2)} x",
                "",
                "",
            ]
        )
    for part in parts.values():
        rows += [
            _figure(f.name, f.value, f.goal, f.at_least, f.unit, f.digits)
            for f in part.figures
        ]
    names = ("figure", "measured", "goal", "")
    columns = [Column(name, left=i == 0) for i, name in enumerate(names)]
    lines = [to_text([Table(columns, rows)])] if rows else []
    lines += [f"  {name} could not be measured: {why}" for name, why in failed.items()]
    if found["why"] is not None:
        lines.append(f"  no comparison with peers: {found['why']}")
    if short:
        lines.append(
            "  a short run shows that everything works; its figures mean nothing"
        )
    return "\n".join(lines)


def _figure(
    name: str,
    value: float,
    goal: float,
    at_least: bool,
    unit: str = "",
    digits: int = 2,
) -> Sequence[str]:
    reached = value >= goal if at_least else value <= goal
    sign = "≥" if at_least else "≤"
    return [
        name,
        number(value, digits) + unit,
        f"{sign} {number(goal, digits)}{unit}",
        "" if reached else "missed",
    ]


def roofline_lines(record: dict) -> str:
    """Render the arithmetic of the floor.

    Args:
        record: of the roofline part.

    Returns:
        A few lines.
    """
    rates = record["products_gflop_per_s"][str(record["rows"])]
    each = ", ".join(f"{name} {number(rate, 0)}" for name, rate in rates.items())
    reads = ", ".join(
        f"{name} {number(rate, 1)}" for name, rate in record["read_gb_per_s"].items()
    )
    by_products = 1e3 * record["operations"] / record["operations_per_s"]
    by_reads = 1e3 * record["bytes"] / record["bytes_per_s"]
    return "\n".join(
        [
            f"  a step of {record['rows']} rows at context "
            f"{number(record['context'], 0)}:",
            f"    {number(record['operations'] / 1e9)} GFLOP at {each} GFLOP/s: "
            f"{number(by_products)} ms",
            f"    {number(record['bytes'] / 1e9, 2)} GB at {reads} GB/s: "
            f"{number(by_reads)} ms",
            f"    floor {number(record['floor_ms'])} ms, measured "
            f"{number(record['step']['median_ms'])} ms "
            f"(least {number(record['step']['min_ms'])})",
        ]
    )
