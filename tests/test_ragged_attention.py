"""Decoding that reads the live entries of a cache: values, tokens, and rows of any age.

The kernel for TPUs runs interpreted here; cuDNN is replaced by its description.
"""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_blockwise_attention import every_score
from test_layouts import sampled

from fr.models import attention, ragged_attention
from fr.models.config import ModelConfig
from fr.models.kv_cache import LayerCache, init_cache
from fr.models.layouts import LAYOUTS
from fr.models.ragged_attention import (
    Stacked,
    attend_first,
    block_of,
    live_entries,
    reads_live_entries,
    takes_lengths,
)
from fr.models.transformer import Transformer, init_params
from fr.sampling.devices import Devices

# First and last entries of rows: dead, empty, one entry, edges of blocks of 16, all 40
# of a cache that the blocks do not divide, and windows.
BEGIN = [0, 0, 0, 0, 0, 0, 15, 16, 38]
END = [-3, 0, 1, 16, 17, 40, 33, 32, 40]
HEADS, GROUP, WIDTH, SIZE = 2, 3, 8, 40
SHAPE = ModelConfig(
    vocab=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, ff=48
)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 entries, and kernels that need no TPU."""
    monkeypatch.setattr(ragged_attention, "_LEAST", 16)
    monkeypatch.setattr(ragged_attention, "_MOST", 16)
    monkeypatch.setattr(ragged_attention, "_WIDTHS", 8)
    run = functools.partial(live_entries, interpret=True)
    monkeypatch.setattr(attention, "live_entries", run)
    monkeypatch.setattr(attention, "check_kernel", lambda *args: None)


def _drawn(layers: int):
    draw = np.random.default_rng(0).normal
    rows = len(END)
    q = draw(size=(rows, 1, HEADS * GROUP, WIDTH)).astype(np.float32)
    shape = (layers, rows, HEADS, SIZE, WIDTH)
    return q, *(draw(size=shape).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_live_entries_are_the_attention_of_all_scores(small_blocks, softcap):
    q, k, v = _drawn(3)
    begin, end = np.array(BEGIN, np.int32), np.array(END, np.int32)
    cache = LayerCache(jnp.asarray(k), jnp.asarray(v), LAYOUTS["tpu"])
    found = live_entries(
        jnp.asarray(q), Stacked(cache, jnp.int32(1)), begin, end, softcap, True
    )
    place = np.arange(SIZE)
    sees = (place >= begin[:, None]) & (place < end[:, None])
    given = (x[1].swapaxes(1, 2) for x in (k, v))
    wanted = every_score(q, *given, sees[:, None], softcap)
    some = end > begin
    out = (found.out / found.total).reshape(q.shape)
    np.testing.assert_allclose(out[some], wanted[some], atol=2e-6)
    assert not found.out[~some].any() and not found.total[~some].any()
    assert (found.top[~some] < -1e29).all()


def test_blocks_without_an_entry_in_sight_are_not_read(small_blocks):
    # What must not be read is NaN, and NaN times a weight of 0 would show.
    q, k, v = _drawn(2)
    begin, end = np.array(BEGIN, np.int32), np.array(END, np.int32)
    for row in range(len(END)):
        first = begin[row] // 16 * 16
        last = -(-max(end[row], 0) // 16) * 16
        for x in (k, v):
            x[:, row, :, last:] = np.nan
            x[:, row, :, :first] = np.nan
            x[0] = np.nan  # the other layer
    cache = LayerCache(jnp.asarray(k), jnp.asarray(v), LAYOUTS["tpu"])
    layer = Stacked(cache, jnp.int32(1))
    found = live_entries(jnp.asarray(q), layer, begin, end, 0.0, True)
    assert all(np.isfinite(x).all() for x in found)


def test_steps_of_the_kernel_are_the_blocks_in_sight():
    begin, end = np.array(BEGIN, np.int32), np.array(END, np.int32)
    count, rows, blocks = ragged_attention._schedule(begin, end, 16, SIZE)
    wanted = [
        (row, block)
        for row, (first, last) in enumerate(zip(BEGIN, END))
        for block in range(3)
        if last > first and block * 16 < last and (block + 1) * 16 > first
    ]
    assert list(zip(rows[:count].tolist(), blocks[:count].tolist())) == wanted
    assert rows.max() < len(END) and blocks.max() < 3  # the rest is never out of range


def test_blocks_are_about_as_large_for_every_shape():
    assert block_of(2, 128, 2, 4096) == 512
    assert block_of(2, 128, 2, 32768) == 1024
    assert block_of(8, 128, 2, 4096) == 128
    assert block_of(32, 128, 2, 4096) == 128
    assert block_of(3, 64, 2, 4096) == 512
    assert block_of(2, 128, 2, 96) == 96


def _same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens, err_msg=one.row.id)
        np.testing.assert_allclose(one.sample_logp, other.sample_logp, atol=1e-4)
        for name, values in other.stats.items():
            np.testing.assert_allclose(one.stats[name], values, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "window, both", [(0, True), pytest.param(6, False, marks=pytest.mark.slow)]
)
def test_rows_of_unequal_length_get_the_same_tokens(
    monkeypatch, small_blocks, tiny_config, tiny_params, window, both
):
    # Seven rows in four slots, of prompts of 3 to 27 tokens: most steps have free ones.
    cap = 3.0 * bool(window)
    config = dataclasses.replace(
        tiny_config, window=window, full_every=2, attention_softcap=cap
    )

    def run(name):
        model = Transformer(config, attention=name)
        second = {"ancestor": model, "ancestor_params": tiny_params} if both else {}
        return sampled(monkeypatch, "tpu", model, tiny_params, **second)

    wanted, calls, call = run("xla"), [], attention.live_entries
    counted = lambda *args: calls.append(args[1]) or call(*args)
    monkeypatch.setattr(attention, "live_entries", counted)
    _same(run("ragged"), wanted)
    # A kernel that had a layer's part of the stack would have a copy of it.
    assert {each.cache.v.ndim for each in calls} == {5}


def divided() -> None:
    """The same on two devices that share the heads, and where they cannot; run in a
    process of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged_attention, "_LEAST", 16)
        patch.setattr(ragged_attention, "_MOST", 16)
        patch.setattr(ragged_attention, "_WIDTHS", 8)
        run = functools.partial(live_entries, interpret=True)
        patch.setattr(attention, "check_kernel", lambda *args: None)
        for heads in (2, 1):
            config = dataclasses.replace(SHAPE, kv_heads=heads)
            params = init_params(config, jax.random.key(0))
            devices = lambda: Devices("shard_map", model=2)
            of = lambda name: sampled(
                patch,
                "tpu",
                Transformer(config, attention=name),
                params,
                devices=devices(),
            )
            calls: list = []
            counted = lambda *args: calls.append(1) or run(*args)
            patch.setattr(attention, "live_entries", counted)
            _same(of("ragged"), of("xla"))
            assert bool(calls) == (heads == 2)


@pytest.mark.slow
def test_devices_that_share_the_heads_read_their_own():
    here = Path(__file__).parent
    flags = (
        "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    )
    path = os.pathsep.join([str(here.parent), str(here)])
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    code = "import test_ragged_attention as test; test.divided()"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)


def test_heads_that_a_tpu_lays_out_otherwise_are_read_as_before():
    def reads(width, name="ragged", platform="tpu"):
        config = dataclasses.replace(SHAPE, head_dim=width)
        cache = init_cache(config, 2, 32, layout=LAYOUTS[platform])
        return reads_live_entries(config, name, cache.joined(cache.opened(4)))

    assert reads(128) and reads(256)
    assert not reads(64) and not reads(96) and not reads(128, "xla")
    assert not reads(128, platform="gpu")


def test_cudnn_gets_each_head_as_a_row_and_its_live_entries(monkeypatch):
    q, k, v = _drawn(1)
    cache = LayerCache(jnp.asarray(k[0]), jnp.asarray(v[0]), LAYOUTS["gpu"])
    plain, asked = jax.nn.dot_product_attention, []

    def described(*args, implementation, **given):
        asked.append(implementation)
        return plain(*args, **given)

    monkeypatch.setattr(jax.nn, "dot_product_attention", described)
    live = np.maximum(END, 0).astype(np.int32)
    found = attend_first(jnp.asarray(q), cache, jnp.asarray(live))
    sees = np.arange(SIZE) < live[:, None]
    wanted = every_score(q, *(x[0].swapaxes(1, 2) for x in (k, v)), sees[:, None], 0.0)
    assert asked == ["cudnn"] and np.isfinite(found).all()
    np.testing.assert_allclose(found[live > 0], wanted[live > 0], atol=2e-6)


def test_a_step_on_a_gpu_reads_full_layers_by_cudnn(monkeypatch):
    plain, asked = jax.nn.dot_product_attention, []

    def described(q, k, v, implementation, **given):
        asked.append((q.shape, k.shape))
        return plain(q, k, v, **given)

    monkeypatch.setattr(jax.nn, "dot_product_attention", described)
    monkeypatch.setattr(attention, "check_kernel", lambda *args: None)
    config = dataclasses.replace(SHAPE, window=6, full_every=2, layers=4)
    params = init_params(config, jax.random.key(0))
    cache = init_cache(config, 4, SIZE, jnp.bfloat16, LAYOUTS["gpu"])
    draw = np.random.default_rng(0).normal
    filled = jax.tree.map(lambda x: jnp.asarray(draw(size=x.shape), x.dtype), cache)
    positions = jnp.array([[0], [15], [39], [-1]])
    tokens = jnp.array([[1], [2], [3], [4]])

    def states(name):
        model = Transformer(config, jnp.bfloat16, attention=name)
        run = lambda: model.apply(
            {"params": params}, tokens, positions, filled, method="hidden"
        )
        return np.asarray(run()[0], np.float32)

    found, wanted = states("ragged"), states("xla")
    # Two of four layers see all; with another type or a soft cap, none goes by cuDNN.
    heads, width = config.kv_heads, config.head_dim
    queries = (4 * heads, config.heads // heads, 1, width)
    assert asked == [(queries, (4 * heads, SIZE, 1, width))] * 2
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:3], wanted[:3], atol=0.05)
    capped = dataclasses.replace(config, attention_softcap=5.0)
    assert takes_lengths(config, filled.layers[0])
    assert not takes_lengths(capped, filled.layers[0])
    whole = jax.tree.map(lambda x: x.astype(jnp.float32), filled)
    assert not takes_lengths(config, whole.layers[0])
