"""Losses over masked tokens."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

MAX_LOGITS = 2**25  # logits alive at once (128 MiB in float32): a large vocabulary is worked off in pieces


def next_token_loss(
    head, hidden: Float[Array, "B T D"], tokens: Int[Array, "B T"], weights: Float[Array, "B T"], vocab: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted sum of the tokens' negative log-probs (nats, float32), and the sum of the weights.

    `head` maps states [..., D] to logits [..., vocab]. The state at t − 1 predicts the token at t, so the
    weight of a row's first token never counts. Logits are made and dropped in pieces of at most `MAX_LOGITS`.
    """
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1])
    targets, weights = tokens[:, 1:].reshape(-1), weights[:, 1:].reshape(-1).astype(jnp.float32)

    def piece(part):
        states, targets, weights = part
        logits = head(states).astype(jnp.float32)
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, targets) * weights)

    parts = -(-states.shape[0] * vocab // MAX_LOGITS)
    if parts == 1:
        return piece((states, targets, weights)), jnp.sum(weights)
    # Padding has weight 0; recomputing a piece in the backward pass keeps one piece of logits alive.
    pad = -states.shape[0] % parts
    cut = lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(parts, -1, *x.shape[1:])
    sums = jax.lax.map(jax.checkpoint(piece), (cut(states), cut(targets), cut(weights)))
    return jnp.sum(sums), jnp.sum(weights)
