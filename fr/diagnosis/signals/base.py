"""One registry of named numbers of a problem's failures, and the record that they are read from."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.registry import Registry

# Told by the failures themselves; known before any reading of them, and to be beaten; checked from outside.
KINDS = ("signal", "nuisance", "outside")
# Groups whose columns take positions beyond those of the rollouts: scores under the ancestor, probes.
PAID = ("lineage", "demotion", "confidence")


@dataclasses.dataclass(frozen=True)
class Failures:
    """The failed rollouts of one problem; no signal depends on their order.

    `searches` is the truth about their steps, each a sequence of
    `fr.tasks.countdown_solver.ReplayedStep`: only columns of kind outside read it, and
    None stands for a task, or a run, that has none.
    """

    attempts: tuple["fr.store.Attempt", ...]  # noqa: F821 (scored; its import brings in pyarrow)
    answers: tuple[
        str | None, ...
    ]  # of each, in a form that is the same for the same answer; None: unparsed
    rollouts: int  # drawn of the problem, failed or not
    switches: tuple[str, ...]  # words that leave a thought for another
    searches: tuple[tuple, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Signal:
    """A named number of a problem: of `kind` (KINDS), ablated with its `group`; NaN where there is none."""

    kind: str
    group: str
    read: Callable[[Failures, Config], float]


SIGNALS = Registry("signal")


def signal(name: str, group: str, kind: str = "signal") -> Callable:
    """Decorator that files `read(failures, config)` under `name`; raises ValueError on an unknown kind."""
    if kind not in KINDS:
        raise ValueError(
            f"signal {name!r}: kind {kind!r} is none of {', '.join(KINDS)}"
        )

    def add(
        read: Callable[[Failures, Config], float],
    ) -> Callable[[Failures, Config], float]:
        SIGNALS.register(name)(Signal(kind, group, read))
        return read

    return add


def mean_signal(name: str, group: str, kind: str = "signal") -> Callable:
    """Decorator that files `read(attempt, config)`: the number is its mean over the failed rollouts that have it."""

    def add(read: Callable[["fr.store.Attempt", Config], float]) -> Callable:  # noqa: F821
        signal(name, group, kind)(
            lambda failures, config: mean(
                [read(attempt, config) for attempt in failures.attempts]
            )
        )
        return read

    return add


def read_signals(failures: Failures, config: Config) -> dict[str, float]:
    """Every registered number of a problem, in the order of the registry; NaN where it says nothing."""
    return {name: float(SIGNALS[name].read(failures, config)) for name in SIGNALS}


def mean(values: list[float]) -> float:
    """Mean of what is known, the same to the last bit in any order; NaN of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return math.fsum(known) / len(known) if known else np.nan


def curve(attempt: "fr.store.Attempt", name: str) -> Float[np.ndarray, "T"] | None:  # noqa: F821
    """A statistic of the tokens that the model drew itself; None where the attempt has no such statistic."""
    if name not in attempt.stats:
        return None
    return np.asarray(attempt.stats[name], np.float64)[~np.asarray(attempt.forced)]
