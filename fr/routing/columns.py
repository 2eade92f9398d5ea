"""Named columns of a failed problem that a learned router may read: one registry."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from fr.diagnosis.features import QUESTION_COLUMNS
from fr.diagnosis.signals import KINDS, PAID, SIGNALS
from fr.profiles.profile import FEATURES, Profiles
from fr.registry import Registry

QUESTION = "question"  # kind and group: known before any rollout
FREE = "free"  # group: every column that comes with the rollouts
PROMPT = "prompt"  # group: cell and family, known before any rollout
Read = Callable[[Profiles], Float[np.ndarray, "N"] | None]


@dataclasses.dataclass(frozen=True)
class Column:
    """A named number of every failed problem.

    Attributes:
        kind: one of KINDS, or QUESTION.
        group: columns that an ablation adds and leaves out together.
        read: its values in a cell, NaN for a problem without one; None if the cell
            lacks it.
    """

    kind: str
    group: str
    read: Read

    @property
    def free(self) -> bool:
        """True if neither the ancestor nor a probe has to read the rollouts for it."""
        return self.kind not in ("outside", QUESTION) and self.group not in PAID


COLUMNS = Registry("column")


def register_column(name: str, kind: str, group: str) -> Callable[[Read], Read]:
    """Make a decorator that registers `read(profiles)`.

    Args:
        name: of the column.
        kind: one of KINDS, or QUESTION.
        group: of an ablation.

    Returns:
        The decorator.

    Raises:
        ValueError: for another kind, and for a name that is taken.
    """
    if kind not in (*KINDS, QUESTION):
        raise ValueError(
            f"column {name!r}: kind {kind!r} is none of {', '.join(KINDS)}"
        )
    return lambda read: COLUMNS.register(name)(Column(kind, group, read))


def _feature(index: int) -> Read:
    def read(profiles: Profiles) -> Float[np.ndarray, "N"] | None:
        values = profiles.features[:, index]
        return None if np.isnan(values).all() else values

    return read


def _extra(name: str) -> Read:
    return lambda profiles: profiles.numbers(name, gaps=True)


for _index, _name in enumerate(FEATURES):
    register_column(_name, "signal", "lineage")(_feature(_index))
for _name in SIGNALS:
    _read = (lambda p: p.failed_share) if _name == "failed_share" else _extra(_name)
    register_column(_name, SIGNALS[_name].kind, SIGNALS[_name].group)(_read)
for _name in QUESTION_COLUMNS:
    register_column(_name, QUESTION, QUESTION)(_extra(_name))


def read_columns(cells: Sequence[Profiles]) -> dict[str, Float[np.ndarray, "N"]]:
    """Read every registered column that some cell has.

    Args:
        cells: the cells.

    Returns:
        Values over the problems of all cells; NaN where a cell lacks the column.
    """
    found = {}
    for name in COLUMNS:
        parts = [COLUMNS[name].read(profiles) for profiles in cells]
        if any(part is not None for part in parts):
            absent = [np.full(len(profiles), np.nan) for profiles in cells]
            filled = [a if part is None else part for part, a in zip(parts, absent)]
            found[name] = np.concatenate(filled)
    return found


def readable(name: str, groups: Sequence[str]) -> bool:
    """Say whether a router may read a column.

    Args:
        name: of the column.
        groups: kinds and groups of columns, and FREE.

    Returns:
        True if one of them holds the column.
    """
    column = COLUMNS[name]
    kinds = column.kind in groups or column.group in groups
    return kinds or (column.free and FREE in groups)
