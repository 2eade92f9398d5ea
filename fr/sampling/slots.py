"""A row in flight on the host: what it has emitted, what it still waits for, and how it leaves as a rollout."""

import dataclasses

import numpy as np
from jaxtyping import Float

from fr.errors import UserError
from fr.sampling import rows, steering
from fr.types import Rollout, Row

# The fields of an emission that are not statistics; float32 like these, for one fetch a chunk.
FLAGS = ("token", "valid", "forced", "fired", "sample_logp")


@dataclasses.dataclass
class Slot:
    """A row in flight: pieces of its emissions, one a chunk, and the parameters that it runs under."""

    row: Row
    forced: tuple[int, ...]  # what waits in its forced queue
    length: int  # cache entries that it has written
    tokens: list[int] = dataclasses.field(default_factory=list)
    pieces: list[np.ndarray] = dataclasses.field(default_factory=list)  # [F, n] each
    decoded: int = 0
    rewinds: int = 0

    @property
    def need(self) -> int:
        """Cache entries that the row may come to write in all."""
        return len(self.row.prompt) - 1 + rows.value(self.row, "budget")

    def collect(self, block: Float[np.ndarray, "F steps"]) -> None:
        """Append what the row emitted in a chunk: it is live for the first steps of it, then no more."""
        count = int(block[FLAGS.index("valid")].sum())
        if count:
            piece = block[:, :count].copy()
            self.pieces.append(piece)
            self.tokens += piece[FLAGS.index("token")].astype(int).tolist()
            self.decoded += count
            self.forced = self.forced[int(piece[FLAGS.index("forced")].sum()) :]

    def values(self) -> Float[np.ndarray, "F T"]:
        """What its tokens came with, so far."""
        return np.concatenate(self.pieces, axis=1)

    def rewind(self, cut: int) -> None:
        """Forget all but the first `cut` tokens, and what waited to be forced behind them."""
        self.rewinds += cut < len(self.tokens)
        self.pieces, self.tokens, self.forced = (
            [self.values()[:, :cut]],
            self.tokens[:cut],
            (),
        )

    def memory(self) -> tuple[bool, int, int]:
        """What the loop remembers behind the tokens that are left: fired, still hot, age of the thought."""
        fires = np.flatnonzero(self.values()[FLAGS.index("fired")])
        hot = 0
        if len(fires) and rows.value(self.row, "operator") == steering.HEAT:
            hot = max(
                0,
                rows.value(self.row, "local_span") - (len(self.tokens) - 1 - fires[-1]),
            )
        switches = np.flatnonzero(
            np.isin(self.tokens, self.row.params.get("switch_tokens", ()))
        )
        last = switches[-1] if len(switches) else -1
        return bool(len(fires)), hot, len(self.tokens) - 1 - last

    def rollout(self, statistics: tuple[str, ...]) -> Rollout:
        """The finished row; `statistics` names the fields behind the flags.

        Raises UserError, with the row's name and the token, where logits were no numbers.
        """
        table = self.values()
        if len(broken := np.flatnonzero(np.isnan(table).any(axis=0))):
            raise UserError(
                f"row {self.row.id}: logits are not finite at token {broken[0]} of its completion, after a prompt of "
                f"{len(self.row.prompt)} tokens; check the weights of the model (and its ancestor) for NaN, or "
                "compute in float32"
            )
        values = dict(zip((*FLAGS, *statistics), table))
        tokens = values["token"].astype(np.int32)
        return Rollout(
            row=self.row,
            tokens=tokens,
            forced=values["forced"].astype(bool),
            fired=values["fired"].astype(bool),
            sample_logp=values["sample_logp"],
            stats={name: values[name] for name in statistics},
            truncated=not (
                len(tokens) and int(tokens[-1]) in self.row.params.get("stop", ())
            ),
            generated=self.decoded,
        )
