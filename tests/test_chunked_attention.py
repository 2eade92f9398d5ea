"""Attention of long sequences and caches, in chunks and by kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_blockwise_attention import every_score, given, seen

from fr.errors import UserError
from fr.models.attention_kernels import check_kernel, splash_attention
from fr.models.attention_scores import Sight, attention_mask
from fr.models.chunked_attention import attend_chunked, attend_entries
from fr.models.config import PLATFORM, ModelConfig
from fr.models.kv_cache import LayerCache, init_cache
from fr.models.layouts import LAYOUTS
from fr.models.transformer import Transformer, init_params
from fr.sampling import transitions
from fr.sampling.scheduler import Admission
from fr.sampling.state import ModelParams, Reading, init_prompt_cache
from fr.sampling.transitions import rows_in_turn
from fr.types import Request

SHAPE = ModelConfig(
    vocab=32, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, ff=16
)


@pytest.mark.parametrize(
    "softcap, window, packed",
    [
        (5.0, 20, True),
        (0.0, 30, False),
        pytest.param(0.0, None, True, marks=pytest.mark.slow),
    ],
)
def test_outputs_and_gradients_are_those_of_all_scores(softcap, window, packed):
    (q, k, v), positions, segments = given(90, 2)
    if not packed:  # pads come first, and blocks of 32 are beyond the window
        positions = jnp.maximum(jnp.arange(90) - 3, -1) + jnp.zeros_like(positions)
    own = segments if packed else jnp.zeros_like(segments)
    sees = seen(np.asarray(positions), np.asarray(own), window or 1000)
    sight = Sight(positions, segments if packed else None, window)
    real = np.asarray(positions) >= 0
    weights = np.random.default_rng(1).normal(size=q.shape) * real[..., None, None]
    ours = lambda *x: attend_chunked(*x, sight, softcap, 32)
    plain = lambda *x: every_score(*x, sees, softcap)
    both = lambda fn: jax.jit(
        jax.value_and_grad(lambda *x: jnp.sum(weights * fn(*x)), (0, 1, 2))
    )(q, k, v)
    (value, found), (wanted, grads) = both(ours), both(plain)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    for one, other in zip(found, grads):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_gradient_keeps_no_scores():
    (q, k, v), positions, segments = given(512, 2)
    sight = Sight(positions, segments, 1000)

    def kept(q, k, v):
        return jax.vjp(lambda *x: attend_chunked(*x, sight, 0.0, 64), q, k, v)[1]

    sizes = [x.size for x in jax.tree.leaves(jax.eval_shape(kept, q, k, v))]
    assert max(sizes) <= 1.25 * q.size  # all scores would be 64 times as many


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_entries_of_a_cache_come_in_turn(platform):
    (q, k, v), positions, _ = given(150, 2)
    positions = jnp.arange(150) + jnp.zeros_like(positions)
    layout = LAYOUTS[platform]
    order = (0, 2, 3, 1) if layout.entries_last else (0, 2, 1, 3)
    keys, values = jnp.transpose(k, order), jnp.transpose(v, (0, 2, 1, 3))
    cache = LayerCache(keys[::-1], values[::-1], layout)
    new = slice(110, 150)
    seen_by = lambda entries: attention_mask(positions[:, new], entries, 60)
    every = attention_mask(positions, positions, 60)
    wanted = every_score(q, k, v, every, 5.0)[:, new]
    rows = jnp.array([1, 0])
    # Blocks of 64 do not divide 150 entries, nor 110.
    own = k[:, new], v[:, new], every[:, new, new]

    @jax.jit
    def read(q, cache):
        given = rows, seen_by
        return (
            attend_entries(q, cache, *given, None, 5.0, 64),
            attend_entries(q, cache.first(110), *given, own, 5.0, 64),
        )

    for found in read(q[:, new], cache):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_the_setting_changes_the_way_and_not_the_result():
    params = init_params(SHAPE, jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 40), 0, 32)
    positions = jnp.broadcast_to(jnp.arange(40), tokens.shape)

    def states(attention):
        model = Transformer(SHAPE, attention=attention)
        read = lambda *args: model.apply({"params": params}, *args, method="hidden")

        @jax.jit
        def run(tokens, positions):
            cache = init_cache(SHAPE, 2, 64, layout=LAYOUTS["tpu"])
            whole, _ = read(tokens, positions)
            return whole, read(tokens, positions, cache)[0]

        return run(tokens, positions)

    wanted, _ = states("xla")
    for found in states("chunked"):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_splash_is_the_attention_of_all_scores():
    (q, k, v), _, _ = given(60, 2)
    q, k, v = q[:1, :, :2], k[:1, :, :1], v[:1, :, :1]
    positions = jnp.where(jnp.arange(60) < 50, jnp.arange(60), -1)[None]
    sees = seen(np.asarray(positions), np.zeros((1, 60), int), 20)
    weights = np.arange(q.size).reshape(q.shape) % 7 * (positions >= 0)[..., None, None]
    kernel = splash_attention(20, 5.0, interpret=True)
    both = lambda fn: jax.jit(
        jax.value_and_grad(lambda *x: jnp.sum(weights * fn(*x)), (0, 1, 2))
    )(q, k, v)
    value, found = both(lambda *x: kernel(*x, positions))
    wanted, grads = both(lambda *x: every_score(*x, sees, 5.0))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    for one, other in zip(found, grads):
        np.testing.assert_allclose(one, other, atol=5e-5)


@pytest.mark.parametrize(
    "platform, name, changes, dtype, said",
    [
        ("cpu", "splash", {}, "bfloat16", "runs on a TPU only, and this is cpu"),
        ("tpu", "cudnn", {}, "bfloat16", "runs on a GPU only, and this is tpu"),
        ("gpu", "splash", {}, "bfloat16", "runs on a TPU only, and this is gpu"),
        ("gpu", "cudnn", {}, "float32", "takes bfloat16"),
        ("cpu", "ragged", {}, "float32", "runs on a TPU or a GPU, and this is cpu"),
        ("gpu", "cudnn", {"attention_softcap": 5.0}, "bfloat16", "a cap of 5.0"),
    ],
)
def test_kernels_are_refused_in_one_line(platform, name, changes, dtype, said):
    config = ModelConfig(**{**vars(SHAPE), "head_dim": 8, **changes})
    before = PLATFORM.set(platform)
    try:
        with pytest.raises(UserError, match=said):
            check_kernel(name, config, dtype)
    finally:
        PLATFORM.reset(before)


@pytest.mark.parametrize(
    "platform", [pytest.param("gpu", marks=pytest.mark.slow), "tpu"]
)
def test_parts_that_see_much_are_read_in_turn(platform, monkeypatch):
    model, layout = Transformer(SHAPE), LAYOUTS[platform]
    params = ModelParams(init_params(SHAPE, jax.random.key(0)), None)
    rng = np.random.default_rng(0)
    place = lambda *values: np.array(values, np.int32)
    parts = rng.integers(0, 32, (2, 3, 8)).astype(np.int32)
    parts[1, :, 5:] = -1  # pads

    def read(seen):
        monkeypatch.setattr(transitions, "_SEEN", seen)
        kept = init_prompt_cache(model, None, 3, 32, layout)
        # The second parts go on from row 0, one of them in another row.
        first = Reading(parts[0], place(0, 0, -1), place(0, 0, 0), place(0, 1, 3))
        second = Reading(parts[1], place(8, 8, -1), place(0, 0, 0), place(0, 2, 3))
        run = jax.jit(functools.partial(transitions.prefill, model, None, True, 32))
        for reading in (first, second):
            kept = run(params, kept, reading)
        return jax.tree.leaves(kept)

    # Row 1 was read by the first call only, and entries of pads mean nothing.
    used = np.array([13, 8, 13])
    for one, other in zip(read(32), read(2**15)):
        for row, entries in enumerate(used):
            at = lambda x: x[..., row, :, :entries, :]
            np.testing.assert_allclose(at(one), at(other), atol=1e-5)


def test_a_long_prompt_is_read_in_parts_by_few_programs():
    admission = Admission(1, 8, 8, together=True)
    key = np.zeros(2, np.uint32)
    prompts = {i: Request(str(i), (i, *[1] * 32766), key, {}) for i in range(8)}
    (one,) = admission.rounds(prompts)
    shapes = {(size, reading.tokens.shape) for size, reading in one.reads}
    assert len(shapes) == 9 and max(shape[1] for _, shape in shapes) == 256
    # 8 prompts that see 32,768 entries are read one after the other.
    assert rows_in_turn(True, 256, 32768) == 1 and rows_in_turn(True, 256, 4096) == 8
