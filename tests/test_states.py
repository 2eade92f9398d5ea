"""Reading states, vectors from them, sparse features, and vectors as adapters."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params
from policy_batches import make_batch

from fr.config import LoraConfig, PolicyConfig, SteeringConfig
from fr.config.algorithms import DR_GRPO
from fr.config.experiment import default, freeze
from fr.errors import UserError
from fr.models import Model, load
from fr.models.dense import merge
from fr.models.transformer import Transformer
from fr.models.vector_files import read_vectors
from fr.sampling.devices import Devices
from fr.sampling.hidden_states import StateReader
from fr.tasks.behaviours import windows, words_of
from fr.tasks.formats import CHAT, CompletionText, format_of
from fr.training.lineage import train_lineage
from fr.training.lora import init_adapters, variables, with_vectors
from fr.training.microbatches import training_mesh
from fr.training.policy_update import make_update
from fr.training.sae import reason_scores, train_sae
from fr.training.update import init_state
from fr.training.vector_sources import Written, difference_of_means, find_vectors

VECTORS = LoraConfig(vectors=True)
TOKENS = [[5, 6, 7, 8, 9], [5, 9, 3]]


@pytest.fixture(scope="module")
def reader(tiny_config, tiny_params):
    return StateReader(
        Transformer(tiny_config), tiny_params, rows=2, devices=Devices("one")
    )


def test_states_are_the_model_cut_off_after_a_layer(reader, tiny_config, tiny_params):
    """Their final norm is the output of a model that ends there."""
    scale = np.asarray(tiny_params["final_norm"]["scale"])
    for layer in range(2):
        config = dataclasses.replace(tiny_config, layers=layer + 1)
        layers = jax.tree.map(lambda x: x[: layer + 1], tiny_params["layers"])
        found = reader.states(TOKENS, layer)
        assert [len(h) for h in found] == [5, 3]
        read = jax.jit(functools.partial(Transformer(config).apply, method="hidden"))
        variables = {"params": {**tiny_params, "layers": layers}}
        # One program for both: a pad at the end is not seen.
        for ids, h in zip(TOKENS, found):
            at = np.arange(5) - 6 * (np.arange(5) >= len(ids))
            padded = np.pad(ids, (0, 5 - len(ids)))
            out = read(variables, padded[None], np.maximum(at, -1)[None])[0][0]
            norm = np.sqrt((h**2).mean(axis=1, keepdims=True) + tiny_config.norm_eps)
            np.testing.assert_allclose(h / norm * scale, out[: len(ids)], atol=1e-4)


def test_weighted_sums_of_more_sequences_than_a_pass_holds(reader):
    sequences = [*TOKENS, [4], [8, 8], [7, 6, 5]]
    draw = np.random.default_rng(0)
    weights = [draw.normal(size=(3, len(s))).astype(np.float32) for s in sequences]
    found = reader.sums(sequences, weights)
    assert found.shape == (5, 3, 2, 32)
    for layer in range(2):
        states = reader.states(sequences, layer)
        for given, h, weight in zip(found, states, weights):
            np.testing.assert_allclose(given[:, layer], weight @ h, atol=1e-4)
    assert reader.sums([], []).shape == (0, 0, 2, 32)


def test_windows_by_hand(tiny_model):
    """Characters are tokens: `9 up 3 yes up`, a token before and at most three."""
    form = format_of("countdown")
    ids = tiny_model.encode("9 up 3 yes up")
    text = CompletionText(form, ids, tiny_model)
    [(word, pattern)] = words_of("backtracking", form)
    assert word == "up"
    assert windows(text, pattern, 1, 3) == [range(1, 4), range(10, 13)]
    assert windows(text, pattern, 1, 2) == [range(1, 3), range(10, 12)]
    assert windows(text, pattern, 1, 4, after=2) == [range(1, 5), range(10, 13)]
    assert windows(text, re.compile("9"), 2, 5) == [range(-1, 1)]
    assert windows(text, re.compile("x*"), 1, 5) == []
    assert [w for w, _ in words_of("verdict", form)] == ["yes", "no"]
    [(_, sentence)] = [p for p in words_of("backtracking", CHAT) if p[0] == "Wait"]
    assert sentence.search("So. Wait, no. Then").group() == "Wait, no"
    with pytest.raises(
        UserError, match="not a behaviour .backtracking, .* or a regular"
    ):
        words_of("(", form)


def written(model: Model, *texts: str) -> list[Written]:
    form = format_of("countdown")
    prompt = model.encode("1 2")
    return [
        Written(prompt, CompletionText(form, model.encode(t), model)) for t in texts
    ]


def test_difference_of_means_by_hand(reader, tiny_model):
    some = written(tiny_model, "3 up 4", "5 + 5", "up")
    config = SteeringConfig(window=3)
    found = difference_of_means(config, reader, some)
    assert found.record["occurrences"] == 2 and found.record["tokens"] == 13
    for layer in range(2):
        h = reader.states([one.ids for one in some], layer)
        # ` up` after `3` of the first; the prompt's last token and `up` of the third.
        behaviour = (h[0][4:7].mean(axis=0) + h[2][2:5].mean(axis=0)) / 2
        mean = np.concatenate([part[3:] for part in h]).mean(axis=0)
        away = behaviour - mean
        wanted = away * np.linalg.norm(mean) / np.linalg.norm(away)
        np.testing.assert_allclose(found.vectors[layer], wanted, atol=1e-4)
    control = find_vectors(
        dataclasses.replace(config, source="random"), 0, reader, some
    )
    norms = [np.linalg.norm(f.vectors, axis=1) for f in (found, control)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)
    assert np.abs(control.vectors - found.vectors).max() > 0.1
    with pytest.raises(UserError, match="'zz' occurs in none of 3 completions"):
        difference_of_means(SteeringConfig(behaviour="zz"), reader, some)


def test_a_sparse_autoencoder_finds_the_directions_that_states_are_made_of():
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.normal(size=(16, 16)))[0][:8].astype(np.float32)
    use = draw.random((4000, 8)) < 0.15
    size = use * draw.uniform(1, 3, use.shape)
    states = (size @ basis + 0.5).astype(np.float32)
    config = SteeringConfig(
        features=24, active=4, steps=600, batch=256, learning_rate=3e-3
    )
    sae = train_sae(states, config, 0)
    assert sae.explained > 0.9
    z = sae.encode(states)
    assert (z >= 0).all() and (z > 0).sum(axis=1).max() <= 4
    np.testing.assert_allclose(np.linalg.norm(sae.decoder, axis=1), 1, atol=1e-5)
    alive = sae.decoder[z.max(axis=0) > 0]
    assert (np.abs(basis @ alive.T).max(axis=1) > 0.8).all()


def test_reason_scores_by_hand():
    """Feature 0 at both words, 1 at one of them, 2 elsewhere."""
    z = np.array([[2, 4, 0], [2, 0, 0], [0, 0, 3], [0, 0, 3]], float)
    near = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool)
    # mu+ = (2, 2, 0), mu- = (0, 0, 3); entropies 1, 0 and none.
    np.testing.assert_allclose(reason_scores(z, near, 0.7), [0.5, 0.0, -1.0])
    # Words that share a feature unequally: p = (1/4, 3/4).
    z[1, 1] = 12.0
    share, entropy = 8 / 10, -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(2)
    np.testing.assert_allclose(
        reason_scores(z, near, 0.7)[1], share * entropy**0.7, rtol=1e-6
    )


def test_vectors_as_adapters_are_the_bias_and_its_gradient(tiny_config):
    params = random_params(tiny_config)
    start = with_vectors(Model(tiny_config, params, None), VECTORS)
    assert start.config.residual_bias and not start.params["layers"]["offset"].any()
    fresh = init_adapters(start.config, VECTORS, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(fresh)) == 2 * 32
    draw = np.random.default_rng(0)
    low = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), fresh)
    tokens, at = jnp.array([TOKENS[0]]), jnp.arange(5)[None]
    module = Transformer(start.config)

    def by_hook(low):
        out = module.apply(variables(low, start.params, VECTORS), tokens, at)[0]
        return jnp.sum(jnp.sin(out))

    def by_bias(low):
        merged = merge(start.params, low, VECTORS)
        return jnp.sum(jnp.sin(module.apply({"params": merged}, tokens, at)[0]))

    for one, other in zip(
        *(
            jax.tree.leaves(jax.jit(jax.value_and_grad(f))(low))
            for f in (by_hook, by_bias)
        )
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_an_update_of_vectors_leaves_the_base_alone(tiny_config):
    config = PolicyConfig(steps=2, max_new_tokens=8, learning_rate=1e-2)
    start = with_vectors(Model(tiny_config, random_params(tiny_config), None), VECTORS)
    mesh, ones = training_mesh(devices=jax.devices()[:1]), np.ones((4, 6), np.float32)
    batch = make_batch([[1, 2]] * 4, np.full((4, 6), 7), ones, -3 * ones, ones)
    frozen = jax.tree.map(jnp.asarray, start.params)
    update = make_update(start.config, DR_GRPO, config, VECTORS, mesh)
    state = init_state(init_adapters(start.config, VECTORS, jax.random.key(0)), config)
    for _ in range(2):
        state, metrics = update(state, batch, frozen)
    assert metrics["grad_norm"] > 0
    jax.tree.map(np.testing.assert_array_equal, frozen, start.params)
    seen = [1, 2, 7, 7]
    logits = lambda p: Model(start.config, p, None).logits([seen])[0, -1]
    logp = lambda p: float(jax.nn.log_softmax(logits(p))[7])
    assert logp(merge(start.params, state.params, VECTORS)) > logp(start.params)


def test_products_and_vectors_exclude_each_other():
    c = default()
    c.lora.vectors, c.lora.rank = True, 2
    with pytest.raises(UserError, match="lora.rank = 2 must be 0 with config.lora.vec"):
        freeze(c)


def steering(**changes):
    c = default()
    c.algorithm, c.ancestor, c.task.name = "vector", "countdown", "countdown"
    c.task.problems = 4
    c.sampling.max_new_tokens, c.sampling.slots = 48, 16
    c.steering.problems, c.steering.rollouts = 8, 2
    c.steering.validation, c.steering.samples = 4, 1
    c.steering.strengths, c.steering.places = (-0.5,), "all"
    c.steering.update(changes)
    return freeze(c)


@pytest.mark.slow
def test_the_algorithm_leaves_a_model_with_the_chosen_vector(tmp_path):
    train_lineage(steering(), tmp_path)
    record = json.loads((tmp_path / "specialist" / "steering.json").read_text())
    assert record["chosen"] | {"accuracy": 0} == {
        "layer": -1,
        "strength": -0.5,
        "accuracy": 0,
    }
    assert record["parameters"] == 4 * 128 and record["found"]["occurrences"] > 0
    assert set(record["tokens"]) == {"read", "states", "choice"}
    model, base = load(tmp_path / "specialist", "float32"), load("countdown", "float32")
    vectors = read_vectors(tmp_path / "specialist" / "vectors.safetensors", base.config)
    np.testing.assert_allclose(
        model.params["layers"]["offset"], -0.5 * vectors, rtol=1e-6
    )
    np.testing.assert_array_equal(
        model.params["embed"]["embedding"], base.params["embed"]["embedding"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("source", ["random", "sae", "sae_random"])
def test_other_sources(tmp_path, source):
    small = {"features": 32, "active": 4, "steps": 50, "batch": 64}
    train_lineage(steering(source=source, **small), tmp_path)
    record = json.loads((tmp_path / "specialist" / "steering.json").read_text())
    assert record["source"] == source
    assert record["parameters"] == 128 * (4 if source == "random" else 1)
