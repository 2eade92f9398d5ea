"""The one scorer: statistics of given tokens under one model or two, with the LM head in pieces."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fr.models.transformer import Transformer
from fr.sampling import stats
from fr.sampling.decode import Models
from fr.sampling.devices import Devices
from fr.types import TokenScores

PIECE = 256  # tokens whose logits exist at one time: memory is PIECE * V, whatever B * T is


def score_tokens(
    model: Transformer,
    ancestor: Transformer | None,
    params: Models,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    tau: Float[Array, ""],
) -> TokenScores:
    """Statistics [B, T] of tokens [start, end) of each row, given all tokens before each.

    Rows are padded on the right with -1. Column t speaks of token t, read from the logits at t - 1; columns
    outside [start, end) are 0 and masked. Raises nothing; rows of pads come out masked.
    """
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    hidden = lambda m, p: m.apply({"params": p}, tokens, positions, method="hidden")[0][:, :-1]
    states = [hidden(model, params.specialist)]
    if ancestor is not None:
        states.append(hidden(ancestor, params.ancestor))
    targets = tokens[:, 1:].reshape(-1)
    pieces = [_pieces(s.reshape(-1, s.shape[-1])) for s in states]

    def piece(args):
        target, state, *second = args
        logits = model.apply({"params": params.specialist}, state, method="head")
        moments = stats.token_stats(logits, target, tau)
        if ancestor is None:
            return moments, None
        other = ancestor.apply({"params": params.ancestor}, second[0], method="head")
        return moments, stats.lineage_stats(logits, other, target, tau)

    moments, lineage = jax.lax.map(piece, (_pieces(targets), *pieces))
    columns = jnp.arange(tokens.shape[1])
    mask = (columns >= jnp.maximum(start, 1)[:, None]) & (tokens >= 0)

    def unfold(x):
        whole = x.reshape(-1)[: targets.size].reshape(tokens.shape[0], -1)
        return jnp.where(mask, jnp.pad(whole, ((0, 0), (1, 0))), 0.0)

    return TokenScores(mask=mask, stats=jax.tree.map(unfold, moments), lineage=jax.tree.map(unfold, lineage))


def _pieces(x: Float[Array, "N ..."]) -> Float[Array, "M P ..."]:
    return jnp.pad(x, ((0, -x.shape[0] % PIECE),) + ((0, 0),) * (x.ndim - 1)).reshape(-1, PIECE, *x.shape[1:])


class Scorer:
    """Scores sequences of any length on the local devices: `rows` a device at a time, lengths in buckets of 64."""

    def __init__(
        self,
        model: Transformer,
        params: dict,
        *,
        ancestor: Transformer | None = None,
        ancestor_params: dict | None = None,
        rows: int = 16,
        tau: float = 0.6,
        devices: Devices | None = None,
    ):
        self.devices = devices or Devices()
        self._rows = rows * self.devices.count
        self._tau = np.full(self.devices.count, tau, np.float32)
        self._params = self.devices.replicate(Models(params, ancestor_params))
        self._score = self.devices.wrap(lambda *args: score_tokens(model, ancestor, *args))

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        progress: Callable[[int], object] = lambda count: None,
    ) -> list[dict[str, Float[np.ndarray, "T"]]]:
        """For each sequence, every statistic of its tokens from its start on, as arrays by name."""
        # One bucket for all of a call: scores then do not depend on how sequences are grouped.
        size = -(-max(map(len, sequences), default=1) // 64) * 64
        out = []
        for i in range(0, len(sequences), self._rows):
            part, begin = sequences[i : i + self._rows], starts[i : i + self._rows]
            tokens = np.full((self._rows, size), -1, np.int32)
            start = np.ones(self._rows, np.int32)
            for b, (sequence, first) in enumerate(zip(part, begin)):
                tokens[b, : len(sequence)] = sequence
                start[b] = first
            scores = jax.device_get(self._score(self._params, *self.devices.split((tokens, start)), self._tau))
            columns = {**vars(scores.stats), **(vars(scores.lineage) if scores.lineage is not None else {})}
            columns = {name: value.reshape(self._rows, size) for name, value in columns.items()}
            out += [
                {name: value[b, first : len(sequence)] for name, value in columns.items()}
                for b, (sequence, first) in enumerate(zip(part, begin))
            ]
            progress(len(part))
        return out
