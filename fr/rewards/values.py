"""The values of one term: what it may see of a batch, and whether what it gives are numbers of the right shape."""

import dataclasses
import sys

import numpy as np

from fr.config import RewardsConfig
from fr.errors import UserError
from fr.rewards.base import Term, Values, fault
from fr.types import RewardBatch

_LARGEST = np.finfo(np.float32).max


def withhold(batch: RewardBatch) -> RewardBatch:
    """The batch without anything that a reference answer gave or that may hold one."""
    blank = [
        dataclasses.replace(problem, answer="", meta={}) for problem in batch.problems
    ]
    return dataclasses.replace(batch, truth=None, problems=tuple(blank))


def values_of(entry: Term, batch: RewardBatch, config: RewardsConfig) -> Values:
    """What a term gives for a batch as float64, 0 off sampled tokens; NaN in rows that it leaves out with None.

    Raises UserError that names the term and the row, if it fails or gives another shape, NaN or infinity; ValueError
    if the batch lacks what the term declares that it reads.
    """
    measured = {"own": batch.own, "gold": batch.truth and batch.truth.confidence}
    if entry.needs_confidence and measured[entry.needs_confidence] is None:
        raise ValueError(
            f"{entry.name}: the batch has no confidence in {entry.needs_confidence} answers"
        )
    if entry.needs_model and batch.judged is None:
        raise ValueError(f"{entry.name}: no reward model has read the batch")
    try:
        given = entry.fn(batch, config)
    except Exception as error:
        raise UserError(
            f"reward term {entry.name!r} failed: {_why(entry, error)}"
        ) from error
    given, skipped = _without_none(given)
    values = _shaped(entry.name, given, batch)
    if values.ndim == 2:
        values = np.where(batch.mask, values, 0.0)
    bad = np.argwhere(~(np.abs(values) <= _LARGEST))
    if len(bad):
        row, *token = bad[0].tolist()
        at = f", token {token[0]}" if token else ""
        found = f"{values[tuple(bad[0])]} for {_row(batch, row)}{at}"
        raise UserError(
            f"reward term {entry.name!r} gave {found}: it must be a finite float32, or None to leave the row out"
        )
    values[skipped] = np.nan
    return values


def _without_none(given) -> tuple[object, list[int]]:
    """What a term gave, with 0 in rows of None, and these rows."""
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
    except ValueError:  # no numbers of one shape: `_shaped` says so
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
    return fault(error, sys.modules[entry.fn.__module__].__file__) + hint


def _shaped(name: str, given, batch: RewardBatch) -> Values:
    """The given values as an array of shape [B] or [B, T]; raises UserError that names the first row at fault."""
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
            f"reward term {name!r} gave shape {values.shape}: {wanted}; see {_row(batch, row)}"
        )
    return values


def _odd_row(given) -> int:
    """The first row whose value is no number, or of another shape than those before it."""
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
