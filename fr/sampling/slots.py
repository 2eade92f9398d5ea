"""Rows in flight as the host knows them, and the edits that work sources ask for."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fr.errors import UserError
from fr.sampling import sampling_params, steering
from fr.sampling.sources import PauseAction, WorkSource
from fr.sampling.state import Edit
from fr.types import Request, Rollout

# Fields of a StepOutput that are not statistics. They travel as float32 in the same
# block, so that the host fetches once per chunk.
FLAGS = ("token", "valid", "forced", "fired", "sample_logp")


@dataclasses.dataclass
class Slot:
    """A row in flight, as the host knows it."""

    row: Request  # what it was asked
    forced: tuple[int, ...]  # token ids left in its forced queue
    length: int  # cache entries that it has written
    tokens: list[int] = dataclasses.field(default_factory=list)  # emitted so far
    pieces: list[np.ndarray] = dataclasses.field(default_factory=list)  # [F, n] each
    decoded: int = 0  # tokens decoded, rewound ones included
    rewinds: int = 0  # cuts that dropped tokens

    @property
    def need(self) -> int:
        """Cache entries that the row can write in all."""
        return len(self.row.prompt) - 1 + sampling_params.param(self.row, "budget")

    def collect(self, block: Float[np.ndarray, "F steps"]) -> None:
        """Append what the row emitted in a chunk.

        Args:
            block: Fields of `StepOutput` per step. A row is live for the first steps of
                a chunk, then no more.
        """
        count = int(block[FLAGS.index("valid")].sum())
        if count:
            piece = block[:, :count].copy()
            self.pieces.append(piece)
            self.tokens += piece[FLAGS.index("token")].astype(int).tolist()
            self.decoded += count
            self.forced = self.forced[int(piece[FLAGS.index("forced")].sum()) :]

    def values(self) -> Float[np.ndarray, "F T"]:
        """All fields of its tokens so far."""
        return np.concatenate(self.pieces, axis=1)

    def rewind(self, cut: int) -> None:
        """Drop all but the first tokens, and the forced queue.

        Args:
            cut: Number of tokens to keep.
        """
        self.rewinds += cut < len(self.tokens)
        self.pieces = [self.values()[:, :cut]]
        self.tokens, self.forced = self.tokens[:cut], ()

    def memory(self) -> tuple[bool, int, int]:
        """`fired`, `heat_left` and `tokens_since_switch` after the tokens it has."""
        fires = np.flatnonzero(self.values()[FLAGS.index("fired")])
        heat_left = 0
        if len(fires) and sampling_params.param(self.row, "operator") == steering.HEAT:
            span = sampling_params.param(self.row, "local_span")
            heat_left = max(0, span - (len(self.tokens) - 1 - int(fires[-1])))
        switches = np.flatnonzero(
            np.isin(self.tokens, self.row.params.get("switch_tokens", ()))
        )
        last = int(switches[-1]) if len(switches) else -1
        return bool(len(fires)), heat_left, len(self.tokens) - 1 - last

    def rollout(self, statistics: tuple[str, ...], keep_top: int = 0) -> Rollout:
        """The finished row.

        Args:
            statistics: Names of the fields after `FLAGS`.
            keep_top: Number of most probable tokens, whose ids and then log-probs
                follow.

        Returns:
            The rollout, without confidence.

        Raises:
            UserError: A log-prob or a statistic is NaN.
        """
        table = self.values()
        if len(broken := np.flatnonzero(np.isnan(table).any(axis=0))):
            raise UserError(
                f"row {self.row.id}: logits are not finite at token {broken[0]} of its "
                f"completion, after a prompt of {len(self.row.prompt)} tokens; check "
                "the weights of the model (and its ancestor) for NaN, or compute in "
                "float32"
            )
        values = dict(zip((*FLAGS, *statistics), table))
        tokens = values["token"].astype(np.int32)
        ids, logp = table[len(values) :].reshape(2, keep_top, len(tokens))
        stop = _stop(self.row)
        return Rollout(
            row=self.row,
            tokens=tokens,
            forced=values["forced"].astype(bool),
            fired=values["fired"].astype(bool),
            sample_logp=values["sample_logp"],
            stats={name: values[name] for name in statistics},
            top_tokens=ids.T.astype(np.int32) if keep_top else None,
            top_logp=logp.T if keep_top else None,
            truncated=not (len(tokens) and int(tokens[-1]) in stop),
            generated=self.decoded,
        )


def _stop(row: Request) -> tuple[int, ...]:
    return row.params.get("stop", ())


def edit_paused(
    source: WorkSource, slots: Sequence[Slot | None], paused: list[int]
) -> Edit:
    """Ask the work source about every paused row; the slots change with the answers.

    Args:
        source: The work source.
        slots: All slots of the batch, [D * B].
        paused: Indices of the slots that wait.

    Returns:
        The edit, [D * B].

    Raises:
        ValueError: A cut beyond the end of a row, or a forced queue that does not fit.
    """
    total = len(slots)
    arrays: dict[str, Any] = {
        "mask": np.zeros(total, bool),
        "done": np.zeros(total, bool),
        "last_token": np.zeros(total, np.int32),
        "length": np.zeros(total, np.int32),
        "generated": np.zeros(total, np.int32),
        "fired": np.zeros(total, bool),
        "heat_left": np.zeros(total, np.int32),
        "tokens_since_switch": np.zeros(total, np.int32),
        "key": np.zeros((total, 2), np.uint32),
        "forced": np.full((total, sampling_params.WIDTHS["forced"]), -1, np.int32),
    }
    for i in paused:
        slot = slots[i]
        assert slot is not None
        action = source.on_pause(slot.row, np.array(slot.tokens))
        for name, value in _edit(slot, action).items():
            arrays[name][i] = value
    return Edit(**arrays)


def _edit(slot: Slot, action: PauseAction) -> dict[str, Any]:
    """Fields of an `Edit` for one row; changes its slot."""
    row = slot.row
    if action.cut is not None:
        if not 0 <= action.cut <= len(slot.tokens):
            raise ValueError(
                f"row {row.id}: cannot keep {action.cut} of {len(slot.tokens)} tokens"
            )
        slot.rewind(action.cut)
    # A stop token at which the row was paused ends it, unless the source goes on.
    goes_on = action.cut is not None or bool(action.forced)
    stopped = not goes_on and any(token in _stop(row) for token in slot.tokens[-1:])
    slot.forced = (*action.forced, *slot.forced)
    sequence = [*row.prompt, *slot.tokens]
    slot.length = len(sequence) - 1
    fired, heat_left, tokens_since_switch = slot.memory()
    # After a rewind the same token indices are drawn again and must not repeat their
    # draws.
    rekey = lambda: sampling_params.row_key(slot.rewinds, *row.key)
    return {
        "mask": True,
        "done": action.finish or stopped,
        "last_token": sequence[-1],
        "length": slot.length,
        "generated": len(slot.tokens),
        "fired": fired,
        "heat_left": heat_left,
        "tokens_since_switch": tokens_since_switch,
        "key": rekey() if slot.rewinds else row.key,
        "forced": sampling_params.pad_tokens(slot.forced, "forced", row.id),
    }
