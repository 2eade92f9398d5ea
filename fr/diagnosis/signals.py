"""Signals: named numbers of a problem's failed rollouts, columns of its profile.

A signal is one function that is registered under the name of its column:

    register_signal(name, group, kind)       read(failures, config) -> float
    register_mean_signal(name, group, kind)  read(attempt, config) -> float

The number of the second form is the mean over the problem's failed rollouts that have
it. Both get the whole `Config`, ask no model again and return NaN where the number is
not defined. Equations, units and sources are listed in docs/signals.md. T is the number
of tokens that the model drew itself; forced tokens and the prompt are left out of
curves.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.registry import Registry
from fr.store import Attempt

KINDS = (
    "signal",  # read from the failures
    "nuisance",  # known before a failure is read: a baseline that signals have to beat
    "outside",  # truth from a checker of the task: no router may read it
)
# Groups whose columns cost forward tokens beyond the rollouts: ancestor scores, probes.
PAID = ("lineage", "demotion", "confidence", "states")

# One attempt: the `fr.tasks.countdown_solver.ReplayedStep` of each step. Not imported:
# tasks import jax, and routing reads the registry of signals without it.
Search = Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Failures:
    """The failed rollouts of one problem; no signal depends on their order."""

    attempts: tuple[Attempt, ...]  # scored: `stats` are the scorer's or the loop's
    # In one form per value of the answer, so that equal answers are equal strings.
    answers: tuple[str | None, ...]  # one per attempt; None: not parsed
    rollouts: int  # drawn at the problem, failed or not
    switches: tuple[str, ...]  # words that end a thought and begin another
    # Steps of each attempt as a checker replays them, for columns of kind outside;
    # None: the task has no checker.
    searches: tuple[Search, ...] | None = None
    # Probability of each attempt being right, by a probe of its states that has learned
    # from graded rollouts of other problems; None: states were not read.
    probed: tuple[float, ...] | None = None


ReadFailures = Callable[[Failures, Config], float]
ReadAttempt = Callable[[Attempt, Config], float]


@dataclasses.dataclass(frozen=True)
class Signal:
    """A registered number of a problem."""

    kind: str  # one of KINDS
    group: str  # signals of a group are left out together in ablations
    read: ReadFailures  # NaN where the number is not defined


SIGNALS = Registry("signal")


def register_signal(
    name: str, group: str, kind: str = "signal"
) -> Callable[[ReadFailures], ReadFailures]:
    """Register a number that is read from all failures of a problem.

    Args:
        name: Column of the profile.
        group: Group that ablations leave out together.
        kind: One of KINDS.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: The kind is unknown, or (from the decorator) the name is taken.
    """
    if kind not in KINDS:
        raise ValueError(f"signal {name!r}: kind {kind!r} is not in {', '.join(KINDS)}")

    def add(read: ReadFailures) -> ReadFailures:
        SIGNALS.register(name)(Signal(kind, group, read))
        return read

    return add


def register_mean_signal(
    name: str, group: str, kind: str = "signal"
) -> Callable[[ReadAttempt], ReadAttempt]:
    """Register a number of one failed rollout; the column is its mean over failures.

    Args:
        name: Column of the profile.
        group: Group that ablations leave out together.
        kind: One of KINDS.

    Returns:
        A decorator that returns the function unchanged.
    """

    def add(read: ReadAttempt) -> ReadAttempt:
        def average(failures: Failures, config: Config) -> float:
            return mean([read(attempt, config) for attempt in failures.attempts])

        register_signal(name, group, kind)(average)
        return read

    return add


def read_signals(failures: Failures, config: Config) -> dict[str, float]:
    """Read every registered signal of one problem.

    Args:
        failures: The problem's failed rollouts.
        config: The settings; signals read `rewards`, `evaluation` and `diagnosis`.

    Returns:
        Numbers by name, in the order of registration; NaN where one is not defined.
    """
    return {name: float(SIGNALS[name].read(failures, config)) for name in SIGNALS}


def mean(values: Sequence[float]) -> float:
    """Average the known values, to the same bits in any order.

    Args:
        values: Numbers; NaN is left out.

    Returns:
        The mean; NaN without a known value.
    """
    known = [value for value in values if not np.isnan(value)]
    return math.fsum(known) / len(known) if known else np.nan


def curve(attempt: Attempt, name: str) -> Float[np.ndarray, "T"] | None:
    """Select a statistic of the tokens that the model drew itself.

    Args:
        attempt: A scored failure.
        name: One of `fr.store.TOKEN_STATS` or `fr.store.LINEAGE_STATS`.

    Returns:
        Its values in order, [T]; None where the attempt has no such statistic.
    """
    if name not in attempt.stats:
        return None
    return np.asarray(attempt.stats[name], np.float64)[~np.asarray(attempt.forced)]
