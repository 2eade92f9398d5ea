"""The head in chunks: the same numbers and gradients for all sizes, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.models.transformer import Transformer
from fr.sampling import chunked_lm_head
from fr.sampling.chunked_lm_head import chunk_tokens, map_chunks, token_logp_entropy
from fr.sampling.scoring import token_logps

VOCAB = 300


def naive(logits, token, temperature):
    logp = jax.nn.log_softmax(logits)
    tempered = jax.nn.log_softmax(logits / temperature)
    return tempered[jnp.arange(len(token)), token], -jnp.sum(
        jnp.exp(logp) * logp, axis=-1
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("vocab", [VOCAB, 5000])
def test_a_reading_and_its_gradient_are_those_of_a_softmax(vocab, temperature):
    draw = np.random.default_rng(0)
    logits, token = (
        3 * draw.normal(size=(16, vocab)).astype(np.float32),
        draw.integers(vocab, size=16),
    )
    weights = draw.normal(size=(2, 16)).astype(np.float32)

    def total(read, logits):
        logp, entropy = read(logits, token, temperature)
        return weights[0] @ logp + weights[1] @ entropy

    for a, b in zip(
        token_logp_entropy(logits, token, temperature),
        naive(logits, token, temperature),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    given, wanted = (
        jax.jit(jax.grad(functools.partial(total, read)))(logits)
        for read in (token_logp_entropy, naive)
    )
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens, shards", [(56, 1), (57, 1), (64, 4), (16, 2)])
def test_pieces_change_nothing(tokens, shards, monkeypatch):
    draw = np.random.default_rng(1)
    states, table = (
        draw.normal(size=(tokens, 8)).astype(np.float32),
        draw.normal(size=(VOCAB, 8)),
    )
    token = draw.integers(VOCAB, size=tokens)

    @jax.jit
    def run(states, table):
        read = lambda token, state: token_logp_entropy(state @ table.T, token, 1.0)
        logp, entropy = map_chunks(read, VOCAB, (token, states), shards)
        return jnp.sum(jnp.sin(logp)) + jnp.sum(jnp.cos(entropy)), (logp, entropy)

    whole = jax.value_and_grad(run, (0, 1), has_aux=True)(states, table)
    monkeypatch.setattr(chunked_lm_head, "LOGITS", 16 * VOCAB)
    run.clear_cache()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        jax.value_and_grad(run, (0, 1), has_aux=True)(states, table),
        whole,
    )


def test_a_piece_is_small_and_full_of_rows():
    assert all(
        chunk_tokens(vocab) * vocab <= chunked_lm_head.LOGITS
        for vocab in (128, 49_152, 151_936, 262_144)
    )
    assert chunk_tokens(151_936) >= 96 and chunk_tokens(10**8) == 8


def test_memory_of_a_gradient_does_not_grow_with_the_logits(tiny_config, monkeypatch):
    monkeypatch.setattr(chunked_lm_head, "LOGITS", 64 * tiny_config.vocab)
    model = Transformer(tiny_config)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(states, count):
        table = states[: tiny_config.vocab]
        read = lambda token, state: token_logp_entropy(state @ table.T, token, 1.0)
        total = lambda states: jnp.sum(
            map_chunks(read, tiny_config.vocab, (jnp.zeros(count, jnp.int32), states))[
                0
            ]
        )
        return jax.grad(total)(states)

    def temporary(count):
        compiled = gradient.lower(
            jnp.zeros((count, model.config.width)), count
        ).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # What grows is the gradient of the states, not what the head makes of them.
    assert temporary(4096) - temporary(1024) < 4 * 3072 * (3 * tiny_config.width + 8)


def test_log_probs_of_a_window(tiny_config, tiny_params, tiny_model):
    draw = np.random.default_rng(2)
    tokens = draw.integers(0, tiny_config.vocab, (3, 20))
    tokens[1, 12:] = tokens[2, 7:] = -1
    start = np.array([4, 11, 1])
    read = jax.jit(
        lambda params: token_logps(
            Transformer(tiny_config), {"params": params}, tokens, start, 16
        )
    )
    logp, entropy = read(tiny_params)
    full = jax.nn.log_softmax(
        np.asarray(tiny_model.logits(np.maximum(tokens, 0), tokens >= 0))
    )
    for row in range(3):
        end = (tokens[row] >= 0).sum()
        at = np.arange(start[row], end)
        np.testing.assert_allclose(
            logp[row, : len(at)], full[row, at - 1, tokens[row, at]], atol=1e-5
        )
        wanted = -(np.exp(full) * full).sum(-1)[row, at - 1]
        np.testing.assert_allclose(entropy[row, : len(at)], wanted, atol=1e-5)
        assert (
            not np.asarray(logp)[row, len(at) :].any()
            and not np.asarray(entropy)[row, len(at) :].any()
        )
