"""What a reward term is: one function from a batch to a number for each row or for each token."""

import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from fr.config import PLACEMENTS, RewardsConfig
from fr.errors import UserError
from fr.registry import Registry
from fr.tasks.forced_answers import SETS
from fr.types import RewardBatch

TERMS = Registry("reward term")

Values = Float[np.ndarray, "B"] | Float[np.ndarray, "B T"]
Function = Callable[[RewardBatch, RewardsConfig], Values]


@dataclasses.dataclass(frozen=True)
class Term:
    """A reward term and what it declares; more is better: a penalty is negative and weights never are."""

    name: str
    fn: Function
    needs_gold: bool  # sees `batch.truth`, the problems' answers and their meta
    needs_confidence: (
        str  # "own" or "gold": the set of answers whose trajectory it reads; "": none
    )
    needs_logp: (
        bool  # reads log-probs of answers, which sampled confidence does not give
    )
    from_stats: bool  # made of the model's own token statistics
    needs_model: bool  # reads what the reward model of `config.rewards.model` says
    placement: str  # one of fr.config.PLACEMENTS

    @property
    def of_confidence(self) -> bool:
        """Whether it is made of the model's confidence, probed or read from its tokens, and not of what it did."""
        return self.from_stats or bool(self.needs_confidence)


def term(
    name: str,
    *,
    needs_gold: bool = False,
    needs_confidence: str = "",
    needs_logp: bool = False,
    from_stats: bool = False,
    needs_model: bool = False,
    placement: str = "reward",
) -> Callable[[Function], Function]:
    """Decorator that files `fn(batch, config) -> [B] or [B, T]` as a term; see `Term` for what it declares.

    In a list, None for a row leaves the row out of this term: it counts with the mean of its group's others.

    Raises UserError if a declaration is not one of those, ValueError if the name is taken.
    """
    for field, value, known in (
        ("needs_confidence", needs_confidence, ("", *SETS)),
        ("placement", placement, PLACEMENTS),
    ):
        if value not in known:
            raise UserError(
                f"reward term {name!r}: {field} = {value!r} must be one of {', '.join(map(repr, known))}"
            )
    if needs_confidence == "gold" and not needs_gold:
        raise UserError(
            f"reward term {name!r} reads confidence in the gold answers: declare needs_gold=True too"
        )

    def add(fn: Function) -> Function:
        entry = Term(
            name,
            fn,
            needs_gold,
            needs_confidence,
            needs_logp,
            from_stats,
            needs_model,
            placement,
        )
        TERMS.register(name)(entry)
        return fn

    return add


def token_mean(
    values: Float[np.ndarray, "B T"], where: Bool[np.ndarray, "B T"]
) -> Float[np.ndarray, "B"]:
    """Mean of each row over the tokens that `where` marks; 0 for a row without any."""
    total = np.where(where, values, 0.0).sum(axis=1, dtype=np.float64)
    return total / np.maximum(where.sum(axis=1), 1)


def fault(error: Exception, file: str) -> str:
    """An exception in one line, with the place in `file` that it came through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    text = " ".join(str(error).split())
    # A file that cannot be parsed has no frame of its own.
    if isinstance(error, SyntaxError) and error.filename == file:
        lines, text = [error.lineno], error.msg
    return f"{Path(file).name}:{(lines or ['?'])[-1]}: {type(error).__name__}: {text}"
