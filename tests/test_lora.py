"""Adapters: nothing at first, the merged weights' function and gradient later, on every
path through the layers.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params
from policy_batches import make_batch

from fr.config import LoraConfig, PolicyConfig
from fr.config.algorithms import DR_GRPO
from fr.errors import UserError
from fr.models import ModelConfig
from fr.models.dense import merge
from fr.models.kv_cache import init_cache
from fr.models.transformer import Transformer, unstack
from fr.training import lora
from fr.training.lora import init_adapters, lora_context
from fr.training.microbatches import training_mesh
from fr.training.policy_update import make_update
from fr.training.update import init_state

MODEL = ModelConfig(
    vocab=40, width=24, layers=2, heads=4, kv_heads=2, head_dim=8, ff=32, qkv_bias=True
)
LOW = LoraConfig(rank=3, alpha=6.0)
TOKENS = np.random.default_rng(0).integers(MODEL.vocab, size=(2, 12))
POSITIONS = np.broadcast_to(np.arange(12), TOKENS.shape)


def adapters(config=LOW, scale=0.2) -> dict:
    fresh = init_adapters(MODEL, config, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(fresh))))
    return jax.tree.map(
        lambda x: x + scale * jax.random.normal(next(keys), x.shape), fresh
    )


@functools.partial(jax.jit, static_argnames=("config", "remat"))
def logits(params, low=None, cache=None, config=LOW, remat=False):
    given = {"params": params} if low is None else {"params": params, "lora": low}
    with lora_context(config):
        return Transformer(MODEL, remat=remat).apply(given, TOKENS, POSITIONS, cache)[0]


def close(a, b, tolerance=2e-5):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        a,
        b,
    )


def test_fresh_adapters_change_nothing():
    fresh, params = init_adapters(MODEL, LOW, jax.random.key(0)), random_params(MODEL)
    np.testing.assert_array_equal(logits(params, fresh), logits(params))
    assert {np.asarray(leaf).any() for leaf in jax.tree.leaves(fresh)} == {True, False}
    jax.tree.map(np.testing.assert_array_equal, merge(params, fresh, LOW), params)


@pytest.mark.parametrize("targets", [LOW.targets, ("o", "down")])
def test_adapters_are_their_merged_weights(targets):
    config, params = dataclasses.replace(LOW, targets=targets), random_params(MODEL)
    low = adapters(config)
    wanted = logits(merge(params, low, config))
    assert np.abs(wanted - logits(params)).max() > 0.1
    close(logits(params, low, config=config), wanted)
    assert len(jax.tree.leaves(low)) == 2 * len(targets)


def test_scanned_inlined_and_cached_layers_agree():
    params, low = random_params(MODEL), adapters()
    wanted = logits(params, low)
    apart = {**params, "layers": unstack(params["layers"], MODEL.layers)}
    close(logits(apart, low), wanted)
    close(logits(params, low, init_cache(MODEL, 2, 12)), wanted)
    close(logits(apart, {"layers": unstack(low["layers"], MODEL.layers)}), wanted)


@pytest.mark.parametrize("remat", [False, True])
def test_gradient_is_that_of_the_merged_weights(remat):
    params, low = random_params(MODEL), adapters()
    total = lambda out: jnp.sum(jnp.sin(out))
    given = jax.jit(jax.grad(lambda low: total(logits(params, low, remat=remat))))(low)
    wanted = jax.jit(jax.grad(lambda low: total(logits(merge(params, low, LOW)))))(low)
    close(given, wanted, 1e-3)


def test_recomputed_layers_have_the_same_gradient():
    params, total = random_params(MODEL), lambda out: jnp.sum(jnp.sin(out))
    plain, again = (
        jax.jit(jax.grad(lambda p: total(logits(p, remat=remat))))(params)
        for remat in (False, True)
    )
    close(again, plain)


def test_no_gradient_of_a_whole_matrix_is_made():
    params, low = random_params(MODEL), adapters()
    program = (
        jax.jit(jax.grad(lambda low, params: jnp.sum(logits(params, low))))
        .lower(low, params)
        .as_text()
    )
    # Leaves of the base are read; none of their shapes is summed up over the tokens, as
    # a gradient of one would be.
    full = jax.jit(jax.grad(lambda p: jnp.sum(logits(p)))).lower(params).as_text()
    made = f"tensor<{MODEL.layers}x{MODEL.width}x{MODEL.ff}xf32>"
    count = lambda text: sum(
        "dynamic_update_slice" in line and made in line for line in text.splitlines()
    )
    assert count(program) == 0 < count(full)


def test_an_update_of_adapters_leaves_the_base_alone():
    config = PolicyConfig(steps=2, max_new_tokens=8, learning_rate=1e-2)
    params, mesh = random_params(MODEL), training_mesh(devices=jax.devices()[:1])
    ones = np.ones((4, 6), np.float32)
    batch = make_batch([[1, 2]] * 4, np.full((4, 6), 7), ones, -3 * ones, ones)
    state = init_state(init_adapters(MODEL, LOW, jax.random.key(0)), config)
    update, frozen = (
        make_update(MODEL, DR_GRPO, config, LOW, mesh),
        jax.tree.map(jnp.asarray, params),
    )
    for _ in range(2):
        state, metrics = update(state, batch, frozen)
    assert metrics["grad_norm"] > 0 and set(state.params) == {"layers"}
    jax.tree.map(np.testing.assert_array_equal, frozen, params)
    assert logits(merge(params, state.params, LOW))[0, 5, 7] > logits(params)[0, 5, 7]


def test_merging_keeps_the_type():
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_params(MODEL))
    merged = merge(half, adapters(), LOW)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype(jnp.bfloat16)}


def test_an_unknown_target_is_refused():
    with pytest.raises(
        UserError,
        match="lora.targets: 'qproj' is not a part of a layer; there are: q, k, v",
    ):
        lora.init_adapters(
            MODEL, dataclasses.replace(LOW, targets=("qproj",)), jax.random.key(0)
        )
