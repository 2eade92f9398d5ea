"""Attention in blocks of queries is the attention that makes every score."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.models.attention_scores import Sight
from fr.models.blockwise_attention import attend_blockwise

ROWS, HEADS, SIZE = 2, 4, 8


def given(tokens, groups, seed=0):
    """Queries, keys and values, positions with pads, segments with one that all see."""
    rng = np.random.default_rng(seed)
    draw = lambda heads: rng.normal(size=(ROWS, tokens, heads, SIZE)).astype(np.float32)
    # A prefix that all see, then sides that go on from it; the last three are pads.
    lengths = (tokens // 4, tokens // 3, tokens - tokens // 4 - tokens // 3 - 3)
    segments = np.repeat([-1, 0, 1, 0], [*lengths, 3])
    begin = lengths[0]
    places = [begin + np.arange(length) for length in lengths[1:]]
    positions = np.concatenate([np.arange(begin), *places, np.full(3, -1)])
    both = lambda x: jnp.asarray(np.repeat(x[None], ROWS, 0), jnp.int32)
    return (draw(HEADS), draw(groups), draw(groups)), both(positions), both(segments)


def every_score(q, k, v, sees, softcap):
    """Softmax over all scores, in the plainest form."""
    k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k)
    if softcap:
        scores = softcap * jnp.tanh(scores / softcap)
    probs = jax.nn.softmax(jnp.where(sees[:, None], scores, -1e30), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", probs, v)


def seen(positions, segments, window):
    """Table of what each token sees, by loops."""
    table = np.zeros((*positions.shape, positions.shape[1]), bool)
    for row, t, s in itertools.product(*map(range, table.shape)):
        (p, o), (a, b) = positions[row, [t, s]], segments[row, [t, s]]
        table[row, t, s] = 0 <= o <= p and p - o < window and (b < 0 or a == b)
    return table


@pytest.mark.parametrize(
    "tokens, groups, softcap, window",
    [
        (40, 4, 0.0, 1000),  # one block
        (150, 2, 0.0, 1000),
        (150, 1, 5.0, 20),
        pytest.param(64 * 8 + 30, 4, 0.0, 100, marks=pytest.mark.slow),  # larger blocks
    ],
)
def test_outputs_and_gradients_are_those_of_all_scores(tokens, groups, softcap, window):
    (q, k, v), positions, segments = given(tokens, groups)
    sees = seen(np.asarray(positions), np.asarray(segments), window)
    sight = Sight(positions, segments, window)
    # What pads give means nothing.
    weights = (
        np.random.default_rng(1).normal(size=q.shape)
        * (np.asarray(positions) >= 0)[..., None, None]
    )
    ours = lambda *x: jnp.sum(weights * attend_blockwise(*x, sight, softcap))
    plain = lambda *x: jnp.sum(weights * every_score(*x, sees, softcap))
    real = np.asarray(positions[0]) >= 0
    np.testing.assert_allclose(
        attend_blockwise(q, k, v, sight, softcap)[:, real],
        every_score(q, k, v, sees, softcap)[:, real],
        atol=2e-6,
    )
    for found, wanted in zip(
        jax.jit(jax.grad(ours, (0, 1, 2)))(q, k, v),
        jax.jit(jax.grad(plain, (0, 1, 2)))(q, k, v),
    ):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_no_segments_are_one():
    (q, k, v), positions, segments = given(70, 2)
    one = jnp.zeros_like(segments)
    found = [
        attend_blockwise(q, k, v, Sight(positions, own, 30), 0.0) for own in (None, one)
    ]
    np.testing.assert_array_equal(*found)


def test_a_gradient_keeps_no_scores():
    (q, k, v), positions, segments = given(512, 2)
    sight = Sight(positions, segments, 1000)

    def kept(q, k, v):
        return jax.vjp(lambda *x: attend_blockwise(*x, sight, 0.0), q, k, v)[1]

    sizes = [x.size for x in jax.tree.leaves(jax.eval_shape(kept, q, k, v))]
    assert max(sizes) <= q.size  # all scores would be 16 times as many
