"""What attempts and diagnoses take, in forward positions."""

import numpy as np
from jaxtyping import Float

from fr.errors import UserError
from fr.routing.profiles import Profiles

_BEFORE = ("diagnosis", "failures")  # what is spent on a problem before it is routed


def positions_of(profiles: Profiles) -> dict[str, Float[np.ndarray, "N"]] | None:
    """Mean forward positions of an attempt of every operator at each problem, under `diagnosis` those of its
    diagnosis, and under `failures` those of its rollouts alone.

    From the columns `<operator>_cost`, `diagnosis_cost` and `failures_cost` (where a table lacks that, all of the
    diagnosis): prompt, generated, forced, scored and probe positions, the ancestor's weighted by its share of
    the specialist's parameters. None where another column is missing.
    """
    columns = {name: profiles.numbers(f"{name}_cost") for name in (*profiles.operators, *_BEFORE)}
    if columns["failures"] is None:
        columns["failures"] = columns["diagnosis"]
    if any(column is None for column in columns.values()):
        return None
    for name, column in columns.items():
        if column.min() < 0 or (name not in _BEFORE and column.min() == 0):
            raise UserError(
                f"cell {profiles.cell}: {name}_cost = {column.min():g} is not a number of positions"
            )
    return columns


def costs(profiles: Profiles) -> dict[str, float] | None:
    """Means over the problems of a cell of what `positions_of` gives."""
    known = positions_of(profiles)
    return known and {name: float(column.mean()) for name, column in known.items()}
