"""A setting: its default, the values that it may have, and its line of `--help`."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from fr.errors import UserError
from fr.registry import suggest


@dataclasses.dataclass(frozen=True)
class Bound:
    """The values that a setting may have.

    Attributes:
      words: completes "must be ..." in the error.
      holds: whether a value is allowed.
      known: the allowed names where there is a list of them; an error then suggests
        one.
    """

    words: str
    holds: Callable[[Any], bool]
    known: tuple[str, ...] | None = None

    def check(self, name: str, value) -> None:
        """Refuse a value out of bounds.

        Args:
          name: the setting's full name, as `config.task.problems`.
          value: its value.

        Raises:
          UserError: the value is not allowed; the line names the setting and what would
            do.
        """
        if self.holds(value):
            return
        if self.known is not None:
            hint = suggest(value, self.known)
            raise UserError(f"{name} = {value!r} is not known{hint}")
        raise UserError(f"{name} = {value!r} must be {self.words}")


def setting(default, meaning: str, bound: Bound | None = None) -> Any:
    """A field of a group of settings.

    Args:
      default: the one default.
      meaning: what the setting does, with its unit; printed by `--help` and the docs.
      bound: the allowed values; None: all values of the field's type.

    Returns:
      A dataclass field that holds all three.
    """
    held = {"meaning": meaning, "bound": bound}
    return dataclasses.field(default=default, metadata=held)


def one_of(*known: str) -> Bound:
    """A choice among names.

    Args:
      known: the names.

    Returns:
      The bound.
    """
    return Bound(f"one of {', '.join(known)}", lambda value: value in known, known)


def at_least(least: float, words: str = "") -> Bound:
    """Numbers from a smallest one on.

    Args:
      least: the smallest allowed number.
      words: what the error says instead of "LEAST or more".

    Returns:
      The bound.
    """
    return Bound(words or f"{least} or more", lambda value: value >= least)


def above(least: float, words: str = "") -> Bound:
    """Finite numbers above one.

    Args:
      least: the number below all allowed ones.
      words: what the error says instead of "above LEAST".

    Returns:
      The bound.
    """
    return Bound(words or f"above {least}", lambda value: least < value < math.inf)


def each(bound: Bound, words: str, empty: bool = True) -> Bound:
    """Tuples whose entries all keep a bound.

    Args:
      bound: the bound of an entry.
      words: what the error says.
      empty: whether the tuple may be empty.

    Returns:
      The bound of the tuple.
    """
    holds = lambda values: (empty or len(values) > 0) and all(map(bound.holds, values))
    return Bound(words, holds)


# Comparisons are false for nan, so that nan is refused.
POSITIVE = Bound("positive", lambda value: value > 0)
NOT_NEGATIVE = at_least(0)
SHARE = Bound("in [0, 1]", lambda value: 0 <= value <= 1)
POSITIVE_SHARE = Bound("in (0, 1]", lambda value: 0 < value <= 1)
INNER_SHARE = Bound("in (0, 1)", lambda value: 0 < value < 1)
TWO_OR_MORE = at_least(2)


_DTYPES = one_of("", "float32", "bfloat16")
# Settings of the optimiser, which several groups have: meaning and bound.
_SHARED = {
    "steps": ("steps of the training; 0: none", NOT_NEGATIVE),
    "learning_rate": ("the highest learning rate", POSITIVE),
    "schedule": (
        "after the warm-up: constant, or cosine to zero",
        one_of("constant", "cosine"),
    ),
    "warmup_steps": (
        "parameter updates over which the learning rate rises from 0",
        NOT_NEGATIVE,
    ),
    "weight_decay": ("decoupled weight decay", NOT_NEGATIVE),
    "clip_norm": ("largest norm of a gradient", POSITIVE),
    "optimizer": ("adamw, lion or adafactor", one_of("adamw", "lion", "adafactor")),
    "moments": ("type of the optimiser's moments; '': float32", _DTYPES),
    "dtype": ("type of the computation; '': the best that the device has", _DTYPES),
    "model_axis": ("devices that share one copy of the parameters", POSITIVE),
    "remat": (
        "recompute layers in the backward pass instead of keeping them: less memory, "
        "and on a CPU less time",
        None,
    ),
    "microbatch": ("", NOT_NEGATIVE),
    "length_buckets": (
        "row lengths with a program each; a microbatch has the shortest that holds it",
        POSITIVE,
    ),
    "eval_every": ("", at_least(0, "0 (never) or more")),
    "export": ("", one_of("last", "best")),
    "order": (
        "permuted: every problem once per epoch; drawn: with replacement",
        one_of("permuted", "drawn"),
    ),
    "checkpoint_every": ("steps between two checkpoints", POSITIVE),
    "keep": ("newest checkpoints that are kept, beside the best", POSITIVE),
    "log_every": ("steps between two lines of metrics.jsonl", POSITIVE),
}


def shared(name: str, default, meaning: str = "") -> Any:
    """A setting of the optimiser, with one meaning and one bound in all groups.

    Args:
      name: a key of the table above.
      default: the group's default.
      meaning: replaces the common meaning where groups differ in it.

    Returns:
      A dataclass field, as `setting` makes it.
    """
    common, bound = _SHARED[name]
    return setting(default, meaning or common, bound)


def check_bounds(group, where: str) -> None:
    """Check every setting of a group against its bound, groups within it included.

    Args:
      group: a dataclass of settings.
      where: its name, as `config.task`.

    Raises:
      UserError: the first value out of bounds.
    """
    for field in dataclasses.fields(group):
        value, name = getattr(group, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            check_bounds(value, name)
        elif bound := field.metadata.get("bound"):
            bound.check(name, value)
