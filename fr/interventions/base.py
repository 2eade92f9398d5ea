"""What an operator is: a name, whether it reads the ancestor, and a function that fills a row's parameters."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fr.config import Config
from fr.diagnosis.junction import Calibration
from fr.registry import Registry
from fr.sampling.rows import row_key

OPERATORS = Registry("operator")


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that an operator may look at when it fills attempt `attempt` of a problem."""

    config: Config
    problem: str
    attempt: int
    calibration: Calibration
    has_ancestor: bool

    def generator(self) -> np.random.Generator:
        """A generator of this attempt's own, apart from the row's draws."""
        return np.random.default_rng(row_key(self.config.seed, "operator", self.problem, self.attempt))


@dataclasses.dataclass(frozen=True)
class Operator:
    """One bounded intervention: `fill(setting)` gives the RowParams fields that differ from plain sampling."""

    name: str
    fill: Callable[[Setting], dict]
    needs_ancestor: bool = False  # cannot run without one
    uses_ancestor: bool = False  # reads one where there is one, and then pays for it
    deterministic: bool = False  # every attempt is the same, so one is made


def register(
    name: str, *, needs_ancestor: bool = False, uses_ancestor: bool = False, deterministic: bool = False
) -> Callable:
    """Decorator that files a `fill` function as an operator."""

    def add(fill: Callable[[Setting], dict]) -> Callable[[Setting], dict]:
        OPERATORS.register(name)(
            Operator(name, fill, needs_ancestor, uses_ancestor or needs_ancestor, deterministic)
        )
        return fill

    return add


def select(names: tuple[str, ...], has_ancestor: bool) -> tuple[list[Operator], list[str]]:
    """The operators that can run, and the names of those that cannot for want of an ancestor."""
    operators = [OPERATORS[name] for name in names]
    able = [o for o in operators if has_ancestor or not o.needs_ancestor]
    return able, [o.name for o in operators if o not in able]
