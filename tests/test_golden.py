"""Logits of tiny models of every family against torch's, kept in tests/golden."""

from pathlib import Path

import jax
import numpy as np
import pytest
from golden.make import HERE, LENGTH, MODELS, STEP, tokens_of

from fr.models import load
from fr.models.kv_cache import init_cache
from fr.models.transformer import Transformer

LOGITS = np.load(Path(HERE) / "logits.npz")


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_torch(name):
    with jax.default_matmul_precision("highest"):
        logits = load(HERE / name, "float32").logits(tokens_of(name))
    np.testing.assert_allclose(
        np.asarray(logits)[0, ::STEP], LOGITS[name], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", MODELS)
def test_logits_through_the_cache_are_those_of_torch(name):
    model, tokens = load(HERE / name, "float32"), tokens_of(name)
    run = jax.jit(
        lambda *args: Transformer(model.config).apply({"params": model.params}, *args)
    )
    cache, out = init_cache(model.config, 1, LENGTH), []
    with jax.default_matmul_precision("highest"):
        for start in range(0, LENGTH, 48):
            piece = slice(start, start + 48)
            logits, cache = run(tokens[:, piece], np.arange(LENGTH)[None, piece], cache)
            out.append(np.asarray(logits[0]))
    np.testing.assert_allclose(
        np.concatenate(out)[::STEP], LOGITS[name], atol=1e-4, rtol=0
    )
