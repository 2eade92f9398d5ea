"""The report of compiled programs: a record for JSON, and a table of 100 columns."""

import dataclasses
from collections.abc import Sequence

import jax

from fr.compiling.measure import Measured
from fr.compiling.slices import Slice
from fr.layout.tables import Block, Column, Table

_SMALL = 1e6  # bytes of a copy that is not worth a line


def record_of(
    found: Sequence[Measured], place: Slice, prompt: int, effort: float = 0.0
) -> dict:
    """All that was found, as plain values.

    Args:
        found: Compiled programs.
        place: The slice.
        prompt: Tokens of the longest prompt.
        effort: Effort of the compiler.

    Returns:
        The record.
    """
    chip = place.chip
    rows = [
        dataclasses.asdict(one) | {"held": one.held, "problem": one.problem(chip)}
        for one in found
    ]
    return {
        "topology": place.name,
        "devices": len(place.devices),
        "devices_of_a_host": len(place.host),
        "memory": chip.memory,
        "jax": jax.__version__,
        "prompt": prompt,
        "effort": effort,
        "seconds": sum(one.trace_seconds + one.seconds for one in found),
        "programs": rows,
    }


def blocks(record: dict) -> list[Block]:
    """The tables that the script prints.

    Args:
        record: As `record_of` makes it.

    Returns:
        A table of numbers, one of shapes, the largest copies, and what does not fit.
    """
    rows = record["programs"]
    lines = [_problem(row) for row in rows if row["problem"]]
    return [
        _numbers(record),
        _shapes(rows),
        "\n".join(filter(None, map(_copies, rows))),
        "\n".join(lines) or f"every program fits in {record['memory'] / 1e9:.1f} GB",
    ]


def _numbers(record: dict) -> Table:
    title = (
        f"{record['topology']}: {record['devices']} devices, sampling on the "
        f"{record['devices_of_a_host']} of a host; numbers of a device and a call"
    )
    columns = [
        Column("program", left=True),
        Column("compiled\ns"),
        Column("in and\nout GB", digits=2),
        Column("temporary\nGB", digits=2),
        Column("beside\nGB", digits=2),
        Column("in all\nGB", digits=2),
        Column("TFLOP", digits=2),
        Column("moved\nGB", digits=1),
        Column("at least\nms"),
    ]
    return Table(columns, [_row(row) for row in record["programs"]], title)


def _row(row: dict) -> list:
    if row["fault"]:
        return [row["program"], row["seconds"], *[None] * 7]
    least = 1e3 * row["roofline"] if row["bound"] else None
    return [
        row["program"],
        row["seconds"],
        (row["argument"] + row["output"]) / 1e9,
        *(row[name] / 1e9 for name in ("temporary", "beside", "held")),
        row["flops"] / 1e12,
        row["moved"] / 1e9,
        least,
    ]


def _shapes(rows: Sequence[dict]) -> Table:
    columns = [
        Column(name, left=True) for name in ("program", "size", "bound", "used by")
    ]
    note = (
        "in all: arguments, results, temporaries and what lies beside the program. "
        "Loops count as often as they run; * has loops whose length is data, counted "
        "as for rows of full length."
    )
    cells = [
        [
            row["program"] + " *" * bool(row["open_loops"]),
            row["shape"],
            row["bound"],
            _used(row["used_by"]),
        ]
        for row in rows
    ]
    return Table(columns, cells, note=note)


def _used(names: Sequence[str]) -> str:
    return names[0] + f" and {len(names) - 1} more" * (len(names) > 1)


def _copies(row: dict) -> str:
    large = [copy for copy in row["copies"] if copy["bytes"] >= _SMALL]
    told = [f"{c['calls']} of {c['shape']} ({c['bytes'] / 1e9:.2f} GB)" for c in large]
    return (
        f"copies of {row['program']}, {row['shape']}: {', '.join(told)}" if told else ""
    )


def _problem(row: dict) -> str:
    what = "the compiler refuses" if row["fault"] else "does not fit"
    return f"{what}: {row['program']}, {row['shape']}: {row['problem']}"
