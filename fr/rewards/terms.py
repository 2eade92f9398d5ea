"""The registry of reward terms: functions from a batch to a number per row or token."""

import dataclasses
import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from fr.config import PLACEMENTS, RewardsConfig
from fr.errors import UserError, describe_error
from fr.registry import Registry
from fr.tasks.formats import ANSWER_SETS
from fr.types import RewardBatch

TERMS = Registry("reward term")

Values = Float[np.ndarray, "B"] | Float[np.ndarray, "B T"]
Function = Callable[[RewardBatch, RewardsConfig], Values | list[float | None]]
_F = TypeVar("_F", bound=Function)


@dataclasses.dataclass(frozen=True)
class Term:
    """A reward term and its declarations; see `register_term`.

    Attributes:
        name: Name in `config.rewards.terms`.
        fn: (batch, config) -> values.
        needs_gold: It reads `batch.truth`, or answers and meta of problems.
        needs_confidence: Set of answers whose confidence it reads: "own", "gold", or
            "".
        needs_logp: It reads log-probs of answers, which sampled confidence does not
            give.
        from_stats: It is made of the model's own token statistics.
        needs_model: It reads the rewards of the model in `config.rewards.model`.
        placement: Default destination, one of `fr.config.PLACEMENTS`.
    """

    name: str
    fn: Function
    needs_gold: bool
    needs_confidence: str
    needs_logp: bool
    from_stats: bool
    needs_model: bool
    placement: str

    @property
    def of_confidence(self) -> bool:
        """True if it is made of confidence, probed or read from token statistics."""
        return self.from_stats or bool(self.needs_confidence)


def register_term(
    name: str,
    *,
    needs_gold: bool = False,
    needs_confidence: str = "",
    needs_logp: bool = False,
    from_stats: bool = False,
    needs_model: bool = False,
    placement: str = "reward",
) -> Callable[[_F], _F]:
    """Decorator that registers a reward term, `fn(batch, config) -> values`.

    `batch` (`fr.types.RewardBatch`) holds finished rollouts as numpy arrays: `tokens`,
    `mask`, `stats` [B, T], `length`, `truncated` [B], `answer` [B, 2], `texts`,
    `problems`; the `group` rows of a problem are consecutive. `config` is
    `config.rewards`. Values are [B], one per row, or [B, T], one per token; tokens that
    were not sampled are ignored. More is better: a penalty is negative, and weights are
    never negative. Values must be finite; in a list, None leaves a row out, which then
    counts with its group's mean.

        @register_term("brief")
        def brief(batch, config):
            return -batch.length / 100

    Args:
        name: Name in `config.rewards.terms`.
        needs_gold: The term sees `batch.truth`, answers and meta; else they are
            withheld.
        needs_confidence: "own" or "gold": it reads `batch.own` or
            `batch.truth.confidence`.
        needs_logp: It reads log-probs of answers (`mean_logp`).
        from_stats: It is made of the model's own token statistics.
        needs_model: It reads `batch.judged`, the rewards of `config.rewards.model`.
        placement: Default destination: "reward", "advantage" or "advantage_centred".

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        UserError: A declaration has an unknown value.
        ValueError: The name is taken.
    """
    for field, value, known in (
        ("needs_confidence", needs_confidence, ("", *ANSWER_SETS)),
        ("placement", placement, PLACEMENTS),
    ):
        if value not in known:
            raise UserError(
                f"reward term {name!r}: {field} = {value!r} must be one of "
                f"{', '.join(map(repr, known))}"
            )
    if needs_confidence == "gold" and not needs_gold:
        raise UserError(
            f"reward term {name!r} reads confidence in the gold answers: declare "
            "needs_gold=True too"
        )

    def add(fn: _F) -> _F:
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
    """Mean of each row over marked tokens; 0 for a row without any.

    Args:
        values: Values per token.
        where: Marked tokens.

    Returns:
        Means, float64.
    """
    total = np.where(where, values, 0.0).sum(axis=1, dtype=np.float64)
    return total / np.maximum(where.sum(axis=1), 1)


_LARGEST = np.finfo(np.float32).max


def without_gold(batch: RewardBatch) -> RewardBatch:
    """The batch without all that reference answers gave or that may hold one.

    Args:
        batch: A batch.

    Returns:
        A copy without `truth`, and whose problems have no answer and no meta.
    """
    blank = [
        dataclasses.replace(problem, answer="", meta={}) for problem in batch.problems
    ]
    return dataclasses.replace(batch, truth=None, problems=tuple(blank))


def values_of(entry: Term, batch: RewardBatch, config: RewardsConfig) -> Values:
    """Values of a term for a batch.

    Args:
        entry: The term.
        batch: Finished rollouts.
        config: Settings of rewards.

    Returns:
        float64; 0 at tokens that were not sampled, NaN in rows that the term leaves
        out.

    Raises:
        UserError: The term fails, or gives a wrong shape, NaN or infinity; the message
            names the term and the row.
        ValueError: The batch lacks what the term declares to read.
    """
    measured = {"own": batch.own, "gold": batch.truth and batch.truth.confidence}
    if entry.needs_confidence and measured[entry.needs_confidence] is None:
        raise ValueError(
            f"{entry.name}: the batch has no confidence in {entry.needs_confidence} "
            "answers"
        )
    if entry.needs_model and batch.judged is None:
        raise ValueError(f"{entry.name}: no reward model has read the batch")
    try:
        returned = entry.fn(batch, config)
    except Exception as error:
        raise UserError(
            f"reward term {entry.name!r} failed: {_why(entry, error)}"
        ) from error
    given, skipped = _without_none(returned)
    values = _shaped(entry.name, given, batch)
    if values.ndim == 2:
        values = np.where(batch.mask, values, 0.0)
    bad = np.argwhere(~(np.abs(values) <= _LARGEST))
    if len(bad):
        row, *token = bad[0].tolist()
        at = f", token {token[0]}" if token else ""
        found = f"{values[tuple(bad[0])]} for {_row(batch, row)}{at}"
        raise UserError(
            f"reward term {entry.name!r} gave {found}: it must be a finite float32, or "
            "None to leave the row out"
        )
    values[skipped] = np.nan
    return values


def _without_none(given) -> tuple[object, list[int]]:
    """The values of a term with 0 in rows of None, and the indices of these rows."""
    objects = isinstance(given, np.ndarray) and given.ndim and given.dtype.kind == "O"
    if not objects and not isinstance(given, (list, tuple)):
        return given, []
    rows = list(given)
    skipped = [row for row, value in enumerate(rows) if value is None]
    if not skipped:
        return given, []
    like = next((value for value in rows if value is not None), 0.0)
    try:
        zero = np.zeros(np.shape(like))
    except ValueError:  # shapes differ: `_shaped` raises
        return given, []
    return [zero if value is None else value for value in rows], skipped


def _why(entry: Term, error: Exception) -> str:
    asks = (
        not entry.needs_gold
        and isinstance(error, AttributeError)
        and "NoneType" in str(error)
    )
    hint = (
        "; batch.truth is None unless the term declares needs_gold=True" if asks else ""
    )
    return describe_error(error, str(sys.modules[entry.fn.__module__].__file__)) + hint


def _shaped(name: str, given, batch: RewardBatch) -> Values:
    """The values as an array [B] or [B, T]; UserError names the first faulty row."""
    rows, tokens = batch.tokens.shape
    wanted = f"shape ({rows},) or ({rows}, {tokens}) is wanted"
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        odd = f"no numbers of one shape: {wanted}; see {_row(batch, _odd_row(given))}"
        raise UserError(f"reward term {name!r} gave {odd}") from None
    if values.shape not in ((rows,), (rows, tokens)):
        # The first row that has no value; where there are enough, all have a wrong one.
        row = len(values) if values.ndim and len(values) < rows else 0
        raise UserError(
            f"reward term {name!r} gave shape {values.shape}: {wanted}; see "
            f"{_row(batch, row)}"
        )
    return values


def _odd_row(given) -> int:
    """The first row whose value is not a number, or has another shape than before."""
    first = None
    for row, value in enumerate(
        given if isinstance(given, (list, tuple, np.ndarray)) else ()
    ):
        try:
            shape = np.asarray(value, np.float64).shape
        except (TypeError, ValueError):
            return row
        first = shape if row == 0 else first
        if shape != first:
            return row
    return 0


def _row(batch: RewardBatch, row: int) -> str:
    return f"row {row} (problem {batch.problems[row].id})"
