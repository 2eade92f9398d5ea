"""Strict sums: loop, scorer and updates give a token the same bits."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params

from fr.config import Config, LoraConfig, PolicyConfig, SamplingConfig
from fr.config.experiment import validate
from fr.errors import UserError
from fr.models import ModelConfig
from fr.models.blockwise_attention import Sight, attend_blockwise
from fr.models.row_attention import attend_rows
from fr.models.row_products import by_rows
from fr.models.transformer import Transformer
from fr.runs.compatibility import with_strict
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.sampling.scoring import Scorer, token_logps
from fr.types import Request

SHAPE = ModelConfig(
    vocab=37,
    width=48,
    layers=1,
    heads=4,
    kv_heads=2,
    head_dim=12,
    ff=80,
    qk_norm=True,
    by_rows=True,
)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(len(shape)).standard_normal(shape), "f4")


def readings(shape: ModelConfig, slots: int, lengths: tuple[int, ...], budget: int):
    """Log-probs of the same tokens by loop, scorer and an update, [row][token]."""
    model, params = Transformer(shape), random_params(shape)
    draw, one = np.random.default_rng(0), Devices("one")
    engine = Engine(model, params, slots=slots, chunk=4, prefill=2, devices=one)
    todo = [
        Request(
            str(i),
            tuple(draw.integers(0, shape.vocab, length).tolist()),
            row_key(0, i),
            {"budget": budget - i},
        )
        for i, length in enumerate(lengths)
    ]
    rows = engine.sample(todo)
    whole = [[*r.row.prompt, *r.tokens.tolist()] for r in rows]
    scorer = Scorer(model, params, rows=2, devices=one)
    scores = scorer.score(whole, list(lengths))
    tokens = np.full((len(rows), max(map(len, whole)) + 3), -1, np.int32)
    for line, given in zip(tokens, whole):
        line[: len(given)] = given

    def both(scale, *given):
        read = {"params": jax.tree.map(lambda x: x * scale, params)}
        module = Transformer(shape, remat=True)
        found, _ = token_logps(module, read, *given, budget)
        return jnp.sum(found), found

    gradient = jax.jit(jax.value_and_grad(both, has_aux=True))
    (_, found), slope = gradient(jnp.float32(1), tokens, jnp.asarray(lengths))
    assert np.isfinite(slope)
    cut = [np.asarray(line)[: len(r.tokens)] for line, r in zip(found, rows)]
    return [r.stats["logp"] for r in rows], [s["logp"] for s in scores], cut


def test_loop_scorer_and_update_agree_to_the_bit():
    # Rows of unequal age, prompts of other lengths, and a cache that grows past the
    # first block of keys.
    loop, *others = readings(SHAPE, slots=3, lengths=(3, 11, 5, 2), budget=30)
    for other in others:
        for a, b in zip(loop, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"window": 7, "full_every": 2, "attention_softcap": 20.0, "post_norms": True},
        {"vocab": 8192, "width": 576, "ff": 1536, "heads": 9, "kv_heads": 3},
        {"qkv_bias": True, "tied": False, "unit_offset": True, "gelu": True},
    ],
)
def test_other_shapes_agree_too(changes):
    shape = dataclasses.replace(SHAPE, layers=2, **changes)
    lengths = (3, 40, 5, 2, 17, 70)
    loop, *others = readings(shape, slots=5, lengths=lengths, budget=40)
    for other in others:
        for a, b in zip(loop, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_attention_by_blocks_is_attention():
    q, k, v = normal(2, 19, 4, 8), normal(2, 19, 2, 8), normal(2, 19, 2, 8)
    places = jnp.where(jnp.arange(19) < jnp.array([[19], [11]]), jnp.arange(19), -1)
    wanted = attend_blockwise(q, k, v, Sight(places, None, 6), 9.0)
    found = attend_rows(
        q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), places, 6, 9.0
    )
    live = (places >= 0)[:, :, None, None]
    np.testing.assert_allclose(
        jnp.where(live, found, 0), jnp.where(live, wanted, 0), atol=1e-5
    )


def test_rows_by_blocks_have_the_function_s_gradient():
    kernel, x = normal(6, 5), normal(70, 6)
    fn = lambda kernel, x: jnp.tanh(x @ kernel)
    total = lambda call: lambda *given: jnp.sum(jnp.square(call(*given)))
    wanted = jax.grad(total(fn), (0, 1))(kernel, x)
    found = jax.grad(total(lambda *given: by_rows(fn, *given)), (0, 1))(kernel, x)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_what_cannot_agree_is_refused_in_one_line():
    strict = Config(algorithm="grpo", sampling=SamplingConfig(strict=True))
    validate(strict)
    for changes, name in (
        ({"policy": PolicyConfig(shared_prompts=True)}, "policy.shared_prompts"),
        ({"policy": PolicyConfig(dtype="bfloat16")}, "policy.dtype"),
        (
            {"policy": PolicyConfig(ratio_distribution="sample")},
            "policy.ratio_distribution",
        ),
        ({"lora": LoraConfig(rank=4)}, "lora.rank"),
    ):
        with pytest.raises(UserError, match=rf"strict with .*config.{name}"):
            validate(dataclasses.replace(strict, **changes))


def test_strict_is_for_one_cpu_in_float32(tiny_model):
    config, one = Config(sampling=SamplingConfig(strict=True)), Devices("one")
    assert with_strict(tiny_model, config, one).config.by_rows
    assert with_strict(tiny_model, Config(), one) is tiny_model
    gpu = types.SimpleNamespace(platform="gpu")
    other = types.SimpleNamespace(all_devices=[gpu] * 2, devices=[gpu])
    with pytest.raises(UserError, match="one CPU in float32, and this is 2 x gpu"):
        with_strict(tiny_model, config, other)
