"""Attention among the tokens of whole sequences, in blocks of queries."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fr.models.attention_scores import (
    UNSEEN,
    Sight,
    by_group,
    by_token,
    flat,
    product,
    scores_of,
)

_BLOCK, _BLOCKS = 64, 8  # queries in a block at least, blocks of a sequence at most


def attend_blockwise(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    sight: Sight,
    softcap: float,
) -> Float[Array, "B T N H"]:
    """Grouped-query attention in which a token sees tokens of its row before it only.

    o_t = sum_s softmax_s(q_t k_s) v_s. A block of queries meets the keys up to its own
    end, so that about half of the scores are never made. A gradient makes the scores of
    a block again from the sum that normalises them (arXiv 2205.14135): what is kept
    grows with the tokens, not with their square.

    Args:
        q: Scaled queries.
        k: Keys, rotated; K divides N.
        v: Values.
        sight: What each token sees, among tokens of smaller or equal index.
        softcap: Scores s become softcap * tanh(s / softcap); 0: they stay.

    Returns:
        Weighted values; scores and their sums are float32.
    """
    q = by_group(q, k.shape[2])
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    return by_token(_attend(q, k, v, sight, softcap))


def _blocks(tokens: int) -> list[tuple[int, int]]:
    """Begin and end of each block of queries."""
    size = max(_BLOCK, -(-tokens // (_BLOCKS * _BLOCK)) * _BLOCK)
    return [(begin, min(begin + size, tokens)) for begin in range(0, tokens, size)]


def work_space(rows: int, heads: int, tokens: int) -> int:
    """Bytes that the gradient of one layer's attention holds at one time.

    Args:
        rows: Sequences, B.
        heads: Heads of queries, N.
        tokens: Tokens of a sequence, T.

    Returns:
        Bytes: scores of a block, their weights and their gradient.
    """
    begin, end = _blocks(tokens)[0]
    return 3 * 4 * rows * heads * (end - begin) * tokens


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, sight, softcap):
    return _forward(q, k, v, sight, softcap)[0]


def _forward(q, k, v, sight, softcap):
    outs, norms = [], []
    for begin, end in _blocks(k.shape[2]):
        mask = sight.mask(begin, end)[:, None, None]
        scores = scores_of(q[:, :, :, begin:end], k[:, :, :end], softcap)
        scores = jnp.where(mask, scores, UNSEEN)
        top = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = product(flat(weights).astype(v.dtype), v[:, :, :end], 3, 2)
        outs.append(out.reshape(*total.shape[:-1], -1) / total)
        norms.append(top + jnp.log(total))
    out, norm = (jnp.concatenate(parts, axis=3) for parts in (outs, norms))
    return out.astype(v.dtype), (q, k, v, sight, out, norm)


def _backward(softcap, kept, above):
    """dS = P (dP - sum_s dP P), with P made again from scores and their sum."""
    q, k, v, sight, out, norm = kept
    above = above.astype(jnp.float32)
    along = jnp.sum(above * out, axis=-1, keepdims=True)
    of_q = []
    of_k, of_v = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for begin, end in _blocks(k.shape[2]):
        here = lambda x, begin=begin, end=end: x[:, :, :, begin:end]
        scores = scores_of(here(q), k[:, :, :end], softcap)
        mask = sight.mask(begin, end)[:, None, None]
        probs = jnp.where(mask, jnp.exp(scores - here(norm)), 0.0)
        narrow = flat(here(above)).astype(v.dtype)
        of_probs = product(narrow, v[:, :, :end], 3, 3).reshape(scores.shape)
        of_scores = probs * (of_probs - here(along))
        if softcap:
            of_scores *= 1.0 - jnp.square(scores / softcap)
        sums = flat(of_scores).astype(k.dtype)
        of_q.append(product(sums, k[:, :, :end], 3, 2).reshape(here(q).shape))
        of_k = of_k.at[:, :, :end].add(product(sums, flat(here(q)), 2, 2))
        probs = flat(probs).astype(v.dtype)
        of_v = of_v.at[:, :, :end].add(product(probs, narrow, 2, 2))
    whole = jnp.concatenate(of_q, axis=3).astype(q.dtype)
    return whole, of_k.astype(k.dtype), of_v.astype(v.dtype), None


_attend.defvjp(_forward, _backward)
