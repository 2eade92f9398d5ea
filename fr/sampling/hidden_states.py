"""Reading the residual stream: weighted sums over positions, or states of one layer."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fr import distributed
from fr.models.model import check_ids
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices

# Numbers of the states of a pass, 256 MiB in float32; longer rows are read fewer at a
# time. Attention scores count too.
NUMBERS = 2**26
_STEP = 32  # lengths are rounded up to it


class StateReader:
    """Reads states of given tokens on the local devices, a bounded number at a time.

    The state of a token is the residual stream after a layer, vectors that the model
    has there included, before the final norm. It is read by the plain forward pass.
    """

    def __init__(
        self,
        model: Transformer,
        params: dict,
        *,
        rows: int = 16,
        devices: Devices | None = None,
    ):
        """Place the parameters.

        Args:
            model: The model, L layers of width D.
            params: Its parameters.
            rows: Largest number of sequences per data shard and pass.
            devices: Devices to run on; None: all local devices.
        """
        self.devices, self._config = devices or Devices(), model.config
        self._most = rows
        self._params = self.devices.replicate(params)
        self._sums = self.devices.jit_sharded(functools.partial(_sums, model))
        # One compiled function per layer, which is an index of a list.
        self._states = functools.cache(
            lambda layer: self.devices.jit_sharded(
                functools.partial(_layer, model, layer)
            )
        )

    @property
    def layers(self) -> int:
        """Layers of the model, L."""
        return self._config.layers

    def sums(
        self, sequences: Sequence[Sequence[int]], weights: Sequence[np.ndarray]
    ) -> Float[np.ndarray, "N K L D"]:
        """Weighted sums of states over positions: sum_t w_kt h_lt.

        Args:
            sequences: Token ids of N sequences.
            weights: For each, K weights of every token, [K, T].

        Returns:
            Sums of each sequence, by set of weights and layer, float32.
        """
        found = []
        kinds = len(weights[0]) if len(weights) else 0
        for some, tokens in self._passes(sequences):
            table = np.zeros((len(tokens), kinds, tokens.shape[1]), np.float32)
            for b, place in enumerate(some):
                table[b, :, : len(sequences[place])] = weights[place]
            arrays = self.devices.shard_batch((tokens, table))
            out = np.asarray(jax.device_get(self._sums(self._params, *arrays)))
            found.append(out.reshape(len(tokens), *out.shape[2:])[: len(some)])
        shape = (0, kinds, self._config.layers, self._config.width)
        return np.concatenate(found) if found else np.zeros(shape, np.float32)

    def states(
        self, sequences: Sequence[Sequence[int]], layer: int
    ) -> list[Float[np.ndarray, "T D"]]:
        """States of all tokens after one layer.

        Args:
            sequences: Token ids of N sequences.
            layer: Index of the layer, from 0.

        Returns:
            States of each sequence, float32.
        """
        found = []
        for some, tokens in self._passes(sequences):
            arrays = self.devices.shard_batch((tokens,))
            out = self._states(layer)(self._params, *arrays)
            out = np.asarray(jax.device_get(out)).reshape(*tokens.shape, -1)
            found += [out[b, : len(sequences[i])] for b, i in enumerate(some)]
        return found

    def _passes(
        self, sequences: Sequence[Sequence[int]]
    ) -> Iterator[tuple[range, Int[np.ndarray, "B T"]]]:
        """Indices of the sequences of each pass, and their tokens; -1 pads."""
        for sequence in sequences:
            check_ids(sequence, self._config.vocab, "a sequence whose states are read")
        # One length for the whole call: states do not depend on the grouping.
        size = -(-max(map(len, sequences), default=1) // _STEP) * _STEP
        each = size * (self._config.width * self._config.layers)
        each = max(each, self._config.heads * size**2)
        rows = min(self._most, max(1, NUMBERS // each)) * self.devices.count
        for i in range(0, len(sequences), rows):
            some = range(i, min(i + rows, len(sequences)))
            tokens = np.full((rows, size), -1, np.int32)
            for b, place in enumerate(some):
                tokens[b, : len(sequences[place])] = sequences[place]
            yield some, tokens
            distributed.beat()


def _residuals(model: Transformer, params: dict, tokens: Array) -> Any:
    positions = jnp.where(tokens >= 0, jnp.arange(tokens.shape[1]), -1)
    found: Any = model.apply({"params": params}, tokens, positions, method="residuals")
    return found.astype(jnp.float32)


def _sums(
    model: Transformer,
    params: dict,
    tokens: Int[Array, "B T"],
    weights: Float[Array, "B K T"],
) -> Float[Array, "B K L D"]:
    states = _residuals(model, params, tokens)
    return jnp.einsum("lbtd,bkt->bkld", states, weights, precision="highest")


def _layer(
    model: Transformer, layer: int, params: dict, tokens: Int[Array, "B T"]
) -> Float[Array, "B T D"]:
    return _residuals(model, params, tokens)[layer]
