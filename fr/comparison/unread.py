"""Columns of a profile table that no router reads."""

from collections.abc import Sequence

from fr.diagnosis.features import SPREADS
from fr.errors import UserError
from fr.profiles import AXES, MODEL, QUESTION, WEIGHT, Profiles
from fr.routing.columns import COLUMNS

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


def unread_columns(cells: Sequence[Profiles]) -> list[str]:
    """Find columns of numbers that no router can read, since none is registered so.

    Args:
        cells: the profiles.

    Returns:
        Their names. Columns of text are not signals, and are not among them.
    """
    found: dict[str, bool] = {}
    for profiles in cells:
        for name in profiles.extras:
            if name in COLUMNS or name in _NAMED or name.endswith(_OF_OPERATORS):
                continue
            try:
                found[name] = profiles.numbers(name, gaps=True) is not None
            except UserError:
                found[name] = False
    return [name for name, counted in found.items() if counted]
