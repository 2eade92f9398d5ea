"""The one scorer: statistics of given tokens under one model or two.

The LM head runs in chunks of tokens, so prompts and long texts cost no large logits.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from fr import distributed
from fr.errors import UserError
from fr.models.model import check_ids
from fr.models.transformer import Transformer
from fr.sampling import token_stats
from fr.sampling.chunked_lm_head import map_chunks, token_logp_entropy
from fr.sampling.devices import Devices
from fr.sampling.state import ModelParams
from fr.sampling.structs import TokenScores

# Attention scores of a layer, 256 MiB in float32; long rows are scored fewer at a time.
SCORES = 2**26


def _score_tokens(
    model: Transformer,
    ancestor: Transformer | None,
    width: int,
    params: ModelParams,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    tau: Float[Array, ""],
) -> TokenScores:
    """Statistics of the tokens of each row from `start` on, given all tokens before
    each.

    A prompt costs a forward pass but no logits.

    Args:
        model: The specialist.
        ancestor: The ancestor, or None.
        width: Number of tokens to score per row, W.
        params: Parameters of both.
        tokens: Token ids; -1 pads on the right.
        start: Index of the first token to score, at least 1.
        tau: Diagnosis temperature.

    Returns:
        Scores [B, W]; column i is token start + i. Columns beyond the row's end are 0
        and masked.
    """
    own, others = {"params": params.specialist}, {"params": params.ancestor or {}}
    targets, states = _window(model, own, tokens, start, width)
    arrays, vocab = [targets.reshape(-1), states], model.config.vocab
    if ancestor is not None:
        arrays.append(_window(ancestor, others, tokens, start, width)[1])
        vocab += ancestor.config.vocab

    def read(target, state, *second):
        logits: Any = model.apply(own, state, method="head")
        moments = token_stats.logit_moments(logits, tau)
        stats = token_stats.token_stats(moments, target)
        if ancestor is None:
            return stats, None
        other: Any = ancestor.apply(others, second[0], method="head")
        other = token_stats.defer(logits, other, tau, ancestor.config.masked)
        theirs = token_stats.logit_moments(other, tau, token_stats.ANCESTOR_TOP)
        return stats, token_stats.lineage_stats(moments, theirs, target)

    stats, lineage = map_chunks(read, vocab, arrays)
    unfold = lambda x: jnp.where(targets >= 0, x.reshape(targets.shape), 0.0)
    return TokenScores(
        mask=targets >= 0,
        stats=jax.tree.map(unfold, stats),
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
    """Log-prob and raw entropy of the tokens of each row from `start` on, with a
    gradient.

    The scorer of losses. Logits exist for one chunk of tokens at a time, in the
    gradient too.

    Args:
        model: The model.
        variables: "params" and all other collections that the model reads.
        tokens: Token ids; -1 pads on the right.
        start: Index of the first token to score, at least 1.
        width: Number of tokens to score per row, W.
        temperature: Temperature of the log-prob.
        shards: Devices over which the rows are spread.
        group: Each block of `group` consecutive rows shares one prompt (at most T - W
            tokens), which is read once.

    Returns:
        Log-probs and entropies in nats; 0 beyond the row's end.
    """
    read_rows = functools.partial(_shared_window, group=group) if group > 1 else _window
    targets, states = read_rows(model, variables, tokens, start, width)

    def read(target, state):
        return token_logp_entropy(
            model.apply(variables, state, method="head"), target, temperature
        )

    both = map_chunks(read, model.config.vocab, (targets.reshape(-1), states), shards)
    return jax.tree.map(
        lambda x: jnp.where(targets >= 0, x.reshape(targets.shape), 0.0), both
    )


def _window(
    model: Transformer,
    variables: dict,
    tokens: Int[Array, "B T"],
    start: Int[Array, "B"],
    width: int,
) -> tuple[Int[Array, "B W"], Float[Array, "N D"]]:
    """The W tokens of each row from `start` on (-1 beyond its end), and the states [B *
    W, D] that predict them.
    """
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    columns = start[:, None] + jnp.arange(width)
    targets = _take(tokens, columns, mode="fill", fill_value=-1)
    hidden, _ = model.apply(variables, tokens, positions, method="hidden")
    # The state at t - 1 predicts token t.
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
    """As `_window`, with the completions of each `group` rows after one copy of their
    prompt.

    Two rows, a prompt of two tokens in a room of three, completions of two and one in a
    width of two:

    tokens     5 6 -1   7 8   9 -1
    positions  0 1 -1   2 3   2 -1
    segments  -1 -1 -1  0 0   1  1     a negative one is seen by all
    """
    room, first = tokens.shape[1] - width, start[::group, None]
    side = jnp.arange(group * width)
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
    # The state at the prompt's end predicts the first token of every completion.
    states = _take(hidden, jnp.where(side % width == 0, first - 1, room + side - 1))
    return targets, states.reshape(-1, states.shape[-1])


def _take(
    x: Shaped[Array, "B T ..."], at: Int[Array, "B W"], **how
) -> Shaped[Array, "B W ..."]:
    return jax.vmap(lambda row, index: row.at[index].get(**how))(x, at)


class Scorer:
    """Scores sequences on the local devices, padded to multiples of 32 tokens."""

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
        """Place the parameters.

        Args:
            model: The specialist.
            params: Its parameters.
            ancestor: The ancestor, or None.
            ancestor_params: Its parameters.
            rows: Largest number of sequences per data shard and pass.
            tau: Diagnosis temperature.
            devices: Devices to run on; None: all local devices.
        """
        self.devices = devices or Devices()
        self._most = rows
        self._heads = max(m.config.heads for m in (model, ancestor) if m is not None)
        self._tau = np.full(self.devices.count, tau, np.float32)
        self._vocab = model.config.vocab
        self._params = self.devices.replicate(ModelParams(params, ancestor_params))
        # One compiled function per width: it is a shape, so it cannot be traced.
        self._score = functools.cache(
            lambda width: make_score(model, ancestor, self.devices, width)
        )

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        progress: Callable[[int], object] = lambda count: None,
    ) -> list[dict[str, Float[np.ndarray, "_"]]]:
        """Every statistic of the tokens of each sequence from its start on.

        Args:
            sequences: Token ids of each sequence.
            starts: Index of the first token to score of each.
            progress: Called with the number of sequences after each pass.

        Returns:
            For each sequence, float32 arrays by the name of the statistic.

        Raises:
            ValueError: A start is outside [1, len(sequence)].
            UserError: Logits are not finite.
        """
        if any(
            not 1 <= first <= len(sequence)
            for sequence, first in zip(sequences, starts)
        ):
            raise ValueError(
                "a sequence is scored from its second token at the earliest, from its "
                "end at the latest"
            )
        for sequence in sequences:
            check_ids(sequence, self._vocab, "a sequence that is scored")
        # One bucket for the whole call: scores then do not depend on the grouping.
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
                self._params, *self.devices.shard_batch((tokens, start)), self._tau
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
                    f"logits are not finite at token {token} of scored sequence "
                    f"{i + row}; check the weights of the model (and its ancestor) for "
                    "NaN, or compute in float32"
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
        """Sequences per pass over all devices."""
        return rows_per_pass(self._heads, size, self._most) * self.devices.count


def make_score(
    model: Transformer, ancestor: Transformer | None, devices: Devices, width: int
) -> Callable:
    """Compile (params, tokens, start, tau) -> `TokenScores` of one pass.

    Args:
        model: The specialist.
        ancestor: The ancestor, or None.
        devices: Devices to run on.
        width: Number of tokens to score per row.

    Returns:
        The compiled function.
    """
    return devices.jit_sharded(
        lambda *args: _score_tokens(model, ancestor, width, *args)
    )


def rows_per_pass(heads: int, size: int, most: int) -> int:
    """Sequences of a pass on one data shard; where memory decides, a power of two.

    Args:
        heads: Query heads.
        size: Tokens of a sequence.
        most: Largest number.

    Returns:
        The number.
    """
    fit = max(1, SCORES // (heads * size**2))
    return min(most, 1 << (fit.bit_length() - 1))


def _bucket(length: int) -> int:
    return -(-length // 32) * 32
