"""Losses over masked tokens."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fr.sampling.pieces import by_pieces, token_reading


def next_token_loss(
    head: Callable,
    hidden: Float[Array, "B T D"],
    tokens: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    vocab: int,
    shards: int = 1,
) -> Float[Array, ""]:
    """Weighted sum of the tokens' negative log-probs (nats, float32).

    `head` maps states [..., D] to logits [..., vocab]. The state at t - 1 predicts the token at t, so the weight of
    a row's first token never counts. `shards` is the number of devices that the rows are spread over.
    """
    read = lambda target, state: token_reading(head(state), target, 1.0)
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])
    logp, _ = by_pieces(read, vocab, (tokens[:, 1:].reshape(-1), states), shards)
    return -jnp.sum(logp * weights[:, 1:].reshape(-1))
