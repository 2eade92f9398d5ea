"""Profile tables: failed problems with features, rescue rates and recorded attempts."""

from fr.profiles.attempts_table import attempts_path
from fr.profiles.csv_table import read_cells, read_profiles, write_profiles
from fr.profiles.profile import (
    AXES,
    FEATURES,
    FORWARD,
    MODEL,
    OPERATORS,
    QUESTION,
    WEIGHT,
    Profiles,
    Recorded,
)

__all__ = [
    "AXES",
    "FEATURES",
    "FORWARD",
    "MODEL",
    "OPERATORS",
    "QUESTION",
    "WEIGHT",
    "Profiles",
    "Recorded",
    "attempts_path",
    "read_cells",
    "read_profiles",
    "write_profiles",
]
