"""Attention of one layer: caches, masks, and the ways to attend."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from fr.models.attention_kernels import KERNELS, attend_by_kernel, check_kernel
from fr.models.attention_scores import (
    UNSEEN,
    Sight,
    attention_mask,
    by_group,
    by_token,
    capped,
    flat,
)
from fr.models.blockwise_attention import attend_blockwise
from fr.models.chunked_attention import attend_chunked, attend_entries
from fr.models.config import LayerData, ModelConfig
from fr.models.dense import dense_product
from fr.models.kv_cache import LayerCache, Recent
from fr.models.ragged_attention import (
    Live,
    Stacked,
    attend_first,
    live_entries,
    sight_of,
    takes_lengths,
)
from fr.models.rope import Rotation, apply_rope

SHORT = 4096  # tokens or entries whose scores may exist at one time


@struct.dataclass
class TreeMask:
    """New tokens in trees after prefixes of cached rows; the cache is not written.

    Attributes:
        rows: Cached row of each sequence of new tokens.
        prefix: Cache entries that a token sees: those before this one.
        sees: New tokens that a token sees.
        gives: In place of a cache the layers give keys and values [R, K, T, H] of the
            new tokens.
    """

    rows: Int[Array, "R"]
    prefix: Int[Array, "R T"]
    sees: Bool[Array, "R T T"]
    gives: bool = struct.field(pytree_node=False, default=False)


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
        scale = scale + 1.0 if self.unit_offset else scale
        return self._normed(scale, x.astype(jnp.float32)).astype(x.dtype)

    def _normed(self, scale: Array, x: Array) -> Array:
        return rms_normed(self.eps, scale, x)


def rms_normed(
    eps: float, scale: Float[Array, "D"], x: Float[Array, "... D"]
) -> Float[Array, "... D"]:
    """Values over their root mean square, times a scale.

    Args:
        eps: Added to the mean square.
        scale: Scale of each value.
        x: Values.

    Returns:
        x / sqrt(mean(x^2) + eps) * scale.
    """
    mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean + eps) * scale


def _attend(
    q: Float[Array, "B T N H"],
    cache: LayerCache,
    mask: Bool[Array, "B T S"],
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention of scaled queries [B, T, N, H]; scores and softmax are
    float32.
    """
    (b, t, _, h), groups = q.shape, cache.v.shape[1]
    q = _queries_first(q, groups)
    product = lambda x, y, axis, kind=None: jax.lax.dot_general(
        x, y, (((3,), (axis,)), ((0, 1), (0, 1))), preferred_element_type=kind
    )
    scores = product(q, cache.k, 2 if cache.layout.entries_last else 3, jnp.float32)
    scores = capped(scores.reshape(b, groups, -1, t, cache.size), softcap)
    scores = jnp.where(mask[:, None, None], scores, UNSEEN)
    probs = jax.nn.softmax(scores, axis=-1).astype(cache.v.dtype)
    out = product(probs.reshape(b, groups, -1, cache.size), cache.v, 2)
    return by_token(out.reshape(b, groups, -1, t, h))


def _queries_first(q: Float[Array, "B T N H"], groups: int) -> Float[Array, "B K M H"]:
    """Queries first, and the queries of a head together: a product with the cache on
    its left takes three times as long on a CPU.
    """
    return flat(by_group(q, groups))


def _attend_parts(
    q: Float[Array, "B 1 N H"],
    parts: list[tuple],
    softcap: float,
    before: tuple[Live, ...],
) -> Float[Array, "B 1 N H"]:
    """`_attend` of one query a row over several arrays of keys, values and masks,
    [B, K, S, H] and [B, S], and over what `Live` values have: one softmax for all.
    """
    groups, kind = parts[0][0].shape[1], jnp.float32
    product = lambda x, y, axis: jax.lax.dot_general(
        x, y, (((3,), (axis,)), ((0, 1), (0, 1))), preferred_element_type=kind
    )
    queries = _queries_first(q, groups)

    def scores(k, mask):
        found = capped(product(queries, k, 3), softcap)
        return jnp.where(mask[:, None, None], found, UNSEEN)

    found = [scores(k, mask) for k, _, mask in parts]
    tops = [jnp.max(each, axis=-1, keepdims=True) for each in found]
    top = functools.reduce(jnp.maximum, [live.top for live in before] + tops)
    weights = [jnp.exp(each - top) for each in found]
    less = [jnp.exp(live.top - top) for live in before]
    add = functools.partial(functools.reduce, jnp.add)
    total = add(
        [live.total * each for live, each in zip(before, less)]
        + [jnp.sum(each, axis=-1, keepdims=True) for each in weights]
    )
    out = add(
        [live.out * each for live, each in zip(before, less)]
        + [product(w.astype(v.dtype), v, 2) for w, (_, v, _) in zip(weights, parts)]
    )
    return (out / total).astype(q.dtype).reshape(q.shape)


class Attention(nn.Module):
    """Self-attention of one layer: over its own tokens, a cache, or a tree.

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
        rope: Rotation,
        positions,
        segments,
        cache,
        tree,
        recent=None,
    ):
        c = self.config
        product, norm = self._parts(tree)
        dense = functools.partial(
            nn.DenseGeneral, dtype=self.dtype, dot_general=product
        )
        q = dense((c.heads, c.head_dim), use_bias=c.qkv_bias, name="q")(x)
        k = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="k")(x)
        v = dense((c.kv_heads, c.head_dim), use_bias=c.qkv_bias, name="v")(x)
        if c.qk_norm:
            q = norm(c.norm_eps, c.unit_offset, name="q_norm")(q)
            k = norm(c.norm_eps, c.unit_offset, name="k_norm")(k)
        sin, cos = rope.sin[layer.rope], rope.cos[layer.rope]
        q = apply_rope(q, sin, cos) * jnp.asarray(c.scale, q.dtype)
        k = apply_rope(k, sin, cos)
        given = layer, positions, segments, cache, tree, recent
        out, cache = self._attended(q, k, v, *given)
        return dense(c.width, axis=(-2, -1), use_bias=False, name="o")(out), cache

    def _parts(self, tree: TreeMask | None) -> tuple[Callable, type[RMSNorm]]:
        """The product and the norm of the layer."""
        return dense_product, RMSNorm

    def _attended(self, q, k, v, layer, positions, segments, cache, tree, recent):
        """Weighted values, and what becomes of the cache."""
        c = self.config
        window, cap = layer.window if c.window else None, c.attention_softcap
        if self.attention == "ragged":
            check_kernel(self.attention, c, self.dtype)
        if tree is None and cache is None:
            out = self._whole(q, k, v, Sight(positions, segments, window))
        elif recent is not None:
            before: tuple[Live, ...] = ()
            if isinstance(cache, Stacked):
                sight = sight_of(positions, recent.step, window)
                before, cache = (live_entries(q, cache, *sight, cap),), None
            parts, cache = _with_recent(cache, recent, window, positions, k, v)
            out = _attend_parts(q, parts, cap, before)
        elif q.shape[1] > 1 and self._by_chunks(cache.size, tree):
            given = cache, tree, window, positions, k, v
            out, cache = _attend_long(q, *given, cap)
        else:
            if tree is not None:
                own, mask = _with_cached_prefix(cache, tree, window, positions, k, v)
                cache = None
            else:
                own = cache = cache.write(positions, k, v)
                if self._by_first(q, cache, window):
                    return attend_first(q, cache, positions[:, 0] + 1), cache
                entries = _entries(len(q), own.size)
                mask = attention_mask(positions, entries, window)
            out = _attend(q, own, mask, cap)
        return out, cache

    def _by_first(self, q, cache: LayerCache, window) -> bool:
        """True if the step of one token reads the live entries of a cache on a GPU.

        Layers are inlined there, so that a window is a number.
        """
        return (
            self.attention == "ragged"
            and q.shape[1] == 1
            and takes_lengths(self.config, cache)
            and (window is None or int(window) >= cache.size)
        )

    def _by_chunks(self, length: int, tree: TreeMask | None = None) -> bool:
        """True if `length` keys come in turn."""
        if self.attention == "chunked" or tree is not None and tree.gives:
            return True
        return self.attention != "xla" and length > SHORT

    def _whole(self, q, k, v, sight: Sight):
        """Attention among the tokens of whole sequences."""
        c = self.config
        if self.attention in KERNELS:
            check_kernel(self.attention, c, self.dtype)
            if sight.segments is None:
                return attend_by_kernel(
                    self.attention, q, k, v, *sight[::2], config=c, mesh=self.mesh
                )
        whole = attend_chunked if self._by_chunks(q.shape[1]) else attend_blockwise
        return whole(q, k, v, sight, c.attention_softcap)


def _entries(rows: int, size: int) -> Int[Array, "B S"]:
    """Positions of cache entries.

    All entries up to a query's own are live, so the index is all that a mask needs.
    """
    return jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (rows, size))


def _with_cached_prefix(cache: LayerCache, tree: TreeMask, window, positions, k, v):
    """Cached keys and values followed by the new tokens' own, and the mask."""
    old = cache.take(tree.rows)
    entries = _entries(positions.shape[0], old.size)
    before = attention_mask(positions, entries, window) & (
        entries[:, None] < tree.prefix[:, :, None]
    )
    among = attention_mask(positions, positions, window) & tree.sees
    return old.followed_by(k, v), jnp.concatenate([before, among], axis=-1)


def _attend_long(q, cache: LayerCache, tree, window, positions, k, v, softcap):
    """Attention to a long cache by blocks of entries, and what becomes of the cache."""
    seen = lambda entries: attention_mask(positions, entries, window)
    if tree is None:
        cache = cache.write(positions, k, v)
        return attend_entries(q, cache, None, seen, None, softcap), cache
    before = lambda entries: seen(entries) & (entries[:, None] < tree.prefix[..., None])
    among = attention_mask(positions, positions, window) & tree.sees
    out = attend_entries(q, cache, tree.rows, before, (k, v, among), softcap)
    new = tuple(x.transpose(0, 2, 1, 3).astype(cache.v.dtype) for x in (k, v))
    return out, new if tree.gives else None


def _with_recent(cache: LayerCache | None, recent: Recent, window, positions, k, v):
    """Keys, values and masks of all that one token per row sees: the cache before the
    chunk, if it is given, the chunk's entries, and itself; and its own key and value
    [B, K, 1, H].
    """
    rows = positions.shape[0]
    start = positions - recent.step
    later = start + jnp.arange(recent.k.shape[-2])
    among = later < positions
    if window is not None:
        among &= later > positions - window
    k, v = (x.transpose(0, 2, 1, 3).astype(recent.v.dtype) for x in (k, v))
    parts = [(recent.k, recent.v, among), (k, v, jnp.ones((rows, 1), bool))]
    if cache is not None:
        entries = _entries(rows, cache.size)
        before = attention_mask(positions, entries, window)[:, 0] & (entries < start)
        parts = [(cache.k, cache.v, before), *parts]
    return parts, (k, v)
