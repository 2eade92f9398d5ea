"""Accuracy, calibration, clusters, audits and studies, from stored attempts."""

from fr.evaluation import (  # noqa: F401  these register themselves
    measures_underthinking,
    measures_wandering,
)
