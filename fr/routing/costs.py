"""What attempts and diagnoses take: forward positions, generated tokens, seconds."""

import numpy as np
from jaxtyping import Float

from fr.errors import UserError
from fr.routing.profiles import Profiles
from fr.routing.recorded import FORWARD

_BEFORE = ("diagnosis", "failures")  # what is spent on a problem before it is routed


def positions_of(
    profiles: Profiles, axis: str = FORWARD
) -> dict[str, Float[np.ndarray, "N"]] | None:
    """Mean cost of an attempt of every operator at each problem, under `diagnosis` that of its diagnosis, and
    under `failures` that of its rollouts alone, on one axis of AXES.

    Forward positions are the columns `<operator>_cost`, `diagnosis_cost` and `failures_cost` (where a table lacks
    that, all of the diagnosis): prompt, generated, forced, scored and probe positions, the ancestor's weighted by
    its share of the specialist's parameters. Generated tokens and seconds are those of the recorded attempts, and
    of the rollouts the column `failures_<axis>`; scores and probes generate nothing. None where they are unknown.
    """
    columns = _forward(profiles) if axis == FORWARD else _recorded(profiles, axis)
    if columns is None:
        return None
    for name, column in columns.items():
        if column.min() < 0 or (
            name not in _BEFORE and axis == FORWARD and column.min() == 0
        ):
            raise UserError(
                f"cell {profiles.cell}: {name}_cost = {column.min():g} is not a number of positions"
            )
    return columns


def costs(profiles: Profiles) -> dict[str, float] | None:
    """Means over the problems of a cell of what `positions_of` gives."""
    known = positions_of(profiles)
    return known and {name: float(column.mean()) for name, column in known.items()}


def _forward(profiles: Profiles) -> dict[str, Float[np.ndarray, "N"]] | None:
    columns = {
        name: profiles.numbers(f"{name}_cost")
        for name in (*profiles.operators, *_BEFORE)
    }
    if columns["failures"] is None:
        columns["failures"] = columns["diagnosis"]
    if any(column is None for column in columns.values()):
        return None
    if profiles.recorded is not None and profiles.recorded.knows(FORWARD):
        mean = profiles.recorded.mean(FORWARD)  # the same, to more digits
        columns |= {name: mean[:, o] for o, name in enumerate(profiles.operators)}
    return columns


def _recorded(
    profiles: Profiles, axis: str
) -> dict[str, Float[np.ndarray, "N"]] | None:
    found, rollouts = profiles.recorded, profiles.numbers(f"failures_{axis}")
    if found is None or rollouts is None or not found.knows(axis):
        return None
    mean = found.mean(axis)
    known = {name: mean[:, o] for o, name in enumerate(profiles.operators)}
    # Scoring a failure generates no token; how long it takes is known where it was measured.
    reading = rollouts if axis == "generated" else profiles.numbers(f"diagnosis_{axis}")
    return (
        None
        if reading is None
        else known | {"diagnosis": reading, "failures": rollouts}
    )
