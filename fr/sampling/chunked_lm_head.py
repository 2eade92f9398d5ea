"""The LM head in chunks of tokens: few logits exist at a time."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from fr.sampling import token_stats
from fr.sampling.vocab_reductions import gather_token

# Logits of one chunk: 64 MiB in float32, and statistics hold several such arrays.
LOGITS = 2**24


def chunk_tokens(vocab: int) -> int:
    """Tokens of one chunk, however many there are in all.

    Args:
        vocab: Logits per token.

    Returns:
        A multiple of 8.
    """
    return max(8, LOGITS // vocab // 8 * 8)


def map_chunks(
    read: Callable,
    vocab: int,
    arrays: Sequence[Shaped[Array, "N ..."]],
    shards: int = 1,
):
    """Compute `read(*arrays)` with the logits of one chunk of tokens per device at a
    time.

    A gradient through it computes the logits of each chunk a second time.

    Args:
        read: A function of arrays [n, ...] that makes logits and returns a tree of [n].
        vocab: Logits per token that it makes.
        arrays: Its inputs, with N tokens.
        shards: Devices over which the tokens are spread; a chunk has equally many of
            each.

    Returns:
        The tree of [N].
    """
    count = arrays[0].shape[0] // shards
    chunks = -(-count // chunk_tokens(vocab))
    if chunks <= 1:
        return read(*arrays)
    # Even chunks: the last one costs as much as any, even if it is mostly padding.
    size = -(-count // chunks // 8) * 8

    def cut(x):
        x = x.reshape(shards, count, *x.shape[1:])
        x = jnp.pad(x, [(0, 0), (0, chunks * size - count)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(shards, chunks, size, *x.shape[2:]), 1, 0)

    def join(x):
        return (
            jnp.moveaxis(x.reshape(chunks, shards, size), 0, 1)
            .reshape(shards, -1)[:, :count]
            .reshape(-1)
        )

    one = lambda part: read(*(x.reshape(-1, *x.shape[2:]) for x in part))
    out = jax.lax.map(jax.checkpoint(one, prevent_cse=False), tuple(map(cut, arrays)))
    return jax.tree.map(join, out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def token_logp_entropy(
    logits: Float[Array, "N V"], token: Int[Array, "N"], temperature: float
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Log-prob of a token at a temperature, and the entropy of the raw policy.

    Values come from `token_stats.logit_moments`, as in the loop and the scorer. Its
    sums are made for speed, so the gradient is written here: with q the distribution at
    the temperature and p at 1, d logp / d logits_v = (1[v = token] - q_v) /
    temperature, and d entropy / d logits_v = -p_v (log p_v + entropy).

    Args:
        logits: Float32 logits.
        token: Token ids.
        temperature: Temperature of the log-prob; a Python number.

    Returns:
        Log-probs and entropies, in nats.
    """
    return _read(logits, token, temperature)[0]


def _read(logits, token, temperature):
    m = token_stats.logit_moments(logits, jnp.float32(temperature))
    logp = (gather_token(logits, token) - m.peak) / temperature - m.log_total_tau
    kept = (logits, token, m.peak, m.log_total, m.log_total_tau, m.entropy)
    return (logp, m.entropy), kept


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


token_logp_entropy.defvjp(_read, _pull)
