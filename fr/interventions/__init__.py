"""Bounded test-time interventions: how an attempt at a failed problem differs."""

# Each of these files what it defines in OPERATORS.
from fr.interventions import operators, prompted, tools, traces, vectors  # noqa: F401
from fr.interventions.intervention import (
    Failure,
    Intervention,
    Operator,
    OperatorContext,
)
from fr.interventions.operator_registry import OPERATORS, register, select

__all__ = [
    "OPERATORS",
    "Intervention",
    "Failure",
    "Operator",
    "OperatorContext",
    "register",
    "select",
]
