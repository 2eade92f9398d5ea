"""Bounded test-time interventions: each fills a row of sampling parameters."""

from fr.interventions import operators as _operators  # noqa: F401  (files them in OPERATORS)
from fr.interventions.base import OPERATORS, Operator, Setting, register, select

__all__ = ["OPERATORS", "Operator", "Setting", "register", "select"]
