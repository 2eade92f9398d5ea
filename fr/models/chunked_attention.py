"""Attention of long sequences: a softmax over blocks of keys that come in turn."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fr.models.attention_scores import (
    UNSEEN,
    Sight,
    by_group,
    by_token,
    capped,
    flat,
    product,
    scores_of,
)
from fr.models.kv_cache import LayerCache

BLOCK = 1024  # queries and keys whose scores exist at one time
_LEAST = 1e-30  # sum of weights of a query that no block was read for


class _Partial(NamedTuple):
    """Softmax and weighted sum over the keys so far.

    The sum of values is out = sum_s exp(score_s - top) v_s, and total is the same sum
    of ones (arXiv 1805.02867).
    """

    out: Float[Array, "B K G T H"]
    top: Float[Array, "B K G T 1"]
    total: Float[Array, "B K G T 1"]

    def add(self, scores: Array, v: Array) -> "_Partial":
        """With scores [B K G T S] and values [B K S H] of more keys."""
        top = jnp.maximum(self.top, jnp.max(scores, axis=-1, keepdims=True))
        weights, less = jnp.exp(scores - top), jnp.exp(self.top - top)
        out = product(flat(weights).astype(v.dtype), v, 3, 2).reshape(self.out.shape)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return _Partial(less * self.out + out, top, less * self.total + total)


def _nothing(q: Array) -> _Partial:
    # Zeros that wait for the queries: else a GPU makes zeros for all layers at once.
    zero = (q[..., :1] < -jnp.inf).astype(jnp.float32)
    return _Partial(jnp.broadcast_to(zero, q.shape), zero + UNSEEN, zero)


def attend_chunked(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    sight: Sight,
    softcap: float,
    block: int = BLOCK,
) -> Float[Array, "B T N H"]:
    """`attend_blockwise` for long sequences: blocks of keys as well as of queries.

    Scores exist for one pair of blocks at a time, in the gradient, too. Pairs of which
    no query sees a key are left out.

    Args:
        q: Scaled queries.
        k: Keys, rotated; K divides N.
        v: Values.
        sight: What each token sees, among tokens of smaller or equal index.
        softcap: Scores s become softcap * tanh(s / softcap); 0: they stay.
        block: Tokens of a block.

    Returns:
        Weighted values; scores and their sums are float32.
    """
    t = q.shape[1]
    block = min(block, -(-t // 32) * 32)
    more = -t % block
    longer = lambda x, value=0: jnp.pad(
        x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2), constant_values=value
    )
    q, k, v = map(longer, (q, k, v))
    segments = None if sight.segments is None else longer(sight.segments)
    sight = Sight(longer(sight.positions, -1), segments, sight.window)
    q = by_group(q, k.shape[2])
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    return by_token(_attend(q, k, v, sight, softcap, block))[:, :t]


def _near(sight: Sight, block: int) -> Bool[Array, "n n"] | None:
    """Pairs of blocks of which a query may see a key; None: all."""
    if sight.segments is None and sight.window is None:
        return None
    cut = lambda x: x.reshape(len(x), -1, block)
    positions, far = cut(sight.positions), np.iinfo(np.int32).max
    real = positions >= 0
    first = lambda x: jnp.min(jnp.where(real, x, far), axis=2)
    last = lambda x: jnp.max(jnp.where(real, x, -far), axis=2)
    # The largest window, less a position, is a number still.
    window = far if sight.window is None else sight.window
    near = last(positions)[:, None] > first(positions)[:, :, None] - window
    if sight.segments is not None:
        segments = cut(sight.segments)
        low, high = first(segments), last(segments)
        both = (low[:, None] <= high[:, :, None]) & (low[:, :, None] <= high[:, None])
        near &= both | (low < 0)[:, None]
    return jnp.any(near, axis=0)


def _over_pairs(sight: Sight, block: int, step: Callable, start, places: tuple):
    """Change blocks of arrays for all blocks of queries i and of keys j <= i.

    `step` (i, j, mask, blocks) gives the new blocks; place 0 is block i, place 1 is j.
    """
    count = sight.positions.shape[1] // block
    queries, keys = np.tril_indices(count)
    near = _near(sight, block)
    part = lambda x, i: jax.lax.dynamic_slice_in_dim(x, i * block, block, 1)

    def pair(index, carry):
        at = jnp.asarray(queries)[index], jnp.asarray(keys)[index]
        both = lambda x: (part(x, at[0]), part(x, at[1]))
        old = tuple(_of(x, at[place], block) for x, place in zip(carry, places))
        read = lambda: step(*at, sight.between(both)[:, None, None], old)
        # Blocks only: a branch that had the arrays would copy them.
        new = read() if near is None else jax.lax.cond(near[at], read, lambda: old)
        put = lambda x, y, place: jax.lax.dynamic_update_slice_in_dim(
            x, y, at[place] * block, x.ndim - 2
        )
        return tuple(map(put, carry, new, places))

    return jax.lax.fori_loop(0, len(queries), pair, start)


def _of(x: Array, i: Array, block: int) -> Array:
    """Block i of [B K T H] or [B K G T H]."""
    return jax.lax.dynamic_slice_in_dim(x, i * block, block, x.ndim - 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(q, k, v, sight, softcap, block):
    return _forward(q, k, v, sight, softcap, block)[0]


def _forward(q, k, v, sight, softcap, block):
    def step(i, j, mask, old):
        scores = scores_of(_of(q, i, block), _of(k, j, block), softcap)
        scores = jnp.where(mask, scores, UNSEEN)
        return tuple(_Partial(*old).add(scores, _of(v, j, block)))

    start = tuple(_nothing(q))
    found = _Partial(*_over_pairs(sight, block, step, start, (0, 0, 0)))
    total = jnp.maximum(found.total, _LEAST)
    out, norm = found.out / total, found.top + jnp.log(total)
    return out.astype(v.dtype), (q, k, v, sight, out, norm)


def _backward(softcap, block, kept, above):
    """As for blocks of queries: dS = P (dP - sum_s dP P)."""
    q, k, v, sight, out, norm = kept
    along = jnp.sum(above.astype(jnp.float32) * out, axis=-1, keepdims=True)
    narrow = above.astype(v.dtype)

    def step(i, j, mask, old):
        here, there = (functools.partial(_of, i=at, block=block) for at in (i, j))
        scores = scores_of(here(q), there(k), softcap)
        probs = jnp.where(mask, jnp.exp(scores - here(norm)), 0.0)
        given = flat(here(narrow))
        of_probs = product(given, there(v), 3, 3).reshape(scores.shape)
        of_scores = probs * (of_probs - here(along))
        if softcap:
            of_scores *= 1.0 - jnp.square(scores / softcap)
        sums, probs = flat(of_scores).astype(k.dtype), flat(probs).astype(v.dtype)
        more = (
            product(sums, there(k), 3, 2).reshape(here(q).shape),
            product(sums, flat(here(q)), 2, 2),
            product(probs, given, 2, 2),
        )
        return tuple(map(jnp.add, old, more))

    zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
    grads = _over_pairs(sight, block, step, zeros, (0, 1, 1))
    return *(x.astype(y.dtype) for x, y in zip(grads, (q, k, v))), None


_attend.defvjp(_forward, _backward)


def attend_entries(
    q: Float[Array, "B T N H"],
    cache: LayerCache,
    rows: Int[Array, "B"] | None,
    seen: Callable[[Int[Array, "B S"]], Bool[Array, "B T S"]],
    own: tuple[Array, Array, Array] | None,
    softcap: float,
    block: int = BLOCK,
) -> Float[Array, "B T N H"]:
    """Attention of some tokens to the entries of a long cache, without a gradient.

    Args:
        q: Scaled queries.
        cache: The cache; entries are read a block at a time.
        rows: Its row of each sequence; None: sequence b has row b.
        seen: Gives the mask of entries by their index.
        own: Keys and values [B, T, K, H] of the new tokens and what they see of each
            other [B, T, T]; None: the cache has them.
        softcap: As in `attend_chunked`.
        block: Entries of a block.

    Returns:
        Weighted values.
    """
    b, size = len(q), cache.size
    block = min(block, size)
    queries = by_group(q, cache.v.shape[1])

    def step(j, found: _Partial) -> _Partial:
        # The last block begins earlier if it would reach beyond the last entry.
        begin = jnp.minimum(j * block, size - block)
        entries = jnp.broadcast_to(begin + jnp.arange(block), (b, block))
        mask = seen(entries) & (entries >= j * block)[:, None]
        part = cache.part(begin, block, rows)
        if part.layout.entries_last:
            scores = product(flat(queries), part.k, 3, 2)
            scores = capped(scores.reshape(*queries.shape[:4], block), softcap)
        else:
            scores = scores_of(queries, part.k, softcap)
        return found.add(jnp.where(mask[:, None, None], scores, UNSEEN), part.v)

    found = jax.lax.fori_loop(0, -(-size // block), step, _nothing(queries))
    if own is not None:
        k, v = (x.transpose(0, 2, 1, 3).astype(cache.v.dtype) for x in own[:2])
        scores = scores_of(queries, k, softcap)
        found = found.add(jnp.where(own[2][:, None, None], scores, UNSEEN), v)
    return by_token((found.out / found.total).astype(cache.v.dtype))
