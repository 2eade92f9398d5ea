"""The decoder: one Linen module for every family, layers stacked and scanned, KV cache passed in and out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fr.models.config import LayerData, ModelConfig, layer_data


@struct.dataclass
class KVCache:
    """Keys and values of all layers; entry s of a row belongs to its position s."""

    k: Float[Array, "L B S K H"]
    v: Float[Array, "L B S K H"]

    @property
    def size(self) -> int:
        """Entries of a row, S."""
        return self.k.shape[2]


def init_cache(config: ModelConfig, rows: int, size: int, dtype=jnp.float32) -> KVCache:
    """An empty cache of `size` entries a row."""
    shape = (config.layers, rows, size, config.kv_heads, config.head_dim)
    return KVCache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


class RMSNorm(nn.Module):
    """Root-mean-square norm, in float32 whatever comes in (arXiv 1910.07467)."""

    eps: float
    unit_offset: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        ones_or_zeros = nn.initializers.zeros_init() if self.unit_offset else nn.initializers.ones_init()
        scale = self.param("scale", ones_or_zeros, (x.shape[-1],)).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * (scale + 1.0 if self.unit_offset else scale)).astype(x.dtype)


def rope(
    x: Float[Array, "B T N H"], positions: Int[Array, "B T"], inv_freq: Float[Array, "H/2"]
) -> Float[Array, "B T N H"]:
    """Rotate the two halves of each head by the token's position (arXiv 2104.09864)."""
    # float32: bfloat16 has no odd integers above 256, so neighbouring positions would be rotated alike.
    angles = positions[..., None].astype(jnp.float32) * inv_freq
    sin, cos = jnp.sin(angles)[:, :, None], jnp.cos(angles)[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def visible(query: Int[Array, "B T"], key: Int[Array, "B S"], window: Int[Array, ""]) -> Bool[Array, "B T S"]:
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
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"],
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention; scores and softmax in float32. `q` is scaled already."""
    b, t, n, h = q.shape
    q = q.reshape(b, t, k.shape[2], n // k.shape[2], h)
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
    if softcap:
        scores = softcap * jnp.tanh(scores / softcap)
    # A finite floor: a pad sees no key at all, and its row must come out finite, not NaN.
    scores = jnp.where(mask[:, None, None], scores, -1e30)
    probs = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bkgts,bskh->btkgh", probs, v)
    return out.reshape(b, t, n, h)


class Attention(nn.Module):
    """Self-attention of one layer, over its own tokens or over the cache that it writes first."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, cache: KVCache | None, layer: LayerData, positions, segments):
        c = self.config
        dense = functools.partial(nn.DenseGeneral, dtype=self.dtype)
        q = dense((c.heads, c.head_dim), use_bias=c.qkv_bias, name="q")(x)
        k = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="k")(x)
        v = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="v")(x)
        if c.qk_norm:
            q = RMSNorm(c.norm_eps, c.unit_offset, name="q_norm")(q)
            k = RMSNorm(c.norm_eps, c.unit_offset, name="k_norm")(k)
        q = rope(q, positions, layer.inv_freq) * jnp.asarray(c.scale, q.dtype)
        k = rope(k, positions, layer.inv_freq)
        keys = positions
        if cache is not None:
            cache = _write(cache, layer.index, positions, k, v)
            k = jax.lax.dynamic_index_in_dim(cache.k, layer.index, keepdims=False)
            v = jax.lax.dynamic_index_in_dim(cache.v, layer.index, keepdims=False)
            # Every entry up to a query's own position is live, so an entry's index is all the mask needs.
            keys = jnp.broadcast_to(jnp.arange(cache.size, dtype=jnp.int32), (x.shape[0], cache.size))
        mask = visible(positions, keys, layer.window)
        if segments is not None:
            mask &= segments[:, :, None] == segments[:, None, :]
        out = attend(q, k, v, mask, c.attention_softcap)
        return dense(c.width, axis=(-2, -1), use_bias=False, name="o")(out), cache


def _write(cache: KVCache, layer, positions, k, v) -> KVCache:
    """Put new keys and values at their rows' positions; pads (position -1) are dropped, never clamped."""
    rows = jnp.arange(positions.shape[0])[:, None]
    slots = jnp.where(positions < 0, cache.size, positions)
    put = lambda into, new: into.at[layer, rows, slots].set(new.astype(into.dtype), mode="drop")
    return cache.replace(k=put(cache.k, k), v=put(cache.v, v))


class Block(nn.Module):
    """One layer: attention and gated feed-forward, each behind a norm and around a residual."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, carry, layer: LayerData, positions, segments):
        c = self.config
        x, cache = carry
        norm = functools.partial(RMSNorm, c.norm_eps, c.unit_offset)
        dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype)
        h, cache = Attention(c, self.dtype, name="attention")(
            norm(name="attention_norm")(x), cache, layer, positions, segments
        )
        x = x + (norm(name="attention_post_norm")(h) if c.post_norms else h)
        h = norm(name="ff_norm")(x)
        gate = dense(c.ff, name="gate")(h)
        gate = nn.gelu(gate, approximate=True) if c.gelu else nn.silu(gate)
        h = dense(c.width, name="down")(gate * dense(c.ff, name="up")(h))
        return (x + (norm(name="ff_post_norm")(h) if c.post_norms else h), cache), None


class Transformer(nn.Module):
    """A decoder-only transformer; `unroll` layers are inlined per step: slower to compile, faster to run."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    unroll: int = 1

    def setup(self):
        c = self.config
        self.embed = nn.Embed(c.vocab, c.width, name="embed")
        stacked = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=c.layers,
            unroll=self.unroll,
        )
        self.blocks = stacked(c, self.dtype, name="layers")
        self.final_norm = RMSNorm(c.norm_eps, c.unit_offset, name="final_norm")
        if not c.tied:
            self.unembed = self.param("head", nn.initializers.lecun_normal(), (c.vocab, c.width))

    def hidden(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        cache: KVCache | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Final-norm states and the cache with these tokens in it.

        `positions` are cache entries; -1 marks a pad, which is neither written nor seen, and whose own output
        means nothing. Without a cache, tokens see each other (`segments`: only those of their own segment).
        """
        x = jnp.take(self.embed.embedding, jnp.maximum(tokens, 0), axis=0).astype(self.dtype)
        if self.config.scaled_embedding:
            x = x * jnp.asarray(self.config.width**0.5, x.dtype)
        (x, cache), _ = self.blocks((x, cache), layer_data(self.config), positions, segments)
        return self.final_norm(x), cache

    def head(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits, accumulated and returned in float32."""
        table = self.embed.embedding if self.config.tied else self.unembed
        logits = jnp.einsum("...d,vd->...v", x, table.astype(x.dtype), preferred_element_type=jnp.float32)
        cap = self.config.logit_softcap
        return cap * jnp.tanh(logits / cap) if cap else logits

    def __call__(self, tokens, positions, cache=None, segments=None):
        """Logits [B, T, V] in float32, and the cache; see `hidden`."""
        x, cache = self.hidden(tokens, positions, cache, segments)
        return self.head(x), cache


def init_params(config: ModelConfig, key) -> dict:
    """Random float32 parameters of a decoder."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    # Compiled as a whole: dozens of small programs would take longer.
    return jax.jit(Transformer(config).init)(key, tokens, jnp.arange(2)[None])["params"]
