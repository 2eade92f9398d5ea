"""Diagnosis of failed rollouts: junction, features, signals, labels, clusters.

`fr.pipeline.profile_tables` makes one profile of a problem's failures with them. The
modules of signals are imported here, in the order of the columns of a profile.
"""

from fr.diagnosis import (  # noqa: F401, I001
    curve_signals,
    confidence_signals,
    text_signals,
)
