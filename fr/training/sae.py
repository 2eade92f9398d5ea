"""A TopK sparse autoencoder of states of one layer (arXiv 2406.04093), and the score of
its features for reasoning (arXiv 2503.18878).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from fr.config import SteeringConfig

_ROWS = 1 << 14  # states that are encoded at a time


@dataclasses.dataclass(frozen=True)
class Sae:
    """z = TopK(E (h - b)), h' = z D + b; rows of D have length 1.

    Attributes:
        encoder: E.
        decoder: D, one row for each of F features.
        bias: b, the mean state at first.
        active: Features that are kept of each state, by the largest values; those
            below 0 are set to 0.
        explained: 1 - mean |h - h'|^2 / mean |h - mean h|^2 on its training states.
    """

    encoder: Float[np.ndarray, "D F"]
    decoder: Float[np.ndarray, "F D"]
    bias: Float[np.ndarray, "D"]
    active: int
    explained: float = 0.0

    def encode(self, states: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N F"]:
        """Activations of the features, 0 for those that are not kept.

        Args:
            states: States of tokens.

        Returns:
            Activations z, at least 0.
        """
        params = {"encoder": self.encoder, "decoder": self.decoder, "bias": self.bias}
        encode = jax.jit(functools.partial(_encode, active=self.active))
        parts = (states[i : i + _ROWS] for i in range(0, len(states), _ROWS))
        return np.concatenate([np.asarray(encode(params, part)) for part in parts])


def train_sae(
    states: Float[np.ndarray, "N D"], config: SteeringConfig, seed: int
) -> Sae:
    """Train an autoencoder on states by Adam, on the mean squared error.

    The error is in units of the states' variance. Rows of the decoder are brought back
    to length 1 after each step; the encoder begins as the decoder's transpose.

    Args:
        states: States of N tokens.
        config: `features`, `active`, `steps`, `batch` and `learning_rate`.
        seed: Seed of the parameters and of the batches.

    Returns:
        The autoencoder.
    """
    draw = np.random.default_rng(seed)
    decoder = draw.standard_normal((config.features, states.shape[1]), np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    mean = states.mean(axis=0)
    variance = float(((states - mean) ** 2).sum(axis=1).mean())
    params = {"encoder": decoder.T.copy(), "decoder": decoder, "bias": mean}
    params = jax.tree.map(jnp.asarray, params)
    rule = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))

    def loss(params: dict, batch: Float[Array, "B D"]) -> Float[Array, ""]:
        z = _encode(params, batch, config.active)
        error = z @ params["decoder"] + params["bias"] - batch
        return jnp.sum(error**2, axis=1).mean() / variance

    @jax.jit
    def step(params, moments, batch):
        changes, moments = rule.update(jax.grad(loss)(params, batch), moments, params)
        params = optax.apply_updates(params, changes)
        length = jnp.linalg.norm(params["decoder"], axis=1, keepdims=True)
        return {**params, "decoder": params["decoder"] / length}, moments

    moments = rule.init(params)
    for _ in range(config.steps):
        batch = states[draw.integers(len(states), size=config.batch)]
        params, moments = step(params, moments, batch)
    held = states[draw.integers(len(states), size=min(len(states), _ROWS))]
    explained = 1.0 - float(loss(params, jnp.asarray(held)))
    fields = jax.tree.map(np.asarray, jax.device_get(params))
    return Sae(**fields, active=config.active, explained=explained)


def _encode(
    params: dict, states: Float[Array, "N D"], active: int
) -> Float[Array, "N F"]:
    """The `active` largest of E (h - b) of every state, at least 0, in their places."""
    z = (states - params["bias"]) @ params["encoder"]
    values, places = jax.lax.top_k(z, active)
    rows = jnp.arange(z.shape[0])[:, None]
    return jnp.zeros_like(z).at[rows, places].set(jax.nn.relu(values))


def reason_scores(
    activations: Float[np.ndarray, "N F"],
    near: Bool[np.ndarray, "W N"],
    power: float,
) -> Float[np.ndarray, "F"]:
    """ReasonScore of every feature (arXiv 2503.18878).

    (mu+_i / sum_j mu+_j) H_i^a - mu-_i / sum_j mu-_j. mu+_i is the mean activation at
    tokens near a word of reasoning, mu-_i elsewhere. H_i is the entropy of mu+_i by
    word over the log of the number of words, so that a feature of one word counts
    little.

    Args:
        activations: Activations of F features at N tokens.
        near: Tokens near each of W words.
        power: The power a of the entropy.

    Returns:
        Scores; at most 1, above 0 for features of reasoning.
    """
    share = lambda x: x / max(float(x.sum()), 1e-30)
    mean = lambda mask: activations[mask].sum(axis=0) / max(int(mask.sum()), 1)
    by_word = np.stack([mean(mask) for mask in near])
    p = by_word / np.maximum(by_word.sum(axis=0), 1e-30)
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=0)
    entropy = entropy / np.log(len(near)) if len(near) > 1 else np.ones_like(entropy)
    inside = near.any(axis=0)
    scores = share(mean(inside)) * np.maximum(entropy, 0.0) ** power
    return scores - share(mean(~inside))
