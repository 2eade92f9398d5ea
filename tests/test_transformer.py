"""The decoder is one function: cached, padded, packed, unrolled or windowed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params

from fr.models import Model
from fr.models.attention_scores import attention_mask
from fr.models.dense import dense_product
from fr.models.kv_cache import init_cache
from fr.models.model import positions_of
from fr.models.transformer import Transformer, unstack


@pytest.fixture(scope="module")
def tokens(tiny_config):
    return np.random.default_rng(0).integers(0, tiny_config.vocab, (3, 24))


def _close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5, rtol=0)


@functools.partial(jax.jit, static_argnums=0)
def _apply(config, params, tokens, positions, cache=None, segments=None):
    return Transformer(config).apply(
        {"params": params}, tokens, positions, cache, segments
    )


def _feed(config, params, tokens, cache, chunks):
    """Logits of `tokens`, fed through the cache in pieces of the given sizes."""
    out, start = [], 0
    for size in chunks:
        positions = np.broadcast_to(np.arange(start, start + size), (len(tokens), size))
        logits, cache = _apply(
            config, params, tokens[:, start : start + size], positions, cache
        )
        out.append(logits)
        start += size
    return np.concatenate(out, axis=1), cache


@pytest.mark.parametrize(
    "slots", [24, 31]
)  # a cache that is exactly full, and one with room
def test_cached_is_uncached(tiny_model, tokens, slots):
    cache = init_cache(tiny_model.config, 3, slots)
    cached, cache = _feed(
        tiny_model.config, tiny_model.params, tokens, cache, [10, 1, 1, 6, 6]
    )
    _close(cached, tiny_model.logits(tokens))
    assert not any(np.asarray(layer.k[..., 24:]).any() for layer in cache.layers)


def test_write_past_a_full_cache_changes_nothing(tiny_model, tokens):
    config, params = tiny_model.config, tiny_model.params
    _, full = _feed(config, params, tokens[:, :8], init_cache(config, 3, 8), [8])
    _, after = _apply(config, params, tokens[:, 8:9], np.full((3, 1), 8), full)
    jax.tree.map(np.testing.assert_array_equal, after, full)


def test_rows_with_their_own_cursors(tiny_model, tokens):
    config, params = tiny_model.config, tiny_model.params
    cache = init_cache(config, 3, 24)
    lengths = np.array([4, 9, 0])
    prefix = np.where(np.arange(9) < lengths[:, None], np.arange(9), -1)
    _, cache = _apply(config, params, tokens[:, :9], prefix, cache)
    for step in range(6):
        at = lengths + step
        logits, cache = _apply(
            config,
            params,
            np.take_along_axis(tokens, at[:, None], 1),
            at[:, None],
            cache,
        )
        wanted = np.take_along_axis(
            np.asarray(tiny_model.logits(tokens)), at[:, None, None], 1
        )
        _close(logits, wanted)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_change_nothing(tiny_model, tokens, rows, side):
    plain = tiny_model.logits(tokens[:rows])
    pads = ((0, 0), (7, 0) if side == "left" else (0, 7))
    padded = np.pad(tokens[:rows], pads, constant_values=tiny_model.stop_tokens[0])
    mask = np.pad(np.ones((rows, 24), bool), pads)
    logits = tiny_model.logits(padded, mask)
    assert np.isfinite(np.asarray(logits)).all()
    _close(logits[:, 7:] if side == "left" else logits[:, :24], plain)


def test_row_alone_is_row_in_a_batch(tiny_model, tokens):
    _close(tiny_model.logits(tokens[1:2])[0], tiny_model.logits(tokens)[1])


def test_scanned_is_unrolled(tiny_model, tokens):
    c, positions = tiny_model.config, positions_of(jnp.ones(tokens.shape, bool))
    inlined = {
        **tiny_model.params,
        "layers": unstack(tiny_model.params["layers"], c.layers),
    }
    _close(_apply(c, inlined, tokens, positions)[0], tiny_model.logits(tokens))


def test_packed_segments_are_alone(tiny_model, tokens):
    packed = np.concatenate([tokens[:1, :10], tokens[1:2, :14]], axis=1)
    positions = np.concatenate([np.arange(10), np.arange(14)])[None]
    segments = np.repeat([1, 2], [10, 14])[None]
    logits, _ = _apply(
        tiny_model.config, tiny_model.params, packed, positions, None, segments
    )
    _close(logits[:, :10], tiny_model.logits(tokens[:1, :10]))
    _close(logits[:, 10:], tiny_model.logits(tokens[1:2, :14]))


def test_visible_against_loops():
    query, key = (
        np.array([[-1, 0, 1, 5, 9]]),
        np.array([[-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
    )
    for window in (1, 3, 100):
        sees = [[0 <= k <= q and q - k < window for k in key[0]] for q in query[0]]
        np.testing.assert_array_equal(attention_mask(query, key, window)[0], sees)


def test_sliding_layers_see_their_window_only(tiny_config, tokens):
    sliding = dataclasses.replace(tiny_config, layers=1, window=5)
    model = Model(sliding, random_params(sliding), None)
    changed = tokens.copy()
    changed[:, 10] = (changed[:, 10] + 1) % sliding.vocab
    moved = (
        np.abs(np.asarray(model.logits(tokens) - model.logits(changed))).max(
            axis=(0, 2)
        )
        > 0
    )
    np.testing.assert_array_equal(np.flatnonzero(moved), np.arange(10, 15))


def test_full_layers_every_third(tiny_config):
    config = dataclasses.replace(tiny_config, layers=7, window=5, full_every=3)
    assert [config.slides(i) for i in range(7)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    cached_whole = init_cache(config, 1, 20)
    assert cached_whole.size == 20, (
        "sliding layers keep every entry, so that every prefix exists"
    )


def test_bfloat16_follows_float32(tiny_model, tokens):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_model.params)
    low = dataclasses.replace(tiny_model, params=half)
    assert low.dtype == jnp.bfloat16
    logits, exact = (
        np.asarray(low.logits(tokens)),
        np.asarray(tiny_model.logits(tokens)),
    )
    assert logits.dtype == np.float32
    assert np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    "inputs,outputs", [((6,), (4,)), ((6,), (2, 3)), ((2, 3), (5,))]
)
def test_a_dense_product_has_the_gradients_of_its_dot_general(inputs, outputs):
    draw = np.random.default_rng(0)
    x, kernel = (
        draw.standard_normal((3, 4, *inputs)),
        draw.standard_normal((*inputs, *outputs)),
    )
    weight = draw.standard_normal((3, 4, *outputs))
    axes = (tuple(range(2, 2 + len(inputs))), tuple(range(len(inputs))))
    ours = lambda x, kernel: (dense_product(x, kernel, (axes, ((), ()))) * weight).sum()
    theirs = lambda x, kernel: (
        jax.lax.dot_general(x, kernel, (axes, ((), ()))) * weight
    ).sum()
    for own, wanted in zip(
        jax.grad(ours, (0, 1))(x, kernel), jax.grad(theirs, (0, 1))(x, kernel)
    ):
        _close(own, wanted)
