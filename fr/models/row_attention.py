"""Attention that gives a token the same bits with a cache and in a whole sequence."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fr.models.attention import Attention
from fr.models.attention_scores import UNSEEN, Sight, attention_mask, capped
from fr.models.blockwise_attention import attend_blockwise
from fr.models.row_products import RowNorm, row_product

# Sizes of a block. A cache of the token loop has a multiple of 32 entries.
_QUERIES, _KEYS = 8, 32


class RowAttention(Attention):
    """`Attention` by blocks of one shape; trees after a cache are read as before.

    A token of a whole sequence must have its index as its position, as in the scorer
    and in updates; tokens of packed sequences (`segments`) are refused.
    """

    def _parts(self, tree):
        return (row_product, RowNorm) if tree is None else super()._parts(tree)

    def _attended(self, q, k, v, layer, positions, segments, cache, tree, recent):
        if tree is not None:
            given = layer, positions, segments, cache, tree, recent
            return super()._attended(q, k, v, *given)
        if segments is not None or recent is not None:
            raise NotImplementedError("rows by blocks are not packed, and on CPUs only")
        sight = positions, layer.window, self.config.attention_softcap
        if cache is None:
            return _attend_own(q, k, v, *sight), None
        cache = cache.write(positions, k, v)
        keys = cache.k if cache.layout.entries_last else cache.k.mT
        return attend_rows(q, keys, cache.v, *sight), cache


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend_own(q, k, v, positions, window, softcap):
    k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
    return attend_rows(q, k, v, positions, window, softcap)


def _forward(q, k, v, positions, window, softcap):
    found = _attend_own(q, k, v, positions, window, softcap)
    return found, (q, k, v, positions, window)


def _backward(softcap, kept, above):
    q, k, v, positions, window = kept
    sight = Sight(positions, None, window)
    attend = lambda q, k, v: attend_blockwise(q, k, v, sight, softcap)
    return *jax.vjp(attend, q, k, v)[1](above), None, None


_attend_own.defvjp(_forward, _backward)


def attend_rows(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K H S"],
    v: Float[Array, "B K S H"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | int,
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention, `_QUERIES` queries of a row and `_KEYS` keys at a time.

    Sums over keys go on from block to block (arXiv 1805.02867). A block without a key
    in sight multiplies them by 1 and adds 0, so that the number of blocks changes no
    bit.

    Args:
        q: Scaled queries.
        k: Keys, rotated; entry s is at position s.
        v: Values.
        positions: Positions of the queries; -1 marks a pad.
        window: Tokens in sight, the own one included.
        softcap: Scores s become softcap * tanh(s / softcap); 0: they stay.

    Returns:
        Weighted values.
    """
    b, t, n, h = q.shape
    groups, each, turns = v.shape[1], n // v.shape[1], -(-t // _QUERIES)
    k, v = _filled(k, 3, _KEYS), _filled(v, 2, _KEYS)
    q = _filled(q, 1, _QUERIES).reshape(b, turns, _QUERIES, groups, each, h)
    q = q.transpose(0, 1, 3, 4, 2, 5).reshape(b * turns, groups, -1, h)
    places = _filled(positions, 1, _QUERIES, -1).reshape(b * turns, _QUERIES)
    product = functools.partial(
        jax.lax.dot_general,
        dimension_numbers=(((2,), (1,)), ((0,), (0,))),
        preferred_element_type=jnp.float32,
    )
    part = lambda x, at, size: jax.lax.dynamic_slice(x, at, (1, groups, *size))[0]

    def turn(given):
        number, queries, place = given
        row = number // turns

        def block(j, sums):
            top, total, out = sums
            begin = j * _KEYS
            entries = begin + jnp.arange(_KEYS, dtype=jnp.int32)
            seen = attention_mask(place[None], entries[None], window)
            mask = jnp.broadcast_to(seen, (each, _QUERIES, _KEYS)).reshape(-1, _KEYS)
            scores = product(queries, part(k, (row, 0, 0, begin), (h, _KEYS)))
            scores = jnp.where(mask, capped(scores, softcap), UNSEEN)
            new = jnp.maximum(top, jnp.max(scores, axis=-1, keepdims=True))
            weights = jnp.where(mask, jnp.exp(scores - new), 0.0)
            kept = jnp.exp(top - new)
            total = total * kept + jnp.sum(weights, axis=-1, keepdims=True)
            more = product(weights, part(v, (row, 0, begin, 0), (_KEYS, h)))
            return new, total, out * kept + more

        shape = groups, each * _QUERIES
        begun = (
            jnp.full((*shape, 1), UNSEEN),
            jnp.zeros((*shape, 1)),
            jnp.zeros((*shape, h)),
        )
        # Up to the last query's own entry: work follows the length of the row.
        blocks = jnp.max(place) // _KEYS + 1
        _, total, out = jax.lax.fori_loop(0, blocks, block, begun)
        return out / jnp.where(total > 0, total, 1.0)

    out = jax.lax.map(turn, (jnp.arange(b * turns, dtype=jnp.int32), q, places))
    out = out.reshape(b, turns, groups, each, _QUERIES, h).transpose(0, 1, 4, 2, 3, 5)
    return out.reshape(b, -1, n, h)[:, :t].astype(v.dtype)


def _filled(x: Array, axis: int, unit: int, value=0) -> Array:
    """An array with an axis padded to a multiple of `unit`."""
    pads = [(0, -x.shape[i] % unit * (i == axis)) for i in range(x.ndim)]
    return jnp.pad(x, pads, constant_values=value)
