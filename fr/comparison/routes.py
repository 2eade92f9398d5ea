"""Routes of a router from elsewhere, from a CSV file."""

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.files import parse_number
from fr.profiles.csv_table import check_fields, read_lines
from fr.registry import suggest
from fr.routing.dataset import RoutingData
from fr.workdir import PathLike


def read_routes(
    path: PathLike, data: RoutingData
) -> tuple[Int[np.ndarray, "N"] | None, Float[np.ndarray, "N"] | None]:
    """Read what a router from elsewhere chose, or what its own attempts gave.

    Args:
        path: a CSV file with the columns `cell`, `problem_id` and either `operator`,
            the chosen one, or `rate`, the share of the router's own attempts that were
            right.
        data: the failed problems; each has one line. The problems of a cell without a
            failed rollout, which its table counts as excluded, may have one.

    Returns:
        The operator of each row or None, and the rate of each row or None.

    Raises:
        UserError: names file, line and what is wrong.
    """
    header, given = read_lines(epath.Path(path), "routes")
    kinds = [name for name in ("operator", "rate") if name in header]
    if len(kinds) != 1 or not {"cell", "problem_id"} <= set(header):
        raise UserError(
            f"{path}: routes have the columns cell, problem_id and one of operator and "
            f"rate; there are {', '.join(header) or 'none'}"
        )
    check_fields(header, given)
    lines: dict = {}
    for row in given:
        name = row["cell"], row["problem_id"]
        if name in lines:
            raise UserError(
                f"{row['_where']}: problem {name[1]!r} of cell {name[0]!r} appears "
                "twice"
            )
        lines[name] = row
    rows = [
        (profiles, problem) for profiles in data.cells for problem in profiles.problems
    ]
    chosen: list = []
    for profiles, problem in rows:
        if (profiles.cell, problem) not in lines:
            raise UserError(
                f"{path}: problem {problem!r} of cell {profiles.cell!r} has no line"
            )
        row = lines[profiles.cell, problem]
        where, value = row["_where"], row[kinds[0]] or ""
        if kinds[0] == "operator":
            if value not in profiles.operators:
                raise UserError(
                    f"{where}: {value!r} is not an operator of cell {profiles.cell!r}"
                    f"{suggest(value, profiles.operators)}"
                )
            chosen.append(data.operators.index(value))
        else:
            rate = parse_number(value, f"{where}, column 'rate'")
            if not 0 <= rate <= 1:
                raise UserError(f"{where}: rate = {value} is not in [0, 1]")
            chosen.append(rate)
    _check_further(lines, data)
    if kinds[0] == "operator":
        return np.array(chosen), None
    return None, np.array(chosen, float)


def _check_further(lines: dict[tuple[str, str], dict], data: RoutingData) -> None:
    """Refuse lines of problems that are neither in the table nor excluded."""
    known = {cell.cell: set(cell.problems) for cell in data.cells}
    room = {cell.cell: cell.excluded for cell in data.cells}
    for (cell, problem), row in lines.items():
        if problem in known.get(cell, ()):
            continue
        room[cell] = room.get(cell, 0) - 1
        if room[cell] < 0:
            what = f"problem {problem!r} of cell {cell!r}" if cell in known else ""
            raise UserError(
                f"{row['_where']}: {what or f'cell {cell!r}'} is not in the profiles"
            )
