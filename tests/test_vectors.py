"""Steering vectors: as rows of one loop, as a bias of the layers, and in files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import row
from test_decode import LONG
from test_interventions import fill
from test_probes import ANSWERS, CUE, check

from fr.config import Config
from fr.config.experiment import as_dict, default, freeze
from fr.errors import UserError
from fr.interventions.vectors import vector_table
from fr.models import Model, load, save
from fr.models.transformer import Transformer, unstack
from fr.models.vector_files import read_vectors, write_vectors
from fr.runs import stages
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.scoring import Scorer
from fr.types import Probe

STEERED = [
    row("plain", LONG, budget=9),
    row("up", LONG, budget=9, vector=1, vector_strength=0.7),
    row("down", LONG, budget=9, vector=1, vector_strength=-1.0),
    row("other", LONG[:6], budget=12, vector=2),
    row("one token", (5,), budget=9, vector=2, vector_strength=0.5),
    row("off", LONG, budget=9, vector=2, vector_strength=0.0),
    row("zero", LONG, budget=9, vector=0, vector_strength=3.0),
    row("again", LONG, budget=9, vector=1, vector_strength=0.7),
]


@pytest.fixture(scope="module")
def vectors(tiny_config):
    """No vector and two others for each of the two layers, [L, K, D]."""
    shape = (tiny_config.layers, 3, tiny_config.width)
    table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    table[:, 0] = 0.0
    return table


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_params, vectors):
    """The session's plain engine with a table of vectors."""
    return Engine(
        Transformer(tiny_config),
        tiny_params,
        slots=4,
        chunk=4,
        prefill=2,
        devices=Devices("one"),
        vectors=vectors,
    )


@pytest.fixture(scope="module")
def steered(engine):
    """Rollouts of `STEERED`, with probes."""
    plan = lambda asked, tokens: Probe((0, len(tokens)), CUE, ANSWERS)
    return {r.row.id: r for r in engine.sample(STEERED, 64, probe_plan=plan)}


def folded(config, params, offset):
    """Config and parameters with vectors as a bias of the layers, written by hand."""
    layers = params["layers"] | {"offset": jnp.asarray(offset)}
    return (
        dataclasses.replace(config, residual_bias=True),
        {**params, "layers": layers},
    )


def test_a_row_with_a_vector_is_a_row_of_a_model_with_that_bias(
    steered, vectors, tiny_config, tiny_params, char_tokenizer
):
    """Prompt, loop, probes and the scorer, although the rows shared one batch."""
    for asked in STEERED[:5]:
        given = steered[asked.id]
        place = asked.params.get("vector", 0)
        offset = vectors[:, place] * asked.params.get("vector_strength", 1.0)
        config, params = folded(tiny_config, tiny_params, offset)
        if asked.id in ("up", "other"):
            scores = Scorer(Transformer(config), params, devices=Devices("one")).score(
                [[*asked.prompt, *given.tokens]], [len(asked.prompt)]
            )[0]
            for name, value in given.stats.items():
                wanted = scores[name]
                np.testing.assert_allclose(value, wanted, atol=1e-4, err_msg=name)
        check(
            Model(config, params, char_tokenizer, (1,)),
            given,
            Probe((0, given.length), CUE, ANSWERS),
        )


def test_rows_without_a_vector_are_plain_rows(steered, plain_engine):
    plain = plain_engine.sample([dataclasses.replace(STEERED[0], params={"budget": 9})])
    np.testing.assert_array_equal(steered["plain"].tokens, plain[0].tokens)
    for name, value in steered["plain"].stats.items():
        # Another program: what is fused differs, and so do the last bits.
        wanted = plain[0].stats[name]
        np.testing.assert_allclose(value, wanted, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("other, same", [("off", True), ("zero", True), ("up", False)])
def test_a_zero_vector_does_nothing_to_the_byte(engine, other, same):
    one = dataclasses.replace(
        next(r for r in STEERED if r.id == other), key=STEERED[0].key
    )
    here, there = engine.sample([STEERED[0], one], 64)
    equal = [np.array_equal(here.tokens, there.tokens)]
    equal += [np.array_equal(here.stats[n], there.stats[n]) for n in here.stats]
    assert all(equal) if same else not any(equal[1:])


def test_a_scan_is_its_layers_and_the_last_vector_is_added_before_the_norm(
    tiny_config, tiny_params, vectors
):
    tokens, at = jnp.array([LONG[:8]]), jnp.arange(8)[None]
    read = jax.jit(
        lambda config, variables: Transformer(config).apply(
            variables, tokens, at, method="hidden"
        )[0],
        static_argnums=0,
    )
    hidden = lambda params, steer, config=tiny_config: np.asarray(
        read(config, {"params": params} | steer)
    )
    steer = {"steer": {"layers": {"offset": jnp.asarray(vectors[:, 1])}}}
    stacked = hidden(tiny_params, steer)
    layers = unstack(tiny_params["layers"], tiny_config.layers)
    inlined = hidden({**tiny_params, "layers": layers}, steer)
    np.testing.assert_allclose(stacked, inlined, atol=1e-5)
    config, params = folded(tiny_config, tiny_params, vectors[:, 1])
    np.testing.assert_allclose(stacked, hidden(params, {}, config), atol=1e-5)
    # In the last layer alone: a norm with scale 1 and no eps gives the state itself,
    # up to its length.
    last = np.zeros_like(vectors[:, 1])
    last[-1] = 100.0 * vectors[-1, 1]
    only = {"steer": {"layers": {"offset": jnp.asarray(last)}}}
    scale = np.asarray(tiny_params["final_norm"]["scale"])
    seen = hidden(tiny_params, only)[0] / scale
    wanted = last[-1] / np.sqrt(np.mean(last[-1] ** 2))
    np.testing.assert_allclose(seen, np.tile(wanted, (8, 1)), atol=0.1)


def test_engines_without_vectors_refuse_them_and_have_no_place_for_them(plain_engine):
    with pytest.raises(ValueError, match="steered by vector 2, and the engine has 0"):
        plain_engine.sample([row("x", vector=2)], 128)
    assert plain_engine._batch._params.vectors is None
    plain_engine._batch.start(64)
    assert plain_engine._batch.state.rows.vector is None
    plain_engine._batch.stop()


def test_a_file_of_vectors(tmp_path, tiny_config, vectors):
    path = tmp_path / "v.safetensors"
    write_vectors(path, vectors[:, 1], {"source": "means"})
    np.testing.assert_array_equal(read_vectors(path, tiny_config), vectors[:, 1])
    wide = dataclasses.replace(tiny_config, width=64)
    with pytest.raises(UserError, match="shape .2, 32., and the model has 2 layers of"):
        read_vectors(path, wide)
    with pytest.raises(UserError, match="not a file of steering vectors"):
        read_vectors(tmp_path / "none", tiny_config)
    write_vectors(path, vectors[:, 1] * np.inf, {})
    with pytest.raises(UserError, match="infinite or NaN"):
        read_vectors(path, tiny_config)


def test_the_table_of_a_run_and_its_operators(tmp_path, tiny_config, vectors):
    path = tmp_path / "v.safetensors"
    write_vectors(path, vectors[:, 1], {})
    c = default()
    c.intervention.vector, c.intervention.vector_strength = str(path), -0.5
    table = vector_table(freeze(c), tiny_config)
    assert table.shape == (2, 10, 32) and not table[:, 0].any()
    np.testing.assert_array_equal(table[:, 1], vectors[:, 1])
    norms = np.linalg.norm(table, axis=2)
    np.testing.assert_allclose(norms[:, 1:], norms[:, 1:2].repeat(9, 1), rtol=1e-5)
    assert len(np.unique(table[0, :, 0])) == 10
    assert fill("steer_vector", config=freeze(c)) == {
        "vector": 1,
        "vector_strength": -0.5,
    }
    places = [fill("steer_random", i, config=freeze(c))["vector"] for i in range(9)]
    assert places == [*range(2, 10), 2]
    c.intervention.vector_layers = (1,)
    assert not vector_table(freeze(c), tiny_config)[0].any()
    c.intervention.vector_layers = (2,)
    with pytest.raises(UserError, match="no layer 2; the model has 2"):
        vector_table(freeze(c), tiny_config)
    with pytest.raises(UserError, match="'steer_random' needs config.intervention.vec"):
        fill("steer_random", config=Config())


def test_a_folded_model_names_its_bias_as_llama_does(
    tmp_path, tiny_config, tiny_params, vectors
):
    config, params = folded(tiny_config, tiny_params, vectors[:, 1])
    save(tmp_path, config, params)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["mlp_bias"] is True and written["model_type"] == "llama"
    again = load(tmp_path, "float32")
    np.testing.assert_array_equal(again.params["layers"]["offset"], vectors[:, 1])
    # A Llama with all three biases is not one of ours.
    del written["residual_bias"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="mlp_bias = True is not supported"):
        load(tmp_path)
    tokens = np.array([LONG])
    plain = Model(tiny_config, tiny_params, None).logits(tokens)
    assert np.abs(again.logits(tokens) - plain).max() > 0.1
    jax.tree.map(
        np.testing.assert_array_equal,
        {**again.params, "layers": {**again.params["layers"], "offset": 0}},
        {**tiny_params, "layers": {**tiny_params["layers"], "offset": 0}},
    )


def test_other_vectors_than_a_stage_was_made_with_are_noticed(tmp_path):
    settings = as_dict(Config())
    for stage in ("attempts", "evaluation", "online"):
        stages.begin(tmp_path / stage, stage, settings, {"vector": "one"})
        stages.check(tmp_path / stage, settings, {"vector": "one"})
        with pytest.raises(UserError, match="config.intervention.vector have changed"):
            stages.check(tmp_path / stage, settings, {"vector": "other"})
