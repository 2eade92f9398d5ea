"""The LM head in pieces: whoever reads logits of many tokens reads those of a few at a time, here."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fr.sampling import token_stats
from fr.sampling.vocab_reductions import pick

LOGITS = (
    2**24
)  # of one piece: 64 MiB in float32, and a reading holds several such arrays


def piece_tokens(vocab: int) -> int:
    """Tokens of one piece: memory is theirs, however many there are in all."""
    return max(8, LOGITS // vocab // 8 * 8)


def by_pieces(
    read: Callable, vocab: int, arrays: Sequence[Float[Array, "N ..."]], shards: int = 1
):
    """`read(*arrays)`, trees of [N], with the logits of a piece of the tokens alive at a time on each device.

    `read` makes the logits, `vocab` of them a token. A gradient through it makes those of a piece once more. Where
    tokens are spread over `shards` devices, a piece has as many of each.
    """
    count = arrays[0].shape[0] // shards
    pieces = -(-count // piece_tokens(vocab))
    if pieces <= 1:
        return read(*arrays)
    # Even pieces: the last one, which may be all padding but for a token, costs as much as any.
    size = -(-count // pieces // 8) * 8

    def cut(x):
        x = x.reshape(shards, count, *x.shape[1:])
        x = jnp.pad(x, [(0, 0), (0, pieces * size - count)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(shards, pieces, size, *x.shape[2:]), 1, 0)

    def join(x):
        return (
            jnp.moveaxis(x.reshape(pieces, shards, size), 0, 1)
            .reshape(shards, -1)[:, :count]
            .reshape(-1)
        )

    one = lambda part: read(*(x.reshape(-1, *x.shape[2:]) for x in part))
    out = jax.lax.map(jax.checkpoint(one, prevent_cse=False), tuple(map(cut, arrays)))
    return jax.tree.map(join, out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def token_reading(
    logits: Float[Array, "N V"], token: Int[Array, "N"], temperature: float
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Log-prob of a token at `temperature`, and the entropy of the raw policy (temperature 1), in nats.

    Both by `stats.read`, as in the loop and in every score; its sums are made for speed, so the gradient is here:
    with q the distribution at the temperature, (1[v = token] - q_v) / temperature and -p_v (log p_v + entropy).
    """
    return _read(logits, token, temperature)[0]


def _read(logits, token, temperature):
    reading = token_stats.read(logits, jnp.float32(temperature))
    logp = (pick(logits, token) - reading.peak) / temperature - reading.log_total_tau
    kept = (
        logits,
        token,
        reading.peak,
        reading.log_total,
        reading.log_total_tau,
        reading.entropy,
    )
    return (logp, reading.entropy), kept


def _pull(temperature, kept, given):
    logits, token, *rest = kept
    peak, log_total, log_total_tau, entropy, on_logp, on_entropy = (
        x[:, None] for x in (*rest, *given)
    )
    x = logits - peak
    hit = jnp.arange(logits.shape[-1]) == token[:, None]
    q = jnp.exp(x / temperature - log_total_tau)
    logp = x - log_total
    return on_logp / temperature * (hit - q) - on_entropy * jnp.exp(logp) * (
        logp + entropy
    ), None


token_reading.defvjp(_read, _pull)
