"""Policy optimisation: every algorithm against a plain reference, in parts and on
meshes as in one piece.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import random_params
from policy_batches import make_batch

from fr import config as settings
from fr.config import LoraConfig, PolicyConfig
from fr.config.algorithms import ALGORITHMS, DR_GRPO, GRPO, GSPO, REINFORCE
from fr.errors import UserError
from fr.models import Model, ModelConfig, sharding
from fr.models.transformer import Transformer
from fr.training.advantages import advantages
from fr.training.checks import check_policy
from fr.training.lora import init_adapters
from fr.training.microbatches import place_batch, sort_by_length, training_mesh
from fr.training.policy_loss import PolicyBatch, high_covariance, policy_loss, weigh
from fr.training.policy_update import make_logps, make_update
from fr.training.update import init_state

TINY = ModelConfig(vocab=40, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, ff=24)
# No clip of the gradient: the first moment then is a tenth of it.
CONFIG = PolicyConfig(steps=1, max_new_tokens=8, clip_norm=1e9)
SHAPED = dataclasses.replace(CONFIG, kl=0.3, entropy=0.2)
FULL, ADAPTERS = LoraConfig(), LoraConfig(rank=2, alpha=4.0)


def batch_of(rows=8, width=8, seed=0, ref=True) -> PolicyBatch:
    """Random rollouts of unequal lengths, one of them without a sampled token, a forced
    token in another.
    """
    draw = np.random.default_rng(seed)
    prompts = [draw.integers(TINY.vocab, size=draw.integers(1, 5)) for _ in range(rows)]
    length = draw.integers(2, width + 1, size=rows)
    tokens = np.where(
        np.arange(width) < length[:, None],
        draw.integers(TINY.vocab, size=(rows, width)),
        -1,
    )
    mask = tokens >= 0
    mask[0, 1], mask[-1] = False, False
    # Far enough from the policy for clips on both sides.
    logp = lambda: np.where(
        tokens >= 0, draw.normal(-3.7, 0.4, tokens.shape), 0
    ).astype(np.float32)
    worth = draw.normal(size=(rows, 1)) + 0.1 * draw.normal(size=tokens.shape)
    return make_batch(
        prompts, tokens, mask, logp(), np.where(mask, worth, 0), logp() if ref else None
    )


def one_update(
    batch, algorithm, config=CONFIG, lora=FULL, mesh=None, trained=None, frozen=None
):
    """Metrics, and the gradient that the optimiser saw."""
    mesh = mesh or training_mesh(devices=jax.devices()[:1])
    trained = random_params(TINY) if trained is None else trained
    state = sharding.shard_tree(
        init_state(jax.tree.map(jnp.array, trained), config), mesh
    )
    frozen = sharding.shard_tree(frozen, mesh) if frozen else None
    state, metrics = make_update(TINY, algorithm, config, lora, mesh)(
        state, place_batch(batch, mesh), frozen
    )
    return jax.device_get(
        (metrics, jax.tree.map(lambda m: 10 * m, optax.tree.get(state.optimizer, "mu")))
    )


def reference(full, batch, algorithm, config):
    """The loss by its definition, a row at a time; `full` [B, W, V] are the log-probs
    of completions.
    """
    low, high = (
        config.clip_low or algorithm.clip_low,
        config.clip_high or algorithm.clip_high,
    )
    rows, penalties = [], []
    for b in range(len(batch.tokens) - 1):  # the last one has no sampled token
        at = np.flatnonzero(batch.mask[b])
        logp, worth = (
            full[b, at, batch.tokens[b, batch.start[b] + at]],
            batch.advantages[b, at],
        )
        ratio = jnp.exp(logp - batch.old_logp[b, at])
        if algorithm.ratio == "sequence":
            ratio = jnp.exp(jnp.mean(logp - batch.old_logp[b, at])) * jnp.ones(len(at))
        gain = jnp.minimum(ratio * worth, jnp.clip(ratio, 1 - low, 1 + high) * worth)
        if algorithm.ratio == "none":
            gain = logp * worth
        if algorithm.gain == "weight":
            gain = (
                jax.lax.stop_gradient(jnp.clip(ratio, 1 - low, 1 + high)) * worth * logp
            )
        d = batch.ref_logp[b, at] - logp
        entropy = -jnp.sum(jnp.exp(full[b, at]) * full[b, at], axis=-1)
        rows.append(-gain)
        penalties.append(config.kl * (jnp.exp(d) - d - 1) - config.entropy * entropy)
    # Coefficients of KL and entropy multiply a mean in nats per token, for every mean.
    mean_of = lambda rows: jnp.mean(jnp.stack([jnp.mean(row) for row in rows]))
    over_tokens = lambda rows: jnp.mean(jnp.concatenate(rows))
    if algorithm.mean == "token":
        return over_tokens(rows) + over_tokens(penalties)
    if algorithm.mean == "sequence":
        return mean_of(rows) + mean_of(penalties)
    gain = sum(jnp.sum(row) for row in rows) / config.max_new_tokens / len(rows)
    return gain + over_tokens(penalties)


def read_loss(full, batch, algorithm, config):
    """Ours, from the same log-probs."""
    at = jnp.minimum(
        batch.start[:, None] + np.arange(full.shape[1]), batch.tokens.shape[1] - 1
    )
    targets = jnp.maximum(jnp.take_along_axis(batch.tokens, at, axis=1), 0)
    logp = jnp.take_along_axis(full, targets[:, :, None], axis=2)[:, :, 0]
    entropy = -jnp.sum(jnp.exp(full) * full, axis=-1)
    return policy_loss(
        logp, entropy, weigh(batch, 0, algorithm, config), algorithm, config
    )


def close(a, b, tolerance=1e-5):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        a,
        b,
    )


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_loss_and_gradient_against_the_definition(name):
    config, batch, algorithm = SHAPED, batch_of(), ALGORITHMS[name]
    if (
        algorithm.ratio == "sequence"
    ):  # its own gradient is for advantages that are constant along a row
        batch = batch.replace(
            advantages=np.where(batch.mask, batch.advantages[:, :1], 0)
        )
    logits = np.random.default_rng(1).normal(size=(8, 8, TINY.vocab)).astype(np.float32)
    both = jax.jit(
        lambda logits: (
            jax.grad(
                lambda z: reference(jax.nn.log_softmax(z), batch, algorithm, config)
            )(logits),
            jax.grad(
                lambda z: read_loss(jax.nn.log_softmax(z), batch, algorithm, config)[0]
            )(logits),
            reference(jax.nn.log_softmax(logits), batch, algorithm, config),
            read_loss(jax.nn.log_softmax(logits), batch, algorithm, config),
        )
    )
    wanted_grads, grads, wanted, (loss, measured) = both(logits)
    close((loss, grads), (wanted, wanted_grads))
    assert algorithm.ratio == "none" or 0 < measured.sums["clip_share"] < 1


def test_an_update_has_the_gradient_of_the_definition():
    config, batch = SHAPED, batch_of()

    @jax.jit
    @jax.value_and_grad
    def wanted(params):
        positions = jnp.where(batch.tokens >= 0, jnp.arange(batch.tokens.shape[1]), -1)
        full = jax.nn.log_softmax(
            Transformer(TINY).apply({"params": params}, batch.tokens, positions)[0]
        )
        at = jnp.minimum(
            batch.start[:, None] + np.arange(8) - 1, batch.tokens.shape[1] - 1
        )
        return reference(
            jnp.take_along_axis(full, at[:, :, None], axis=1), batch, GRPO, config
        )

    metrics, grads = one_update(batch, GRPO, config)
    close((metrics["loss"], grads), wanted(random_params(TINY)))
    assert (
        metrics["tokens"] == batch.mask.sum()
        and metrics["kl"] > 0
        and metrics["entropy"] > 3
    )


def test_the_names_of_the_config_are_those_of_the_registry():
    others = {"sft", "vector", *settings.PREFERENCES}
    assert others | set(ALGORITHMS) == set(settings.ALGORITHMS)
    with pytest.raises(
        UserError,
        match="unknown algorithm 'ppo'; there are: grpo, dr_grpo, dapo, gspo, cispo, r",
    ):
        ALGORITHMS["ppo"]


def test_one_against_seven():
    rewards = np.array([0, 1, 1, 1, 1, 1, 1, 1.0])
    # 7/8 and 1/8 over the root of 7/8 / 7: the standard deviation with ddof 1, as TRL
    # and verl take it.
    np.testing.assert_allclose(
        advantages(rewards, 8, GRPO)[:2], [-7 / np.sqrt(8), 1 / np.sqrt(8)], rtol=1e-6
    )
    population = dataclasses.replace(GRPO, ddof=0)
    np.testing.assert_allclose(
        advantages(rewards, 8, population)[:2], [-np.sqrt(7), 1 / np.sqrt(7)], rtol=1e-6
    )
    np.testing.assert_allclose(advantages(rewards, 8, DR_GRPO)[:2], [-0.875, 0.125])


def test_grpo_and_dr_grpo_agree_in_sign():
    rewards = np.random.default_rng(0).normal(size=64)
    signs = [
        np.sign(advantages(rewards, 8, algorithm)) for algorithm in (GRPO, DR_GRPO)
    ]
    np.testing.assert_array_equal(*signs)
    assert set(signs[0]) == {-1, 1}


def test_noise_of_a_continuous_reward_is_not_blown_up():
    noise = 1e-7 * np.random.default_rng(0).normal(size=8)
    for offset in (0.0, 1.0, 1e6):
        assert np.abs(advantages(offset + noise, 8, GRPO)).max() < 1e-3
    # In one pass the variance of these would be lost beside the square of their mean.
    far = advantages(1e6 + np.arange(8.0), 8, GRPO)
    np.testing.assert_allclose(far, advantages(np.arange(8.0), 8, GRPO), rtol=1e-6)


def test_reinforce_takes_the_mean_of_the_batch_off():
    np.testing.assert_allclose(
        advantages(np.array([0, 0, 1, 1.0]), 2, REINFORCE), [-0.5, -0.5, 0.5, 0.5]
    )


def test_microbatches_add_up():
    # What the whole batch decides: denominators, and which tokens are held to the old
    # policy.
    config = dataclasses.replace(
        CONFIG, kl=0.1, entropy=0.1, covariance="kl", covariance_share=0.2
    )
    given = {"trained": adapters_away_from_zero(), "frozen": random_params(TINY)}
    whole = one_update(batch_of(), GRPO, config, ADAPTERS, **given)
    parts = one_update(
        batch_of(), GRPO, dataclasses.replace(config, microbatch=2), ADAPTERS, **given
    )
    close(parts, whole, 2e-6)


def test_short_rows_in_narrow_microbatches_change_nothing():
    batch = batch_of(rows=12, width=24)
    wanted = one_update(batch, GRPO, dataclasses.replace(SHAPED, length_buckets=1))
    need, config = (
        batch.columns_used(),
        dataclasses.replace(SHAPED, microbatch=2, length_buckets=3),
    )
    assert {8, 16, 24} == {
        -(-most // 8) * 8 for most in np.sort(need).reshape(-1, 2).max(1)
    }  # all are used
    order = sort_by_length(need, 2, training_mesh(devices=jax.devices()[:1]))
    for rows in (order, order[::-1]):  # in any order, faster in the first
        close(
            one_update(jax.tree.map(lambda x: x[rows], batch), GRPO, config),
            wanted,
            3e-6,
        )


def in_groups(batch, group):
    """The batch with the prompt of every group's first row before the completions of
    all its rows.
    """
    rows = [[row[row >= 0] for row in batch.tokens], batch.start]
    owner = np.arange(len(batch.start)) // group * group
    prompts = [rows[0][i][: batch.start[i]] for i in owner]
    tokens = np.full(batch.mask.shape, -1)
    for line, row, start in zip(tokens, *rows):
        line[: len(row) - start] = row[start:]
    rest = (batch.mask, batch.old_logp, batch.advantages, batch.ref_logp)
    return make_batch(prompts, tokens, *rest)


@pytest.mark.parametrize("lora", [FULL, pytest.param(ADAPTERS, marks=pytest.mark.slow)])
def test_rollouts_behind_one_prompt_are_those_behind_a_prompt_each(lora):
    batch = in_groups(batch_of(rows=12, width=24), 3)
    assert (
        len({tuple(row) for row in batch.tokens[:, :4].tolist()}) > 4
    )  # prompts of unequal lengths
    given = (
        {"trained": adapters_away_from_zero(), "frozen": random_params(TINY)}
        if lora.rank
        else {}
    )
    wanted = one_update(
        batch, GRPO, dataclasses.replace(SHAPED, length_buckets=1), lora, **given
    )
    shared = dataclasses.replace(SHAPED, shared_prompts=True, rollouts=3)
    order = sort_by_length(
        batch.columns_used(), 3, training_mesh(devices=jax.devices()[:1]), unit=3
    )
    some = jax.tree.map(lambda x: x[order], batch)
    for own in (shared, dataclasses.replace(shared, microbatch=3, length_buckets=3)):
        close(one_update(some, GRPO, own, lora, **given), wanted, 3e-6)


def test_a_batch_is_as_narrow_as_its_rows_allow():
    batch = batch_of(rows=12, width=32)
    need = batch.columns_used().max()
    for columns, fits in ((need, True), (need - 1, False)):
        truncate = batch.truncate(columns)
        kept = (
            truncate.mask.sum() == batch.mask.sum()
            and (truncate.tokens >= 0).sum() == (batch.tokens >= 0).sum()
        )
        assert kept == fits and truncate.mask.shape[1] == columns


def test_each_device_has_rows_of_every_microbatch():
    mesh = jax.sharding.AbstractMesh((2, 1), sharding.AXES)
    # Microbatches of two rows, one of each half of the batch.
    assert sort_by_length(np.array([5, 1, 4, 0, 3, 2]), 2, mesh).tolist() == [
        3,
        5,
        2,
        1,
        4,
        0,
    ]
    # Pairs stay together.
    assert sort_by_length(
        np.array([5, 1, 4, 0, 3, 2, 0, 0]), 4, mesh, unit=2
    ).tolist() == [
        6,
        7,
        2,
        3,
        4,
        5,
        0,
        1,
    ]


def adapters_away_from_zero():
    adapters = init_adapters(TINY, ADAPTERS, jax.random.key(0))
    return jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), adapters
    )


def test_pads_and_empty_rows_change_nothing():
    batch = batch_of()
    wide = jax.tree.map(lambda x: np.pad(x, [(0, 2)] + [(0, 16)] * (x.ndim - 1)), batch)
    tokens = np.full(wide.tokens.shape, -1)
    tokens[: len(batch.tokens), : batch.tokens.shape[1]] = batch.tokens
    wide = wide.replace(tokens=tokens, start=np.maximum(wide.start, 1))
    close(one_update(wide, GRPO, SHAPED), one_update(batch, GRPO, SHAPED))


def test_tokens_that_cost_entropy():
    mask = np.array([[1, 1, 1, 1, 0]], bool)
    worth, logp = np.array([[1, 1, -1, -1, 9.0]]), np.array([[-1, -5, -2, -4, 0.0]])
    # Means 0 and -3 over the mask: covariances 2, -2, -1, 1.
    mark = lambda **more: high_covariance(
        mask, worth, logp, 0, dataclasses.replace(CONFIG, **more)
    ).tolist()
    assert mark() == [[False] * 5]
    assert mark(covariance="kl") == [[True] + [False] * 4]
    assert mark(covariance="kl", covariance_share=0.5) == [
        [True, False, False, True, False]
    ]
    assert mark(
        covariance="clip", covariance_bounds=(1.5, 5.0), covariance_share=1.0
    ) == [[True] + [False] * 4]
    assert mark(covariance="clip", covariance_bounds=(3.0, 5.0)) == [[False] * 5]


def test_a_tenth_of_the_rollouts_is_clipped_at_random_and_never_twice_the_same():
    mask, logp = np.ones((16, 16), bool), np.random.default_rng(0).normal(size=(16, 16))
    config = dataclasses.replace(
        CONFIG, covariance="clip", covariance_share=0.1, covariance_bounds=(0.0, 99.0)
    )
    marks = [
        np.asarray(high_covariance(mask, logp, logp, step, config))
        for step in (0, 0, 1)
    ]
    assert (
        marks[0].sum() == 25
        and (marks[0] == marks[1]).all()
        and (marks[0] != marks[2]).any()
    )


def test_remedies_change_the_gradient_of_the_marked_tokens_alone():
    batch = batch_of()
    moved, entropy = batch.old_logp + 0.01, np.ones_like(batch.old_logp)

    def gradient(logp=moved, **more):
        config = dataclasses.replace(
            CONFIG, covariance_share=0.1, covariance_bounds=(0.0, 99.0), **more
        )
        weighed = weigh(batch, 0, DR_GRPO, config)
        loss = lambda logp: policy_loss(logp, entropy, weighed, DR_GRPO, config)[0]
        return jax.grad(loss)(logp), weighed

    plain, weighed = gradient()
    clip, marked = gradient(covariance="clip")
    np.testing.assert_array_equal(clip, np.where(marked.high_covariance, 0, plain))
    kl, marked = gradient(covariance="kl", covariance_kl=2.0)
    # The absolute log ratio, which is 0.01 everywhere: it pulls back with one strength,
    # and not at all where nothing has moved.
    pull = 2 * marked.high_covariance * marked.penalties
    np.testing.assert_allclose(kl, plain + pull, rtol=1e-4, atol=1e-8)
    at_rest = gradient(batch.old_logp, covariance="kl", covariance_kl=2.0)[0]
    np.testing.assert_array_equal(at_rest, gradient(batch.old_logp)[0])
    assert 0 < np.sum(marked.high_covariance) < np.sum(batch.mask)


def test_updates_move_towards_what_was_worth_more_and_start_from_a_ratio_of_one(
    compilations,
):
    config = dataclasses.replace(
        CONFIG,
        learning_rate=1e-2,
        steps=4,
        clip_norm=1.0,
        ratio_distribution="sample",
        temperature=0.7,
    )
    mesh, batch, params = (
        training_mesh(devices=jax.devices()[:1]),
        batch_of(),
        random_params(TINY),
    )
    logps = make_logps(TINY, config, FULL, mesh)
    read = lambda params: np.asarray(
        logps(params, batch.tokens, batch.start, batch.mask.shape[1])
    )
    before = read(params)
    at = np.flatnonzero(batch.mask[1])
    logits = Model(TINY, jax.tree.map(jnp.asarray, params), None).logits(
        np.maximum(batch.tokens[1:2], 0)
    )
    wanted = jax.nn.log_softmax(logits[0] / 0.7)[batch.start[1] + at - 1]
    close(
        before[1, at], wanted[np.arange(len(at)), batch.tokens[1, batch.start[1] + at]]
    )

    state = sharding.shard_tree(
        init_state(jax.tree.map(jnp.array, params), config), mesh
    )
    placed = place_batch(batch.replace(old_logp=before, ref_logp=before), mesh)
    update = make_update(TINY, GSPO, config, FULL, mesh)
    state, first = update(state, placed)
    np.testing.assert_allclose(first["ratio_max"], 1, atol=1e-6)
    assert (
        first["logp_gap"] < 1e-5
        and first["clip_share"] == 0
        and first["moved"] < 1e-9
        and abs(first["kl"]) < 1e-9
    )
    seen = len(compilations())
    for _ in range(3):
        state, last = update(state, placed)
    assert (
        len(compilations()) == seen
        and int(state.step) == 4
        and last["learning_rate"] == np.float32(1e-2)
    )
    assert last["clip_share"] > 0 and last["kl"] > 0
    assert np.sum((read(state.params) - before) * batch.advantages) > 0


def test_what_does_not_divide_is_named():
    mesh = training_mesh(devices=jax.devices()[:1])
    check = lambda mesh=mesh, **more: check_policy(
        dataclasses.replace(CONFIG, **more), mesh
    )
    check()
    with pytest.raises(
        UserError, match="32 x 8 = 256 rows do not divide into minibatches = 3"
    ):
        check(minibatches=3)
    with pytest.raises(
        UserError, match="256 rows do not divide into microbatches of 24"
    ):
        check(microbatch=24)
    with pytest.raises(
        UserError, match="a microbatch of 4 rows splits the 8 of a problem"
    ):
        check(microbatch=4, shared_prompts=True)
    with pytest.raises(UserError, match="model_axis = 3 does not divide 1 devices"):
        training_mesh(3, jax.devices()[:1])
    eight = jax.sharding.AbstractMesh((8, 1), sharding.AXES)
    with pytest.raises(
        UserError,
        match=r"a microbatch of 4 rows does not divide among 8 data shards \(8 devices",
    ):
        check(eight, microbatch=4)
    with pytest.raises(
        UserError, match="3 x 4 = 12 rows does not divide among 8 data shards"
    ):
        check(eight, prompts=3, rollouts=4)


def compare_meshes() -> None:
    """On eight devices: loss and gradients of several meshes, with microbatches or not,
    against one device's.
    """
    assert jax.device_count() == 8
    config = dataclasses.replace(CONFIG, kl=0.1, entropy=0.1)
    batch, one = batch_of(rows=16, width=16), training_mesh(devices=jax.devices()[:1])
    low = {"trained": adapters_away_from_zero(), "frozen": random_params(TINY)}
    # (devices of a model axis, rows of a microbatch, widths of one)
    for lora, given, forms in (
        (FULL, {}, [(1, 0, 1), (2, 8, 2)]),
        (ADAPTERS, low, [(4, 0, 1)]),
    ):
        wanted = one_update(
            batch,
            GRPO,
            dataclasses.replace(config, length_buckets=1),
            lora,
            one,
            **given,
        )
        for model_axis, microbatch, widths in forms:
            own = dataclasses.replace(
                config, microbatch=microbatch, length_buckets=widths
            )
            mesh = training_mesh(model_axis)
            rows = sort_by_length(batch.columns_used(), microbatch, mesh)
            some = jax.tree.map(lambda x: x[rows], batch)
            close(one_update(some, GRPO, own, lora, mesh, **given), wanted)
    print("all meshes agree")


def test_eight_devices_are_one_device():
    here = Path(__file__).parent
    env = {
        **os.environ,
        "XLA_FLAGS": os.environ["XLA_FLAGS"]
        + " --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    env.pop("JAX_NUM_CPU_DEVICES", None)
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here.parent), str(here), env.get("PYTHONPATH", "")]
    )
    command = [sys.executable, "-c", "import test_policy; test_policy.compare_meshes()"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "all meshes agree" in done.stdout, done.stderr[
        -2000:
    ]
