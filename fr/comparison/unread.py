"""Columns of a profile table that no router reads."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr.diagnosis.features import SPREADS
from fr.errors import UserError
from fr.profiles import AXES, MODEL, QUESTION, WEIGHT, Profiles
from fr.profiles.profile import PRINTED
from fr.routing.columns import COLUMNS, register_column

# Columns that are read by their names, and ends of names that belong to an operator.
_NAMED = {
    *("family", "task", "run", "method", "rollouts", MODEL, QUESTION, WEIGHT),
    *SPREADS,
    *(
        f"{when}_{axis}"
        for when in ("failures", "diagnosis")
        for axis in (*AXES, "cost")
    ),
}
_OF_OPERATORS = ("_cost", "_fired")
_MOST = 50  # attempts of a rate whose number is not told


def unread_columns(cells: Sequence[Profiles]) -> tuple[list[str], list[str]]:
    """Find columns that no router can read, since none is registered so.

    Args:
        cells: the profiles.

    Returns:
        Names of the columns of numbers, gaps allowed, and of those that are not numbers
        in some cell. A column that is empty everywhere is in neither.
    """
    numbers: dict[str, bool] = {}
    for profiles in cells:
        for name in profiles.extras:
            if name in COLUMNS or name in _NAMED or name.endswith(_OF_OPERATORS):
                continue
            try:
                if profiles.numbers(name, gaps=True) is not None:
                    numbers.setdefault(name, True)
            except UserError:
                numbers[name] = False
    told = [name for name, counted in numbers.items() if counted]
    return told, [name for name in numbers if name not in told]


def read_unread(cells: Sequence[Profiles]) -> dict[str, list[str]]:
    """Let routers read every column of numbers.

    Args:
        cells: the profiles.

    Returns:
        {"not_read": columns that are not numbers, "like_rates": of `rate_columns`}.

    Raises:
        UserError: as of `rate_columns`.
    """
    numbers, others = unread_columns(cells)
    found = {"not_read": others, "like_rates": rate_columns(cells, numbers)}
    for name in numbers:
        read = lambda profiles, name=name: profiles.numbers(name, gaps=True)
        register_column(name, "signal", "given")(read)
    return found


def rate_columns(cells: Sequence[Profiles], names: Sequence[str]) -> list[str]:
    """Find columns that look like rescue rates of an operator without its attempts.

    Every value is a share of the attempts of another rate of its row, or of at most 50
    where those are not told, and not all are 0 or 1. A share of rollouts looks the
    same, so a column is read as a signal all the same, unless it has a cost as only an
    operator has.

    Args:
        cells: the profiles.
        names: of columns of numbers.

    Returns:
        Those that look like rates.

    Raises:
        UserError: one of them has a cost too.
    """
    found = []
    for name in names:
        read = [(p, p.numbers(name, gaps=True)) for p in cells]
        told = [(p, values) for p, values in read if values is not None]
        values = np.concatenate([values for _, values in told])
        if np.isin(values[~np.isnan(values)], (0, 1)).all():
            continue
        if not all(_are_rates(p, values) for p, values in told):
            continue
        if any(any(p.extras.get(f"{name}_cost", ())) for p in cells):
            raise UserError(
                f"column '{name}_n' is missing: {name!r} has rates and a cost as an "
                f"operator has; add its attempts, or leave '{name}_cost' out"
            )
        found.append(name)
    return found


def _are_rates(profiles: Profiles, values: Float[np.ndarray, "N"]) -> bool:
    """True if all values that are known are shares of a number of attempts."""
    tried = profiles.attempts
    if tried is None:
        tried = np.broadcast_to(np.arange(1, _MOST + 1), (len(values), _MOST))
    known = ~np.isnan(values)
    seen, tried = values[known, None], np.maximum(tried[known], 1)
    fits = np.abs(np.round(seen * tried) / tried - seen) <= PRINTED
    return bool(((seen >= 0) & (seen <= 1)).all() and fits.any(axis=1).all())
