"""Pairs: the losses by hand, and that a model learns from them what is better."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import random_params
from policy_batches import make_batch

from fr.config import LoraConfig, PreferenceConfig
from fr.errors import UserError
from fr.models import ModelConfig
from fr.models.dense import merge
from fr.models.transformer import Transformer
from fr.training.lora import init_adapters
from fr.training.microbatches import training_mesh
from fr.training.preference_loss import (
    PreferenceBatch,
    bradley_terry,
    check_preference,
    make_preference_update,
    make_rewards,
    with_head,
)
from fr.training.update import init_state

TINY = ModelConfig(vocab=40, width=16, layers=2, heads=2, kv_heads=2, head_dim=8, ff=24)
CONFIG = PreferenceConfig(steps=1, pairs=3, clip_norm=1e9)
FULL, MESH = LoraConfig(), training_mesh(devices=jax.devices()[:1])


def pairs(seed=0, ref=True) -> PreferenceBatch:
    """Three pairs of random completions; the better ones end with token 7."""
    draw = np.random.default_rng(seed)
    prompts = [
        prompt for prompt in draw.integers(TINY.vocab, size=(3, 4)) for _ in range(2)
    ]
    tokens = draw.integers(8, TINY.vocab, size=(6, 8))
    tokens[::2, 5], tokens[:, 6:] = 7, -1
    logp = draw.normal(-3.7, 0.3, tokens.shape).astype(np.float32)
    rows = make_batch(prompts, tokens, tokens >= 0, *np.zeros((2, *tokens.shape)), logp)
    margin = np.array([0.5, 1.0, 1.5], np.float32)
    return PreferenceBatch(
        rows.tokens, rows.start, rows.mask, margin, rows.ref_logp if ref else None
    )


def update(batch, config=CONFIG, trained=None, steps=1):
    trained = random_params(TINY) if trained is None else trained
    state = init_state(jax.tree.map(jnp.array, trained), config)
    step = make_preference_update(TINY, "dpo", config, FULL, MESH)
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


def test_a_pair_by_hand():
    np.testing.assert_allclose(bradley_terry(1.0, 1.0), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(
        bradley_terry(2.0, 0.5, 1.0), -np.log(1 / (1 + np.exp(-0.5))), rtol=1e-6
    )
    assert np.isfinite(bradley_terry(-1e4, 1e4)) and bradley_terry(1e4, -1e4) == 0


def test_dpo_against_the_definition(margin=0.7):
    batch, config = pairs(), dataclasses.replace(CONFIG, dpo_margin=margin, margin=9.0)

    def reference(params):
        positions = jnp.where(batch.tokens >= 0, jnp.arange(batch.tokens.shape[1]), -1)
        full = jax.nn.log_softmax(
            Transformer(TINY).apply({"params": params}, batch.tokens, positions)[0]
        )
        total = []
        for b in range(6):
            at = batch.start[b] + np.flatnonzero(batch.mask[b])
            total.append(
                jnp.sum(full[b, at - 1, batch.tokens[b, at]])
                - batch.ref_logp[b, batch.mask[b]].sum()
            )
        inside = [
            0.1 * (total[2 * p] - total[2 * p + 1]) - margin * batch.margin[p]
            for p in range(3)
        ]
        return -jnp.mean(jnp.log(jax.nn.sigmoid(jnp.stack(inside))))

    state, metrics = update(batch, config)
    value, grads = jax.jit(jax.value_and_grad(reference))(random_params(TINY))
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    seen = jax.tree.map(lambda m: 10 * m, optax.tree.get(state.optimizer, "mu"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), seen, grads
    )


def test_microbatches_of_pairs_add_up():
    whole, parts = (
        update(pairs(), dataclasses.replace(CONFIG, microbatch=m)) for m in (0, 2)
    )
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, *(dict(metrics) for _, metrics in (whole, parts)))
    jax.tree.map(
        close, *(optax.tree.get(state.optimizer, "mu") for state, _ in (whole, parts))
    )


def test_a_pair_without_tokens_fills_up_a_batch():
    batch = pairs()
    more = batch.replace(
        tokens=np.pad(batch.tokens, ((0, 2), (0, 0)), constant_values=-1),
        start=np.pad(batch.start, (0, 2), constant_values=1),
        mask=np.pad(batch.mask, ((0, 2), (0, 0))),
        margin=np.pad(batch.margin, (0, 1)),
        ref_logp=np.pad(batch.ref_logp, ((0, 2), (0, 0))),
    )
    for name, value in update(batch)[1].items():
        np.testing.assert_allclose(
            update(more)[1][name], value, rtol=1e-5, err_msg=name
        )


def test_dpo_learns_the_better_ones():
    _, metrics = update(
        pairs(), dataclasses.replace(CONFIG, learning_rate=1e-2), steps=20
    )
    assert (
        metrics["accuracy"] == 1
        and metrics["loss"] < 0.5 * np.log(2)
        and metrics["gap"] > 0
    )


@pytest.mark.parametrize(
    "lora", [FULL, pytest.param(LoraConfig(rank=2), marks=pytest.mark.slow)]
)
def test_a_reward_learns_the_better_ones(lora):
    config = dataclasses.replace(CONFIG, learning_rate=1e-2, margin=1.0)
    params = jax.tree.map(jnp.asarray, random_params(TINY))
    trained, frozen = (
        (init_adapters(TINY, lora, jax.random.key(0)), params)
        if lora.rank
        else (params, None)
    )
    state = init_state(with_head(jax.tree.map(jnp.copy, trained), TINY), config)
    batch, step = (
        pairs(ref=False),
        make_preference_update(TINY, "reward_model", config, lora, MESH),
    )
    state, first = step(state, batch, frozen)
    np.testing.assert_allclose(
        first["loss"], np.mean(np.log1p(np.exp(batch.margin))), rtol=1e-6
    )
    for _ in range(30):
        state, metrics = step(state, batch, frozen)
    learnt, kernel = state.params["model"], state.params["reward"]["kernel"]
    learnt = merge(frozen, learnt, lora) if lora.rank else learnt
    rewards = make_rewards(TINY)(learnt, kernel, batch.tokens).reshape(-1, 2)
    assert (
        metrics["accuracy"] == 1
        and (rewards[:, 0] - rewards[:, 1] > batch.margin).all()
    )


def test_what_does_not_divide_is_named():
    check_preference(CONFIG, MESH)
    with pytest.raises(
        UserError, match="a microbatch of 3 rows does not divide among 1 data shards"
    ):
        check_preference(dataclasses.replace(CONFIG, microbatch=3), MESH)
    with pytest.raises(ValueError, match="DPO needs ref_logp"):
        update(pairs(ref=False))
