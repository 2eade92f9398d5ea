"""The one scorer: statistics of given tokens under one model or two, with the LM head in pieces."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fr.models.transformer import Transformer
from fr.sampling import stats
from fr.sampling.batch import Models
from fr.sampling.devices import Devices
from fr.types import TokenScores

PIECE = 256  # tokens whose logits exist at one time: memory is PIECE * V, whatever B * T is


def score_tokens(
    model: Transformer,
    ancestor: Transformer | None,
    width: int,
    params: Models,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    tau: Float[Array, ""],
) -> TokenScores:
    """Statistics [B, width] of the tokens of each row from `start` on, given all tokens before each.

    Rows are padded on the right with -1; 1 <= start. Column i speaks of token start + i; columns behind the row's
    end are 0 and masked. Prompts cost a forward pass but no logits.
    """
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    columns = start[:, None] + jnp.arange(width)
    targets = jnp.take_along_axis(tokens, columns, axis=1, mode="fill", fill_value=-1)

    def states(m: Transformer, p: dict):
        hidden, _ = m.apply({"params": p}, tokens, positions, method="hidden")
        # Token t is read from the state at t - 1.
        window = jnp.take_along_axis(hidden, columns[:, :, None] - 1, axis=1, mode="clip")
        return _pieces(window.reshape(-1, window.shape[-1]))

    both = [states(model, params.specialist)]
    if ancestor is not None:
        both.append(states(ancestor, params.ancestor))

    def piece(args):
        target, state, *second = args
        logits = model.apply({"params": params.specialist}, state, method="head")
        reading = stats.read(logits, tau)
        moments = stats.token_stats(reading, target)
        if ancestor is None:
            return moments, None
        other = ancestor.apply({"params": params.ancestor}, second[0], method="head")
        return moments, stats.lineage_stats(reading, stats.read(other, tau, stats.ANCESTOR_TOP), target)

    moments, lineage = jax.lax.map(piece, (_pieces(targets.reshape(-1)), *both))
    unfold = lambda x: jnp.where(targets >= 0, x.reshape(-1)[: targets.size].reshape(targets.shape), 0.0)
    return TokenScores(
        mask=targets >= 0, stats=jax.tree.map(unfold, moments), lineage=jax.tree.map(unfold, lineage)
    )


def _pieces(x: Float[Array, "N ..."]) -> Float[Array, "M P ..."]:
    return jnp.pad(x, ((0, -x.shape[0] % PIECE),) + ((0, 0),) * (x.ndim - 1)).reshape(-1, PIECE, *x.shape[1:])


class Scorer:
    """Scores sequences of any length on the local devices: `rows` a device at a time, lengths in buckets of 32."""

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
        # One compiled function a width: `width` is a shape, so it cannot be traced.
        self._score = functools.cache(
            lambda width: self.devices.wrap(lambda *args: score_tokens(model, ancestor, width, *args))
        )

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        progress: Callable[[int], object] = lambda count: None,
    ) -> list[dict[str, Float[np.ndarray, "T"]]]:
        """For each sequence, every statistic of its tokens from its start on, as arrays by name.

        Raises ValueError for a start outside [1, len(sequence)].
        """
        if any(not 1 <= first <= len(sequence) for sequence, first in zip(sequences, starts)):
            raise ValueError(
                "a sequence is scored from its second token at the earliest, from its end at the latest"
            )
        # One bucket for all of a call: scores then do not depend on how sequences are grouped.
        size = _bucket(max(map(len, sequences), default=1))
        width = _bucket(max((len(sequence) - first for sequence, first in zip(sequences, starts)), default=1))
        out = []
        for i in range(0, len(sequences), self._rows):
            part, begin = sequences[i : i + self._rows], starts[i : i + self._rows]
            tokens = np.full((self._rows, size), -1, np.int32)
            start = np.ones(self._rows, np.int32)
            for b, (sequence, first) in enumerate(zip(part, begin)):
                tokens[b, : len(sequence)] = sequence
                start[b] = first
            scores = self._score(width)(self._params, *self.devices.split((tokens, start)), self._tau)
            scores = jax.device_get(scores)
            columns = {**vars(scores.stats), **(vars(scores.lineage) if scores.lineage is not None else {})}
            columns = {name: value.reshape(self._rows, width) for name, value in columns.items()}
            out += [
                {name: value[b, : len(sequence) - first] for name, value in columns.items()}
                for b, (sequence, first) in enumerate(zip(part, begin))
            ]
            progress(len(part))
        return out


def _bucket(length: int) -> int:
    return -(-length // 32) * 32
