"""What a learned router may read of a failed problem: one registry of named columns."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from fr.diagnosis.features import QUESTION_COLUMNS
from fr.diagnosis.signals import KINDS, PAID, SIGNALS
from fr.registry import Registry
from fr.routing.profiles import FEATURES, Profiles


@dataclasses.dataclass(frozen=True)
class Column:
    """A named number of every failed problem, NaN for one without; `read` gives None where a cell lacks it."""

    kind: str  # of KINDS, or QUESTION
    group: str  # columns that an ablation adds and leaves out together
    read: Callable[[Profiles], Float[np.ndarray, "N"] | None]

    @property
    def free(self) -> bool:
        """Whether it comes with the rollouts: neither the ancestor nor a probe has to read them."""
        return self.kind not in ("outside", QUESTION) and self.group not in PAID


COLUMNS = Registry("column")
QUESTION = "question"  # kind of what is known before any rollout: a baseline that reads no failure
FREE = "free"  # among what a head may read: every column that is


def register_column(name: str, kind: str, group: str) -> Callable:
    """Decorator that files `read(profiles)` under `name`; raises ValueError on a kind that is not of KINDS."""
    if kind not in (*KINDS, QUESTION):
        raise ValueError(
            f"column {name!r}: kind {kind!r} is none of {', '.join(KINDS)}"
        )
    return lambda read: COLUMNS.register(name)(Column(kind, group, read))


def _feature(index: int) -> Callable:
    def read(profiles: Profiles) -> Float[np.ndarray, "N"] | None:
        values = profiles.features[:, index]
        return None if np.isnan(values).all() else values

    return read


def _failed_share(profiles: Profiles) -> Float[np.ndarray, "N"]:
    """Where the number of rollouts is not known, the share of the most failures that any problem has [ours]."""
    known = profiles.numbers("failed_share")
    return profiles.n_failed / profiles.n_failed.max() if known is None else known


for _index, _name in enumerate(FEATURES):
    register_column(_name, "signal", "lineage")(_feature(_index))
for _name in SIGNALS:
    register_column(_name, SIGNALS[_name].kind, SIGNALS[_name].group)(
        _failed_share
        if _name == "failed_share"
        else lambda profiles, name=_name: profiles.numbers(name, gaps=True)
    )
for _name in QUESTION_COLUMNS:
    register_column(_name, QUESTION, QUESTION)(
        lambda profiles, name=_name: profiles.numbers(name, gaps=True)
    )


def read_columns(cells: Sequence[Profiles]) -> dict[str, Float[np.ndarray, "N"]]:
    """Every registered column that some cell has, over the problems of all `cells`; NaN where a cell lacks it."""
    found = {}
    for name in COLUMNS:
        parts = [COLUMNS[name].read(profiles) for profiles in cells]
        if any(part is not None for part in parts):
            absent = [np.full(len(profiles), np.nan) for profiles in cells]
            found[name] = np.concatenate(
                [a if p is None else p for p, a in zip(parts, absent)]
            )
    return found


def readable(name: str, reads: Sequence[str]) -> bool:
    """Whether a column is of what may be read: kinds, groups, FREE."""
    column = COLUMNS[name]
    return (
        column.kind in reads or column.group in reads or (column.free and FREE in reads)
    )


def standardise(
    values: Float[np.ndarray, "N"], mean: float | None, sd: float | None
) -> Float[np.ndarray, "N"]:
    """Standard scores; 0, which says nothing, where the statistics or a value are unknown or nothing varies."""
    if mean is None or not sd:
        return np.zeros(len(values))
    return np.nan_to_num((values - mean) / sd)
