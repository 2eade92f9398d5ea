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
from fr.models.attention_scores import Sight
from fr.models.blockwise_attention import attend_blockwise
from fr.models.kv_cache import init_cache
from fr.models.row_attention import attend_rows
from fr.models.row_products import by_rows
from fr.models.transformer import Transformer
from fr.runs.compatibility import with_strict
from fr.sampling import token_stats
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


def of_scorer_and_update(
    shape: ModelConfig, params: dict, rows: list[tuple[list[int], int]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Log-probs of the tokens of rows, each from its start on, by scorer and update."""
    whole, start = map(list, zip(*rows))
    scorer = Scorer(Transformer(shape), params, rows=2, devices=Devices("one"))
    scores = scorer.score(whole, start)
    tokens = np.full((len(rows), max(map(len, whole)) + 3), -1, np.int32)
    for line, given in zip(tokens, whole):
        line[: len(given)] = given
    new = [len(line) - first for line, first in rows]

    def loss(scale):
        # Read on the way to a gradient, as in an update.
        read = {"params": jax.tree.map(lambda x: x * scale, params)}
        given = read, jnp.asarray(tokens), jnp.asarray(start)
        found, _ = token_logps(Transformer(shape, remat=True), *given, max(new))
        return jnp.sum(found), found

    (_, found), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(1.0)
    assert np.isfinite(slope) and slope
    return [row["logp"] for row in scores], [
        np.asarray(row)[:count] for row, count in zip(found, new)
    ]


def same_bits(one: list[np.ndarray], *others: list[np.ndarray]) -> None:
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_token_by_token_loop_scorer_and_update_agree_to_the_bit():
    """Rows end past the first block of keys; the loop's cache is longer than they."""
    params, model = random_params(SHAPE), Transformer(SHAPE)
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocab, (3, 40))

    @jax.jit
    def loop(tokens):
        def step(cache, given):
            token, following, at = given
            places = jnp.full((len(token), 1), at)
            found, cache = model.apply(
                {"params": params}, token[:, None], places, cache
            )
            moments = token_stats.logit_moments(found[:, 0], jnp.float32(0.6))
            return cache, token_stats.log_prob(moments, following)

        cache, columns = init_cache(SHAPE, len(tokens), 64), tokens.T
        at = jnp.arange(len(columns) - 1)
        return jax.lax.scan(step, cache, (columns[:-1], columns[1:], at))[1].T

    found = np.asarray(loop(jnp.asarray(tokens)))
    starts, ends = (3, 1, 20), (40, 36, 29)
    rows = [(t[:end].tolist(), s) for t, s, end in zip(tokens, starts, ends)]
    cut = [line[s - 1 : end - 1] for line, s, end in zip(found, starts, ends)]
    same_bits(cut, *of_scorer_and_update(SHAPE, params, rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"window": 7, "full_every": 2, "attention_softcap": 20.0, "post_norms": True},
        {"vocab": 8192, "width": 576, "ff": 1536, "heads": 9, "kv_heads": 3},
        {"qkv_bias": True, "tied": False, "unit_offset": True, "gelu": True},
    ],
)
def test_an_engine_s_rollouts_agree_too(changes):
    shape = dataclasses.replace(SHAPE, layers=2, **changes)
    params, draw = random_params(shape), np.random.default_rng(0)
    more = {"slots": 5, "chunk": 4, "prefill": 2, "devices": Devices("one")}
    rows = Engine(Transformer(shape), params, **more).sample(
        [
            Request(
                str(i),
                tuple(draw.integers(0, shape.vocab, length).tolist()),
                row_key(0, i),
                {"budget": 40 - i},
            )
            for i, length in enumerate((3, 40, 5, 2, 17, 70, 40))
        ]
    )
    start = [len(row.row.prompt) for row in rows]
    whole = [[*row.row.prompt, *row.tokens.tolist()] for row in rows]
    loop = [row.stats["logp"] for row in rows]
    same_bits(loop, *of_scorer_and_update(shape, params, list(zip(whole, start))))


def test_attention_by_blocks_is_attention():
    q, k, v = normal(2, 19, 4, 8), normal(2, 19, 2, 8), normal(2, 19, 2, 8)
    places = jnp.where(jnp.arange(19) < jnp.array([[19], [11]]), jnp.arange(19), -1)

    @jax.jit
    def both(q, k, v):
        turned = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
        return (
            attend_blockwise(q, k, v, Sight(places, None, 6), 9.0),
            attend_rows(q, *turned, places, 6, 9.0),
        )

    wanted, found = (np.asarray(x)[np.asarray(places) >= 0] for x in both(q, k, v))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_rows_by_blocks_have_the_function_s_gradient():
    kernel, x = normal(6, 5), normal(70, 6)
    fn = lambda kernel, x: jnp.tanh(x @ kernel)
    total = lambda call: lambda *given: jnp.sum(jnp.square(call(*given)))
    slopes = lambda call: jax.jit(jax.grad(total(call), (0, 1)))(kernel, x)
    blocks = lambda *given: by_rows(fn, *given)
    for a, b in zip(slopes(blocks), slopes(fn), strict=True):
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
