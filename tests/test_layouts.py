"""Caches and layers in the layout of every platform: the same tokens and statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.models import layouts
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.state import cache_sizes
from fr.types import Probe, Request


def _requests(count: int = 7) -> list[Request]:
    """More rows than slots, of different lengths; two share a prompt."""
    draw = np.random.default_rng(3)
    prompts = [tuple(draw.integers(0, 60, 3 + 4 * i).tolist()) for i in range(count)]
    prompts[1] = prompts[0]
    return [
        Request(str(i), prompt, row_key(0, str(i)), {"budget": 9 + 5 * (i % 3)})
        for i, prompt in enumerate(prompts)
    ]


def sampled(monkeypatch, platform: str, model, params, devices=None, **given):
    """Rollouts of 7 requests in 4 slots, with caches as on another platform."""
    monkeypatch.setitem(layouts.LAYOUTS, "cpu", layouts.LAYOUTS[platform])
    devices = devices or Devices("one")
    engine = Engine(
        model, params, slots=4, chunk=5, prefill=2, devices=devices, **given
    )
    plan = lambda row, tokens: Probe(
        cuts=(0, len(tokens)), cue=(5,), answers={"gold": ((7, 8), (7, 9))}
    )
    return engine.sample(_requests(), 64, probe_plan=plan)


@pytest.mark.parametrize(
    "platform", [pytest.param("gpu", marks=pytest.mark.slow), "tpu"]
)
@pytest.mark.parametrize(
    "with_ancestor", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_every_layout_gives_the_same_rows(
    monkeypatch, platform, with_ancestor, tiny_config, tiny_params
):
    config = dataclasses.replace(tiny_config, window=6, full_every=2)
    given = {}
    if with_ancestor:
        given = {"ancestor": Transformer(config), "ancestor_params": tiny_params}
    args = Transformer(config), tiny_params
    wanted = sampled(monkeypatch, "cpu", *args, **given)
    found = sampled(monkeypatch, platform, *args, **given)
    for one, other in zip(found, wanted):
        np.testing.assert_array_equal(one.tokens, other.tokens, err_msg=one.row.id)
        np.testing.assert_allclose(one.sample_logp, other.sample_logp, atol=1e-4)
        for name, values in other.stats.items():
            np.testing.assert_allclose(one.stats[name], values, atol=2e-4, err_msg=name)
        for name, logp in other.confidence.logp.items():
            np.testing.assert_allclose(one.confidence.logp[name], logp, atol=1e-4)


@pytest.mark.parametrize(
    "platform", ["cpu", "tpu", pytest.param("gpu", marks=pytest.mark.slow)]
)
def test_growth_of_a_cache_needs_little_more_than_the_new_one(
    monkeypatch, platform, tiny_config, tiny_params
):
    monkeypatch.setitem(layouts.LAYOUTS, "cpu", layouts.LAYOUTS[platform])
    model, rows = Transformer(tiny_config), 8
    engine = Engine(model, tiny_params, slots=rows, devices=Devices("one"))
    batch = engine._batch
    batch.start(1024)
    draw = np.random.default_rng(0)
    drawn = [
        jnp.asarray(draw.normal(size=x.shape), x.dtype)
        for x in jax.tree.leaves(batch.state.cache)
    ]
    kept = [np.array(x) for x in drawn]
    axes = batch.state.cache.axes()
    cache = jax.tree.unflatten(jax.tree.structure(batch.state.cache), drawn)
    batch.state = dataclasses.replace(batch.state, cache=cache)
    del cache, drawn
    live, peaks = lambda: sum(x.nbytes for x in jax.live_arrays()), []
    make = batch._programs.resize

    def counted(size, axis):
        program = make(size, axis)

        def call(*args):
            made = program(*args)
            peaks.append(live())
            return made

        call.lower = program.lower
        return call

    monkeypatch.setattr(batch._programs, "resize", counted)
    others = live() - sum(x.nbytes for x in jax.tree.leaves(batch.state.cache))
    for size in batch._sizes[1:]:
        peaks.clear()
        batch.resize(size)
        assert batch.size == size
        new = sum(x.nbytes for x in jax.tree.leaves(batch.state.cache))
        # Nothing is executed to compile the way back.
        assert len(peaks) == len(axes)
        assert max(peaks) - others <= 1.3 * new
    for old, new, axis in zip(kept, jax.tree.leaves(batch.state.cache), axes):
        at = np.arange(old.shape[axis])
        np.testing.assert_array_equal(np.take(np.asarray(new), at, axis), old)
        assert np.count_nonzero(np.asarray(new)) == np.count_nonzero(
            old
        )  # new entries are zeros
    batch.resize(1, shrink=True)  # by the programs that were compiled on the way up
    for old, new in zip(kept, jax.tree.leaves(batch.state.cache)):
        np.testing.assert_array_equal(new, old)
    batch.stop()


def test_few_sizes_are_far_apart():
    assert cache_sizes(4352, few=True) == (256, 512, 1024, 2048, 4352)
    assert cache_sizes(32768, few=True) == tuple(256 << i for i in range(8))
    assert cache_sizes(96, few=True) == (96,)
    assert cache_sizes(160) == (32, 64, 96, 128, 160)
