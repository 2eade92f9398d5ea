"""Attention of one layer: caches, masks, and the three ways to attend."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fr.models.blockwise_attention import (
    UNSEEN,
    Sight,
    attend_blockwise,
    attention_mask,
)
from fr.models.config import LayerData, ModelConfig
from fr.models.dense import dense_product
from fr.models.rope import Rotation, apply_rope


@struct.dataclass
class LayerCache:
    """Keys and values of one layer; entry s of a row belongs to its position s.

    Keys have their entries innermost: the products of a step then read memory in order,
    which takes a quarter of the time on a CPU.

    Attributes:
        k: Keys, rotated.
        v: Values.
    """

    k: Float[Array, "B K H S"]
    v: Float[Array, "B K S H"]


@struct.dataclass
class KVCache:
    """The caches of all layers, each a buffer of its own.

    A stacked buffer would be sliced, and so copied, at every step.

    Attributes:
        layers: One cache per layer.
    """

    layers: tuple[LayerCache, ...]

    @property
    def size(self) -> int:
        """Entries per row, S."""
        return self.layers[0].k.shape[-1]


def init_cache(config: ModelConfig, rows: int, size: int, dtype=jnp.float32) -> KVCache:
    """An empty cache.

    Args:
        config: The decoder.
        rows: Number of rows, B.
        size: Entries per row, S.
        dtype: Type of keys and values.

    Returns:
        Zeros.
    """
    k = config.kv_heads, config.head_dim, size
    v = config.kv_heads, size, config.head_dim
    empty = lambda shape: jnp.zeros((rows, *shape), dtype)
    return KVCache(tuple(LayerCache(empty(k), empty(v)) for _ in range(config.layers)))


@struct.dataclass
class TreeMask:
    """New tokens in trees after prefixes of cached rows; the cache is not written.

    Attributes:
        rows: Cached row of each sequence of new tokens.
        prefix: Cache entries that a token sees: those before this one.
        sees: New tokens that a token sees.
    """

    rows: Int[Array, "R"]
    prefix: Int[Array, "R T"]
    sees: Bool[Array, "R T T"]


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 for every input (arXiv 1910.07467).

    x / sqrt(mean(x^2) + eps) * scale, or * (1 + scale) with `unit_offset`.

    Attributes:
        eps: Added to the mean square.
        unit_offset: Multiply by 1 + scale.
    """

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


def _attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K H S"],
    v: Float[Array, "B K S H"],
    mask: Bool[Array, "B T S"],
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention of scaled queries [B, T, N, H]; scores and softmax are
    float32.
    """
    b, t, n, h = q.shape
    groups = k.shape[1]
    # Queries first, and the queries of a head together: a product with the cache on
    # its left takes three times as long on a CPU.
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
    scores = jnp.where(mask[:, None, None], scores, UNSEEN)
    probs = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = product(probs.reshape(b, groups, -1, k.shape[-1]), v)
    return out.reshape(b, groups, -1, t, h).transpose(0, 3, 1, 2, 4).reshape(b, t, n, h)


class Attention(nn.Module):
    """Self-attention of one layer: over its own tokens, a cache, or a tree.

    Attributes:
        config: The decoder.
        dtype: Type of compute.
    """

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x, layer: LayerData, rope: Rotation, positions, segments, cache, tree
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
        sin, cos = rope.sin[layer.rope], rope.cos[layer.rope]
        q = apply_rope(q, sin, cos) * jnp.asarray(c.scale, q.dtype)
        k = apply_rope(k, sin, cos)
        if tree is None and cache is None:
            sight = Sight(positions, segments, layer.window)
            out = attend_blockwise(q, k, v, sight, c.attention_softcap)
        else:
            if tree is not None:
                own, mask = _with_cached_prefix(
                    cache, tree, layer.window, positions, k, v
                )
            else:
                own = cache = _write(cache, positions, k, v)
                entries = _entries(x.shape[0], own.k.shape[-1])
                mask = attention_mask(positions, entries, layer.window)
            out = _attend(q, own.k, own.v, mask, c.attention_softcap)
        return dense(c.width, axis=(-2, -1), use_bias=False, name="o")(out), cache


def _write(cache: LayerCache, positions, k, v) -> LayerCache:
    """Put new keys and values at their positions; pads (position -1) are dropped."""
    rows, size = jnp.arange(positions.shape[0])[:, None], cache.k.shape[-1]
    slots = jnp.where(positions < 0, size, positions)
    return LayerCache(
        k=cache.k.at[rows, :, :, slots].set(k.astype(cache.k.dtype), mode="drop"),
        v=cache.v.at[rows, :, slots].set(v.astype(cache.v.dtype), mode="drop"),
    )


def _entries(rows: int, size: int) -> Int[Array, "B S"]:
    """Positions of cache entries.

    All entries up to a query's own are live, so the index is all that a mask needs.
    """
    return jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (rows, size))


def _with_cached_prefix(cache: LayerCache, tree: TreeMask, window, positions, k, v):
    """Cached keys and values followed by the new tokens' own, and the mask."""
    old = jax.tree.map(lambda x: x[tree.rows], cache)
    entries = _entries(positions.shape[0], old.k.shape[-1])
    before = attention_mask(positions, entries, window) & (
        entries[:, None] < tree.prefix[:, :, None]
    )
    among = attention_mask(positions, positions, window) & tree.sees
    both = LayerCache(
        k=jnp.concatenate(
            [old.k, k.transpose(0, 2, 3, 1).astype(old.k.dtype)], axis=-1
        ),
        v=jnp.concatenate(
            [old.v, v.transpose(0, 2, 1, 3).astype(old.v.dtype)], axis=-2
        ),
    )
    return both, jnp.concatenate([before, among], axis=-1)
