"""The one scorer: statistics of given tokens under one model or two, with the LM head in pieces."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fr import distributed
from fr.errors import UserError
from fr.models.model import check_ids
from fr.models.transformer import Transformer
from fr.sampling import token_stats as stats
from fr.sampling.chunked_lm_head import by_pieces, token_reading
from fr.sampling.devices import Devices
from fr.sampling.state import Models
from fr.sampling.structs import TokenScores

SCORES = (
    2**26
)  # attention scores of a layer, 256 MiB in float32: of long rows fewer are scored at a time


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
    targets, states = window(model, {"params": params.specialist}, tokens, start, width)
    arrays, vocab = [targets.reshape(-1), states], model.config.vocab
    if ancestor is not None:
        arrays.append(
            window(ancestor, {"params": params.ancestor}, tokens, start, width)[1]
        )
        vocab += ancestor.config.vocab

    def read(target, state, *second):
        logits = model.apply({"params": params.specialist}, state, method="head")
        reading = stats.read(logits, tau)
        moments = stats.token_stats(reading, target)
        if ancestor is None:
            return moments, None
        other = ancestor.apply({"params": params.ancestor}, second[0], method="head")
        other = stats.defer(logits, other, tau, ancestor.config.masked)
        return moments, stats.lineage_stats(
            reading, stats.read(other, tau, stats.ANCESTOR_TOP), target
        )

    moments, lineage = by_pieces(read, vocab, arrays)
    unfold = lambda x: jnp.where(targets >= 0, x.reshape(targets.shape), 0.0)
    return TokenScores(
        mask=targets >= 0,
        stats=jax.tree.map(unfold, moments),
        lineage=jax.tree.map(unfold, lineage),
    )


def token_logps(
    model: Transformer,
    variables: dict,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    width: int,
    temperature: float = 1.0,
    shards: int = 1,
    group: int = 1,
) -> tuple[Float[Array, "B W"], Float[Array, "B W"]]:
    """Log-prob at `temperature`, and raw entropy, of the tokens of each row from `start` on: the scorer of losses.

    `variables` hold "params" and whatever else the model reads. Has a gradient, of which logits cost a piece of
    memory too; `shards` is the number of devices that the rows are spread over. Of every `group` rows in turn the
    prompt is read once: it must be the same, and of at most T - W tokens.
    """
    read_rows = functools.partial(_shared_window, group=group) if group > 1 else window
    targets, states = read_rows(model, variables, tokens, start, width)

    def read(target, state):
        return token_reading(
            model.apply(variables, state, method="head"), target, temperature
        )

    both = by_pieces(read, model.config.vocab, (targets.reshape(-1), states), shards)
    return jax.tree.map(
        lambda x: jnp.where(targets >= 0, x.reshape(targets.shape), 0.0), both
    )


def window(
    model: Transformer,
    variables: dict,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    width: int,
) -> tuple[Int[Array, "B W"], Float[Array, "N D"]]:
    """The `width` tokens of each row from `start` on (-1 behind its end), and the states that predict them."""
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    columns = start[:, None] + jnp.arange(width)
    targets = _take(tokens, columns, mode="fill", fill_value=-1)
    hidden, _ = model.apply(variables, tokens, positions, method="hidden")
    # Token t is read from the state at t - 1.
    states = _take(hidden, columns - 1, mode="clip")
    return targets, states.reshape(-1, states.shape[-1])


def _shared_window(
    model: Transformer,
    variables: dict,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    width: int,
    group: int,
) -> tuple[Int[Array, "B W"], Float[Array, "N D"]]:
    """As `window`, with the completions of each `group` rows side by side behind one copy of their prompt.

    Two rows, a prompt of two tokens in a room of three, completions of two and one in a width of two:

    tokens     5 6 -1   7 8   9 -1
    positions  0 1 -1   2 3   2 -1
    segments  -1 -1 -1  0 0   1  1     a negative one is seen by all
    """
    room, first, side = (
        tokens.shape[1] - width,
        start[::group, None],
        jnp.arange(group * width),
    )
    columns = start[:, None] + jnp.arange(width)
    targets = _take(tokens, columns, mode="fill", fill_value=-1)
    fold = lambda x: x.reshape(-1, group * width)
    prompts = jnp.where(jnp.arange(room) < first, tokens[::group, :room], -1)
    packed = jnp.concatenate([prompts, fold(targets)], axis=1)
    positions = jnp.concatenate(
        [jnp.zeros_like(prompts) + jnp.arange(room), fold(columns)], axis=1
    )
    segments = jnp.concatenate([jnp.full(room, -1), side // width]) + jnp.zeros_like(
        packed
    )
    hidden, _ = model.apply(
        variables,
        packed,
        jnp.where(packed >= 0, positions, -1),
        segments=segments,
        method="hidden",
    )
    # The first token of every completion is read from the one state at the prompt's end.
    states = _take(hidden, jnp.where(side % width == 0, first - 1, room + side - 1))
    return targets, states.reshape(-1, states.shape[-1])


def _take(
    x: Float[Array, "B T ..."], at: Int[Array, "B W"], **how
) -> Float[Array, "B W ..."]:
    return jax.vmap(lambda row, index: row.at[index].get(**how))(x, at)


class Scorer:
    """Scores sequences on the local devices: up to `rows` a device at a time, lengths in buckets of 32."""

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
        self._most = rows
        self._heads = max(m.config.heads for m in (model, ancestor) if m is not None)
        self._tau = np.full(self.devices.count, tau, np.float32)
        self._vocab = model.config.vocab
        self._params = self.devices.replicate(Models(params, ancestor_params))
        # One compiled function a width: `width` is a shape, so it cannot be traced.
        self._score = functools.cache(
            lambda width: self.devices.wrap(
                lambda *args: score_tokens(model, ancestor, width, *args)
            )
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
        if any(
            not 1 <= first <= len(sequence)
            for sequence, first in zip(sequences, starts)
        ):
            raise ValueError(
                "a sequence is scored from its second token at the earliest, from its end at the latest"
            )
        for sequence in sequences:
            check_ids(sequence, self._vocab, "a sequence that is scored")
        # One bucket for all of a call: scores then do not depend on how sequences are grouped.
        size = _bucket(max(map(len, sequences), default=1))
        width = _bucket(
            max(
                (len(sequence) - first for sequence, first in zip(sequences, starts)),
                default=1,
            )
        )
        out, rows = [], self._rows(size)
        for i in range(0, len(sequences), rows):
            part, begin = sequences[i : i + rows], starts[i : i + rows]
            tokens = np.full((rows, size), -1, np.int32)
            start = np.ones(rows, np.int32)
            for b, (sequence, first) in enumerate(zip(part, begin)):
                tokens[b, : len(sequence)] = sequence
                start[b] = first
            scores = self._score(width)(
                self._params, *self.devices.split((tokens, start)), self._tau
            )
            scores = jax.device_get(scores)
            columns = {
                **vars(scores.stats),
                **(vars(scores.lineage) if scores.lineage is not None else {}),
            }
            columns = {
                name: value.reshape(rows, width) for name, value in columns.items()
            }
            broken = np.any(
                [np.isnan(value[: len(part)]) for value in columns.values()], axis=0
            )
            if broken.any():
                row, token = np.argwhere(broken)[0].tolist()
                raise UserError(
                    f"logits are not finite at token {token} of scored sequence {i + row}; check the weights of the "
                    "model (and its ancestor) for NaN, or compute in float32"
                )
            out += [
                {
                    name: value[b, : len(sequence) - first]
                    for name, value in columns.items()
                }
                for b, (sequence, first) in enumerate(zip(part, begin))
            ]
            progress(len(part))
            distributed.beat()
        return out

    def _rows(self, size: int) -> int:
        """Sequences of one pass, over all devices: a power of two of them a device, where memory has the say."""
        fit = max(1, SCORES // (self._heads * size**2))
        return min(self._most, 1 << (fit.bit_length() - 1)) * self.devices.count


def _bucket(length: int) -> int:
    return -(-length // 32) * 32
