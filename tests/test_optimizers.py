"""The optimisers against numpy: two updates of a small matrix each, and moments that
are kept in bfloat16.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fr.config import PolicyConfig, TrainingConfig
from fr.training.update import make_optimizer

CONFIG = PolicyConfig(learning_rate=0.01, weight_decay=0.1, clip_norm=1e9)
DRAW = np.random.default_rng(0)
START, GRADS = DRAW.normal(size=(3, 4)), DRAW.normal(size=(2, 3, 4))


def two_updates(config):
    """The parameters after two updates, and the optimiser's state."""
    rule = make_optimizer(config)
    params = {"kernel": jnp.float32(START), "scale": jnp.float32(START)}
    state = rule.init(params)
    for grad in GRADS:
        changes, state = rule.update(
            jax.tree.map(lambda _: jnp.float32(grad), params), state, params
        )
        params = optax.apply_updates(params, changes)
    return params, state


def adamw(x, decay):
    m = v = 0.0
    for i, g in enumerate(GRADS, 1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        x = x - 0.01 * (
            m / (1 - 0.9**i) / (np.sqrt(v / (1 - 0.95**i)) + 1e-8) + decay * x
        )
    return x


def lion(x, decay):  # arXiv 2302.06675
    m = 0.0
    for g in GRADS:
        x = x - 0.01 * (np.sign(0.9 * m + 0.1 * g) + decay * x)
        m = 0.99 * m + 0.01 * g
    return x


def adafactor(x, decay):  # arXiv 1804.04235; so small a matrix is not factored
    v = 0.0
    for i, g in enumerate(GRADS, 1):
        rate = 1 - float(i) ** -0.8
        v = rate * v + (1 - rate) * (g**2 + 1e-30)
        step = g / np.sqrt(v)
        step = step / max(1.0, np.sqrt(np.mean(step**2)))
        x = x - 0.01 * (step + decay * x)
    return x


@pytest.mark.parametrize("rule", [adamw, lion, adafactor])
def test_two_updates_by_hand(rule):
    params, _ = two_updates(dataclasses.replace(CONFIG, optimizer=rule.__name__))
    np.testing.assert_allclose(params["kernel"], rule(START, 0.1), rtol=1e-5, atol=1e-6)
    # Norms' scales do not decay.
    np.testing.assert_allclose(params["scale"], rule(START, 0.0), rtol=1e-5, atol=1e-6)


def test_moments_may_be_kept_in_bfloat16():
    plain, _ = two_updates(CONFIG)
    params, state = two_updates(dataclasses.replace(CONFIG, moments="bfloat16"))
    floats = [
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    assert len(floats) == 4 and {x.dtype for x in floats} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(params["kernel"], plain["kernel"], atol=2e-4)
    assert (
        params["kernel"].dtype == jnp.float32
        and np.abs(params["kernel"] - plain["kernel"]).max() > 0
    )


def test_a_large_matrix_costs_adafactor_a_row_and_a_column():
    rule = make_optimizer(TrainingConfig(steps=200, optimizer="adafactor"))
    state = rule.init({"kernel": jnp.zeros((256, 512))})
    held = sum(
        x.size for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)
    )
    assert held < 1.1 * (256 + 512)
