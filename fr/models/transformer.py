"""The decoder: one Linen module for every family, over whole sequences or a KV cache passed in and out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fr.models.config import LayerData, ModelConfig, layer_data, rotary, rotary_gain
from fr.models.dense import dense_product
from fr.models.rope import Rotation, rope, rotation
from fr.models.sharding import whole


@struct.dataclass
class LayerCache:
    """Keys and values of one layer; entry s of a row belongs to its position s.

    Keys lie with their entries innermost: a step's products then read memory in order, which on a CPU takes a
    quarter of the time of the other way round.
    """

    k: Float[Array, "B K H S"]
    v: Float[Array, "B K S H"]


@struct.dataclass
class KVCache:
    """A buffer of its own for every layer: a stacked one would be sliced, which is to say copied, at every step."""

    layers: tuple[LayerCache, ...]

    @property
    def size(self) -> int:
        """Entries of a row, S."""
        return self.layers[0].k.shape[-1]


def init_cache(config: ModelConfig, rows: int, size: int, dtype=jnp.float32) -> KVCache:
    """An empty cache of `size` entries a row."""
    k, v = (
        (config.kv_heads, config.head_dim, size),
        (config.kv_heads, size, config.head_dim),
    )
    empty = lambda shape: jnp.zeros((rows, *shape), dtype)
    return KVCache(tuple(LayerCache(empty(k), empty(v)) for _ in range(config.layers)))


@struct.dataclass
class Branches:
    """New tokens that continue prefixes of cached rows, in a tree, without being written to the cache."""

    rows: Int[Array, "R"]  # the cached row of each sequence of new tokens
    prefix: Int[Array, "R T"]  # a token sees the cache entries before this one
    sees: Bool[Array, "R T T"]  # and these of the new tokens


class RMSNorm(nn.Module):
    """Root-mean-square norm, in float32 whatever comes in (arXiv 1910.07467)."""

    eps: float
    unit_offset: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        ones_or_zeros = (
            nn.initializers.zeros_init()
            if self.unit_offset
            else nn.initializers.ones_init()
        )
        scale = self.param("scale", ones_or_zeros, (x.shape[-1],)).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(
            jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps
        )
        return (wide * (scale + 1.0 if self.unit_offset else scale)).astype(x.dtype)


def visible(
    query: Int[Array, "B T"], key: Int[Array, "B S"], window: Int[Array, ""]
) -> Bool[Array, "B T S"]:
    """Which keys a query sees: none of the future, none beyond the window, none of the pads (position -1).

    Four tokens behind one pad, window 3:   key  -1 0 1 2 3
                                     query -1   0 0 0 0 0
                                            0   0 1 0 0 0
                                            1   0 1 1 0 0
                                            2   0 1 1 1 0
                                            3   0 0 1 1 1
    """
    query, key = query[:, :, None], key[:, None, :]
    return (key >= 0) & (key <= query) & (key > query - window)


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K H S"],
    v: Float[Array, "B K S H"],
    mask: Bool[Array, "B T S"],
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention; scores and softmax in float32. `q` is scaled already."""
    b, t, n, h = q.shape
    groups = k.shape[1]
    # Queries first and a head's together: a product with the cache on its left takes three times as long on a CPU.
    q = (
        q.reshape(b, t, groups, n // groups, h)
        .transpose(0, 2, 3, 1, 4)
        .reshape(b, groups, -1, h)
    )
    product = functools.partial(
        jax.lax.dot_general, dimension_numbers=(((3,), (2,)), ((0, 1), (0, 1)))
    )
    scores = product(q, k, preferred_element_type=jnp.float32).reshape(
        b, groups, -1, t, k.shape[-1]
    )
    if softcap:
        scores = softcap * jnp.tanh(scores / softcap)
    # A finite floor: a pad sees no key at all, and its row must come out finite, not NaN.
    scores = jnp.where(mask[:, None, None], scores, -1e30)
    probs = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = product(probs.reshape(b, groups, -1, k.shape[-1]), v)
    return out.reshape(b, groups, -1, t, h).transpose(0, 3, 1, 2, 4).reshape(b, t, n, h)


class Attention(nn.Module):
    """Self-attention of one layer: over its own tokens, over the cache that it writes first, or over branches."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x, layer: LayerData, turn: Rotation, positions, segments, cache, branches
    ):
        c = self.config
        dense = functools.partial(
            nn.DenseGeneral, dtype=self.dtype, dot_general=dense_product
        )
        q = dense((c.heads, c.head_dim), use_bias=c.qkv_bias, name="q")(x)
        k = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="k")(x)
        v = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="v")(x)
        if c.qk_norm:
            q = RMSNorm(c.norm_eps, c.unit_offset, name="q_norm")(q)
            k = RMSNorm(c.norm_eps, c.unit_offset, name="k_norm")(k)
        sin, cos = turn.sin[layer.rope], turn.cos[layer.rope]
        q = rope(q, sin, cos) * jnp.asarray(c.scale, q.dtype)
        k = rope(k, sin, cos)
        if branches is not None:
            own, mask = _beside(cache, branches, layer.window, positions, k, v)
        elif cache is not None:
            own = cache = _write(cache, positions, k, v)
            mask = visible(
                positions, _entries(x.shape[0], own.k.shape[-1]), layer.window
            )
        else:
            own = LayerCache(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))
            mask = visible(positions, positions, layer.window)
            if segments is not None:
                mask &= (segments[:, :, None] == segments[:, None, :]) | (
                    segments[:, None] < 0
                )
        out = attend(q, own.k, own.v, mask, c.attention_softcap)
        return dense(c.width, axis=(-2, -1), use_bias=False, name="o")(out), cache


def _write(cache: LayerCache, positions, k, v) -> LayerCache:
    """Put new keys and values at their rows' positions; pads (position -1) are dropped, never clamped."""
    rows, size = jnp.arange(positions.shape[0])[:, None], cache.k.shape[-1]
    slots = jnp.where(positions < 0, size, positions)
    return LayerCache(
        k=cache.k.at[rows, :, :, slots].set(k.astype(cache.k.dtype), mode="drop"),
        v=cache.v.at[rows, :, slots].set(v.astype(cache.v.dtype), mode="drop"),
    )


def _entries(rows: int, size: int) -> Int[Array, "B S"]:
    """Positions of cache entries: all up to a query's own are live, so their index is all that a mask needs."""
    return jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (rows, size))


def _beside(cache: LayerCache, branches: Branches, window, positions, k, v):
    """Keys and values of the cached rows with those of new tokens behind them, and what each new token sees."""
    old = jax.tree.map(lambda x: x[branches.rows], cache)
    entries = _entries(positions.shape[0], old.k.shape[-1])
    before = visible(positions, entries, window) & (
        entries[:, None] < branches.prefix[:, :, None]
    )
    among = visible(positions, positions, window) & branches.sees
    both = LayerCache(
        k=jnp.concatenate(
            [old.k, k.transpose(0, 2, 3, 1).astype(old.k.dtype)], axis=-1
        ),
        v=jnp.concatenate(
            [old.v, v.transpose(0, 2, 1, 3).astype(old.v.dtype)], axis=-2
        ),
    )
    return both, jnp.concatenate([before, among], axis=-1)


class Block(nn.Module):
    """One layer: attention and gated feed-forward, each behind a norm and around a residual."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x,
        layer: LayerData,
        turn,
        positions,
        segments=None,
        cache=None,
        branches=None,
    ):
        c = self.config
        norm = functools.partial(RMSNorm, c.norm_eps, c.unit_offset)
        dense = functools.partial(
            nn.Dense, use_bias=False, dtype=self.dtype, dot_general=dense_product
        )
        attention = Attention(c, self.dtype, name="attention")
        h, cache = attention(
            norm(name="attention_norm")(x),
            layer,
            turn,
            positions,
            segments,
            cache,
            branches,
        )
        x = x + (norm(name="attention_post_norm")(h) if c.post_norms else h)
        h = norm(name="ff_norm")(x)
        gate = dense(c.ff, name="gate")(h)
        gate = nn.gelu(gate, approximate=True) if c.gelu else nn.silu(gate)
        h = dense(c.width, name="down")(gate * dense(c.ff, name="up")(h))
        return x + (norm(name="ff_post_norm")(h) if c.post_norms else h), cache


class Transformer(nn.Module):
    """A decoder-only transformer.

    Parameters of its layers are stacked, `params["layers"]` one tree of leaves [L, ...], or a tuple of L trees (see
    `unstack`). Whole sequences scan the stack, which compiles once for all layers; with a cache, or a tuple, the
    layers are inlined.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False  # the layers of a stack are computed again in a backward pass instead of kept

    def setup(self):
        c = self.config
        self.embed = nn.Embed(c.vocab, c.width, name="embed")
        stacked = nn.scan(
            nn.remat(Block, prevent_cse=False) if self.remat else Block,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.layers,
        )
        self.blocks = stacked(c, self.dtype, name="layers")
        self.final_norm = RMSNorm(c.norm_eps, c.unit_offset, name="final_norm")
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
        branches: Branches | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Final-norm states and the cache with these tokens in it (`branches`: the cache as it was).

        `positions` are cache entries; -1 marks a pad, which is neither written nor seen, and whose own output
        means nothing. Without a cache, tokens see each other (`segments`: only those of their own segment,
        and of negative ones).
        """
        # Ids are checked on the host against the specialist's table; of a smaller ancestor the last row is read.
        x = jnp.take(self.embed.embedding, tokens, axis=0, mode="clip").astype(
            self.dtype
        )
        if self.config.scaled_embedding:
            x = x * jnp.asarray(self.config.width**0.5, x.dtype)
        turn = rotation(positions, rotary(self.config), rotary_gain(self.config))
        if cache is None and not isinstance(
            self.variables["params"].get("layers"), tuple
        ):
            x, _ = self.blocks(x, layer_data(self.config), turn, positions, segments)
        else:
            x, cache = self._inlined(x, turn, positions, segments, cache, branches)
        return self.final_norm(x), cache

    def _inlined(self, x, turn, positions, segments, cache, branches):
        block = Block(self.config, self.dtype, parent=None)
        single = lambda layers: (
            layers if isinstance(layers, tuple) else unstack(layers, self.config.layers)
        )
        each = {
            name: single(tree["layers"])
            for name, tree in self.variables.items()
            if "layers" in tree
        }
        shared, caches = layer_data(self.config), []
        for i in range(self.config.layers):
            own = jax.tree.map(lambda leaf: leaf[i], shared)
            old = None if cache is None else cache.layers[i]
            layer = {name: trees[i] for name, trees in each.items()}
            x, new = block.apply(
                layer, x, own, turn, positions, segments, old, branches
            )
            caches.append(new)
        return x, None if cache is None else KVCache(tuple(caches))

    def head(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits, accumulated and returned in float32."""
        table = self.embed.embedding if self.config.tied else self.unembed
        logits = jnp.einsum(
            "...d,vd->...v",
            x,
            table.astype(x.dtype),
            preferred_element_type=jnp.float32,
        )
        logits = whole(logits)
        cap = self.config.logit_softcap
        return cap * jnp.tanh(logits / cap) if cap else logits

    def __call__(self, tokens, positions, cache=None, segments=None):
        """Logits [B, T, V] in float32, and the cache; see `hidden`."""
        x, cache = self.hidden(tokens, positions, cache, segments)
        return self.head(x), cache


def unstack(layers: dict, count: int) -> tuple[dict, ...]:
    """Stacked parameters of `count` layers as a tree each."""
    return tuple(jax.tree.map(lambda leaf: leaf[i], layers) for i in range(count))


def init_params(config: ModelConfig, key) -> dict:
    """Random float32 parameters of a decoder."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    # Compiled as a whole: dozens of small programs would take longer.
    return jax.jit(Transformer(config).init)(key, tokens, jnp.arange(2)[None])["params"]
