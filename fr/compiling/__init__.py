"""Compilation of a run's programs for devices that are not there."""
