"""The decoder: one Linen module for every family, with or without a KV cache."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fr.config import ATTENTION
from fr.models.attention import Attention, RMSNorm, TreeMask
from fr.models.config import (
    LayerData,
    ModelConfig,
    layer_data,
    rotary,
    rotary_gain,
)
from fr.models.dense import dense_product, head_product
from fr.models.kv_cache import KVCache
from fr.models.ragged_attention import Stacked, reads_live_entries
from fr.models.rope import rotation
from fr.models.row_attention import RowAttention
from fr.models.row_products import RowNorm, row_logits, row_product
from fr.models.sharding import replicate_model_axis


class Block(nn.Module):
    """One layer: attention and gated feed-forward, each after a norm, with residuals.

    h <- h + u after the layer, with u the parameter `offset` (`residual_bias`), the
    variable "steer" `offset` [D] or [B, D], or their sum (arXiv 2506.18167). A model
    that has neither compiles to the same program as before there was a hook.

    Attributes:
        config: The decoder.
        dtype: Type of compute.
        attention: As in `Transformer`, like `mesh`.
        mesh: Devices of a training.
    """

    config: ModelConfig
    dtype: jnp.dtype
    attention: str = ""
    mesh: Mesh | None = None

    @nn.compact
    def __call__(
        self,
        x,
        layer: LayerData,
        rope,
        positions,
        segments=None,
        cache=None,
        tree=None,
        recent=None,
        stack=None,
    ):
        c = self.config
        if stack is not None:  # the layer's index came in the cache's place
            cache = Stacked(stack, cache)
        norm = functools.partial(
            RowNorm if c.by_rows else RMSNorm, c.norm_eps, c.unit_offset
        )
        product = row_product if c.by_rows else dense_product
        dense = functools.partial(
            nn.Dense, use_bias=False, dtype=self.dtype, dot_general=product
        )
        attend = RowAttention if c.by_rows else Attention
        attention = attend(c, self.dtype, self.attention, self.mesh, name="attention")
        h, cache = attention(
            norm(name="attention_norm")(x),
            layer,
            rope,
            positions,
            segments,
            cache,
            tree,
            recent,
        )
        x = x + (norm(name="attention_post_norm")(h) if c.post_norms else h)
        h = norm(name="ff_norm")(x)
        gate = dense(c.ff, name="gate")(h)
        gate = nn.gelu(gate, approximate=True) if c.gelu else nn.silu(gate)
        h = dense(c.width, name="down")(gate * dense(c.ff, name="up")(h))
        x = x + (norm(name="ff_post_norm")(h) if c.post_norms else h)
        zero = nn.initializers.zeros_init()
        if c.residual_bias:
            x = x + self.param("offset", zero, (c.width,)).astype(x.dtype)
        if self.has_variable("steer", "offset"):
            offset: jax.Array = self.get_variable("steer", "offset")
            x = x + offset.astype(x.dtype).reshape(-1, 1, c.width)  # [1 or B, 1, D]
        return x, cache


class Transformer(nn.Module):
    """A decoder-only transformer.

    Parameters of the layers are stacked, `params["layers"]` one tree of leaves [L,
    ...], or a tuple of L trees (see `unstack`). Whole sequences, and caches that have
    all layers in one array, scan the stack, which compiles once for all layers; with a
    cache per layer, or a tuple, the layers are inlined.

    Attributes:
        config: The decoder.
        dtype: Type of compute.
        remat: Compute the layers of a stack again in a backward pass instead of keeping
            them.
        attention: Setting `models.attention`; by default as the run has it.
        mesh: Devices (data, model) of a training, for kernels that are not divided by
            the compiler; None: the program around it decides.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    attention: str = dataclasses.field(default_factory=ATTENTION.get)
    mesh: Mesh | None = None

    def setup(self):
        """Define the parameters."""
        c = self.config
        self.embed = nn.Embed(c.vocab, c.width, name="embed")
        stacked = nn.scan(
            nn.remat(Block, prevent_cse=False) if self.remat else Block,
            variable_axes={"params": 0, "lora": 0, "steer": 0},
            split_rngs={"params": True},
            in_axes=(0, *[nn.broadcast] * 3, 0, nn.broadcast, 0, nn.broadcast),
            length=c.layers,
        )
        self.blocks = stacked(c, self.dtype, self.attention, self.mesh, name="layers")
        norm = RowNorm if c.by_rows else RMSNorm
        self.final_norm = norm(c.norm_eps, c.unit_offset, name="final_norm")
        if not c.tied:
            self.unembed = self.param(
                "head", nn.initializers.lecun_normal(), (c.vocab, c.width)
            )

    def hidden(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        cache: KVCache | None = None,
        segments: Int[Array, "B T"] | None = None,
        tree: TreeMask | None = None,
    ) -> tuple[Float[Array, "B T D"], Any]:
        """States after the final norm, and the cache.

        Args:
            tokens: Token ids; those beyond the vocabulary read its last row.
            positions: Position of each token, which is also its cache entry; -1 marks a
                pad, which is neither written nor seen and whose own output is
                meaningless.
            cache: Cache to write and read; None: tokens see each other only.
            segments: Without a cache, a token sees its own segment and negative
                segments.
            tree: Read the cache after a `TreeMask` instead of writing it.

        Returns:
            States, and the cache with these tokens in it (unchanged with `tree`, or
            what `tree.gives` says).
        """
        x, rope = self._begin(tokens, positions)
        apart = isinstance(self.variables["params"].get("layers"), tuple)
        if apart or not (cache is None or cache.layout.scanned):
            x, new = self._inlined(x, rope, positions, segments, cache, tree)
        else:
            own: Any = cache.layers[0] if cache else None
            recent = cache and cache.recent
            given = x, layer_data(self.config), rope, positions, segments
            stack = None
            if cache and reads_live_entries(self.config, self.attention, cache):
                # Whole for a kernel: a layer's part of it would be a copy.
                own, stack = jnp.arange(self.config.layers), own
            x, new = self.blocks(*given, own, tree, recent, stack)
            gives = tree is not None and tree.gives
            new = (new,) if gives else cache and cache.written(new)
        if tree is not None and not tree.gives:
            new = cache
        return self.final_norm(x), new

    def residuals(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"]
    ) -> Float[Array, "L B T D"]:
        """The residual stream after each layer, before the final norm.

        Args:
            tokens: Token ids.
            positions: Position of each token; -1 marks a pad.

        Returns:
            States of all layers, in the type of compute.
        """
        x, rope = self._begin(tokens, positions)
        states: list[jax.Array] = []
        self._inlined(x, rope, positions, None, None, None, states)
        return jnp.stack(states)

    def _begin(self, tokens, positions):
        """Embeddings of tokens, and the rotations of their positions."""
        # The host checks ids against the specialist's table; a smaller ancestor reads
        # its last row for the ids that it lacks.
        x = jnp.take(self.embed.embedding, tokens, axis=0, mode="clip").astype(
            self.dtype
        )
        if self.config.scaled_embedding:
            x = x * jnp.asarray(self.config.width**0.5, x.dtype)
        return x, rotation(positions, rotary(self.config), rotary_gain(self.config))

    def _inlined(self, x, rope, positions, segments, cache, tree, states=None):
        """The layers one by one; `states` receives the residual stream after each."""
        block = Block(self.config, self.dtype, self.attention, self.mesh, parent=None)
        single = lambda layers: (
            layers if isinstance(layers, tuple) else unstack(layers, self.config.layers)
        )
        each = {
            name: single(tree["layers"])
            for name, tree in self.variables.items()
            if "layers" in tree
        }
        shared = layer_data(self.config)
        caches: list[Any] = []
        for i in range(self.config.layers):
            own = jax.tree.map(lambda leaf: leaf[i], shared)
            old = None if cache is None else cache.layers[i]
            layer = {name: trees[i] for name, trees in each.items()}
            x, new = block.apply(layer, x, own, rope, positions, segments, old, tree)
            caches.append(new)
            if states is not None:
                states.append(x)
        if tree is not None and tree.gives:
            return x, tuple(caches)
        return x, None if cache is None else KVCache(tuple(caches))

    def head(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of states.

        Args:
            x: States after the final norm.

        Returns:
            Logits, accumulated and returned in float32.
        """
        table = self.embed.embedding if self.config.tied else self.unembed
        product = row_logits if self.config.by_rows else head_product
        logits = product(x, table.astype(x.dtype))
        logits = replicate_model_axis(logits)
        cap = self.config.logit_softcap
        return cap * jnp.tanh(logits / cap) if cap else logits

    def __call__(self, tokens, positions, cache=None, segments=None):
        """Logits in float32, and the cache; see `hidden`.

        Args:
            tokens: Token ids.
            positions: Position of each token; -1 marks a pad.
            cache: Cache to write and read, or None.
            segments: Segment of each token, or None.

        Returns:
            Logits [B, T, V], and the cache.
        """
        x, cache = self.hidden(tokens, positions, cache, segments)
        return self.head(x), cache


def unstack(layers: dict, count: int) -> tuple[dict, ...]:
    """Stacked parameters of layers as one tree per layer.

    Args:
        layers: Tree of leaves [L, ...].
        count: Number of layers, L.

    Returns:
        L trees.
    """
    return tuple(jax.tree.map(lambda leaf: leaf[i], layers) for i in range(count))


def init_params(config: ModelConfig, key) -> dict:
    """Random float32 parameters of a decoder.

    Args:
        config: The decoder.
        key: Random key.

    Returns:
        Parameters, layers stacked.
    """
    tokens = jnp.zeros((1, 2), jnp.int32)
    # Compiled as a whole: dozens of small programs would take longer.
    return jax.jit(Transformer(config, attention="").init)(
        key, tokens, jnp.arange(2)[None]
    )["params"]
