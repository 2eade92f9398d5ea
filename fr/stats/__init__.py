"""Statistics that every room may use: intervals, rates, votes, calibration, tests."""

from fr.stats.bootstrap import Estimate, Interval, estimate, percent

__all__ = ["Estimate", "Interval", "estimate", "percent"]
