"""Bounded test-time interventions: each says how an attempt at a failed problem differs from a plain one."""

# Each of these files what it defines in OPERATORS.
from fr.interventions import operators, prompted, traces  # noqa: F401
from fr.interventions.intervention import (
    OPERATORS,
    Change,
    Failure,
    Operator,
    Setting,
    register,
    select,
)

__all__ = [
    "OPERATORS",
    "Change",
    "Failure",
    "Operator",
    "Setting",
    "register",
    "select",
]
