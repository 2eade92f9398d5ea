"""Statistics of next-token distributions; the loop and the scorer share this code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.sampling.structs import LineageStats, TokenStats
from fr.sampling.vocab_reductions import (
    PAD,
    column_sums,
    gather_token,
    summable,
    top_k,
    two_sums,
)

TOP = 100  # tokens on which V and KL are renormalised (arXiv 2606.05145)
ANCESTOR_TOP = 20  # size of the set A_t in the same paper
CONFIDENCE_TOP = 20  # tokens of DeepConf's confidence (arXiv 2508.15260)


@struct.dataclass
class LogitMoments:
    """Sums over a row's logits from which all statistics and log-probs follow.

    They do not depend on the emitted token. Everything is relative to the largest
    logit: the mass of a softmax lies within about log V of it, so sums of squares lose
    no digits, nor does a common offset of the logits.

    Attributes:
        logits: The logits themselves.
        tau: Diagnosis temperature.
        peak: Largest logit.
        log_total: logsumexp(logits) - peak.
        log_total_tau: logsumexp((logits - peak) / tau).
        entropy: Entropy at temperature 1, in nats.
        varentropy: Variance of -log p under p at temperature 1, in nats squared.
        entropy_tau: Entropy at temperature tau, in nats.
        mean: Mean logit minus peak.
        top: The C largest logits, in descending order.
        ids: Their token ids.
    """

    logits: Float[Array, "B V"]
    tau: Float[Array, ""]
    peak: Float[Array, "B"]
    log_total: Float[Array, "B"]
    log_total_tau: Float[Array, "B"]
    entropy: Float[Array, "B"]
    varentropy: Float[Array, "B"]
    entropy_tau: Float[Array, "B"]
    mean: Float[Array, "B"]
    top: Float[Array, "B C"]
    ids: Int[Array, "B C"]


def logit_moments(
    logits: Float[Array, "B V"], tau: Float[Array, ""], top: int = TOP
) -> LogitMoments:
    """Compute the moments of float32 logits at temperature 1 and at tau.

    Under `jit`, moments that are not used cost nothing.

    Args:
        logits: Float32 logits.
        tau: Diagnosis temperature.
        top: Number of largest logits to keep; an ancestor needs ANCESTOR_TOP.

    Returns:
        The moments.
    """
    z = summable(logits)
    peak = jnp.max(z, axis=(1, 2))
    # The rounding changes no bit: without it XLA:CPU writes out the peak as wide as the
    # columns. The floor is finite because -inf times 0 is NaN.
    x = jnp.maximum(z - jax.lax.reduce_precision(peak, 8, 23)[:, None, None], PAD)
    e, e_tau, half = jnp.exp(x), jnp.exp(x / tau), x * jnp.exp(x / 2)
    total, first = two_sums(e, x * e)
    # Not from the exponential above: one shared between passes would be stored.
    second = jnp.sum(column_sums(half * half), axis=-1)
    total_tau, first_tau = two_sums(e_tau, x * e_tau)
    mean = first / total
    largest_logits, ids = top_k(logits, top)
    return LogitMoments(
        logits=logits,
        tau=tau,
        peak=peak,
        log_total=jnp.log(total),
        log_total_tau=jnp.log(total_tau),
        entropy=jnp.log(total) - mean,
        varentropy=jnp.maximum(second / total - jnp.square(mean), 0.0),
        entropy_tau=jnp.log(total_tau) - first_tau / total_tau / tau,
        mean=jnp.maximum(jnp.mean(logits, axis=-1) - peak, PAD),
        top=largest_logits,
        ids=ids,
    )


def log_prob(moments: LogitMoments, token: Int[Array, "B"]) -> Float[Array, "B"]:
    """Log-prob of one token per row, over the full vocabulary at temperature 1.

    Args:
        moments: Moments of the logits.
        token: Token ids.

    Returns:
        Log-probs, in nats.
    """
    return gather_token(moments.logits, token) - moments.peak - moments.log_total


def most_probable(
    moments: LogitMoments, count: int
) -> tuple[tuple[Int[Array, "B"], ...], tuple[Float[Array, "B"], ...]]:
    """The most probable tokens, and their log-probs at temperature 1.

    Args:
        moments: Moments of the logits.
        count: Number of tokens, K, at most as many as the moments keep.

    Returns:
        K arrays of ids and K arrays of log-probs in nats, the most probable first.
    """
    logp = moments.top - (moments.peak + moments.log_total)[:, None]
    return tuple(moments.ids.T[:count]), tuple(logp.T[:count])


def token_stats(moments: LogitMoments, token: Int[Array, "B"]) -> TokenStats:
    """All statistics of a token under one model.

    Args:
        moments: Moments of the logits.
        token: Token ids.

    Returns:
        The statistics; `TokenStats` defines each and gives its source.
    """
    top = moments.top - moments.peak[:, None]
    p = jnp.exp(top - moments.log_total[:, None])
    p_top = jax.nn.softmax(top / moments.tau, axis=-1)
    centred = top - jnp.sum(p_top * top, axis=-1, keepdims=True)
    return TokenStats(
        logp=log_prob(moments, token),
        entropy=moments.entropy,
        varentropy=moments.varentropy,
        margin=p[:, 0] - p[:, 1],
        top20_confidence=moments.log_total - jnp.mean(top[:, :CONFIDENCE_TOP], axis=-1),
        self_certainty=moments.log_total - moments.mean,
        logit_var=jnp.sum(p_top * jnp.square(centred), axis=-1),
        entropy_tau=moments.entropy_tau,
    )


def delta_path(
    specialist: LogitMoments, ancestor: LogitMoments, token: Int[Array, "B"]
) -> Float[Array, "B"]:
    """Log-ratio of a token: log p_S(x) - log p_A(x) at temperature tau, on shared ids.

    Args:
        specialist: Moments of the specialist's logits.
        ancestor: Moments of the ancestor's logits.
        token: Token ids.

    Returns:
        The log-ratio in nats; 0 for a token that the ancestor lacks.
    """
    s, a = _shared(specialist, ancestor)
    delta = _at_tau(s, gather_token(s.logits, token)[:, None]) - _at_tau(
        a, gather_token(a.logits, token)[:, None]
    )
    return jnp.where(token < s.logits.shape[-1], delta[:, 0], 0.0)


def _at_tau(moments: LogitMoments, logits: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Log-probs at temperature tau of some of a row's logits."""
    return (logits - moments.peak[:, None]) / moments.tau - moments.log_total_tau[
        :, None
    ]


def _shared(
    specialist: LogitMoments, ancestor: LogitMoments
) -> tuple[LogitMoments, LogitMoments]:
    """Moments of both models on the ids that both have."""
    size = min(specialist.logits.shape[-1], ancestor.logits.shape[-1])
    cut = lambda side: (
        side
        if side.logits.shape[-1] == size
        else logit_moments(side.logits[:, :size], side.tau, side.top.shape[-1])
    )
    return cut(specialist), cut(ancestor)


def defer(
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"],
    tau: Float[Array, ""],
    masked: tuple[int, ...],
) -> Float[Array, "B V2"]:
    """Ancestor logits with the specialist's probability, at temperature tau, on
    `masked` ids.

    A masked id is another token for each model, so its two probabilities cannot be
    compared; this makes its log-ratio 0.

    Args:
        specialist: Float32 logits of the specialist.
        ancestor: Float32 logits of the ancestor.
        tau: Diagnosis temperature.
        masked: Ids that are other tokens for the specialist (`ModelConfig.masked`).

    Returns:
        Logits of the ancestor.
    """
    size = min(specialist.shape[-1], ancestor.shape[-1])
    at = np.array([i for i in masked if i < size], np.int32)
    if not at.size:
        return ancestor
    rest = lambda z: jax.nn.logsumexp(
        z[:, :size].at[:, at].set(-jnp.inf) / tau, axis=-1, keepdims=True
    )
    return ancestor.at[:, at].set(
        specialist[:, at] - tau * (rest(specialist) - rest(ancestor))
    )


def demotion(
    delta: Float[Array, "..."], g_cov: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Demotion J = max(0, delta_path) + max(0, g_cov) (arXiv 2606.05145).

    Args:
        delta: delta_path, in nats.
        g_cov: Coverage gap, in nats.

    Returns:
        J, in nats.
    """
    return jnp.maximum(delta, 0.0) + jnp.maximum(g_cov, 0.0)


def lineage_stats(
    specialist: LogitMoments, ancestor: LogitMoments, token: Int[Array, "B"]
) -> LineageStats:
    """Specialist against ancestor at temperature tau (arXiv 2606.05145).

    Vocabularies are cut to the ids that both have.

    Args:
        specialist: Moments of the specialist's logits.
        ancestor: Moments of the ancestor's logits.
        token: Token ids.

    Returns:
        The statistics; `LineageStats` defines each.
    """
    s, a = _shared(specialist, ancestor)
    ids_a, ids_s = a.ids[:, :ANCESTOR_TOP], s.ids
    others = lambda side, ids: _at_tau(
        side, jnp.take_along_axis(side.logits, ids, axis=-1)
    )
    top_a, top_s = _at_tau(a, a.top[:, :ANCESTOR_TOP]), _at_tau(s, s.top)
    g_cov = jax.nn.logsumexp(top_a, -1) - jax.nn.logsumexp(others(s, ids_a), -1)
    ratio = top_s - others(a, ids_s)
    p = jax.nn.softmax(top_s, axis=-1)
    mean = jnp.sum(p * ratio, axis=-1)
    spread = jnp.sqrt(jnp.sum(p * jnp.square(ratio - mean[:, None]), axis=-1))
    # Renormalising both models on the same ids shifts the mean log-ratio by the
    # log-ratio of their masses.
    mass = jax.nn.logsumexp(top_s, -1) - jax.nn.logsumexp(top_s - ratio, -1)
    delta = delta_path(s, a, token)
    return LineageStats(
        delta_path=delta,
        g_cov=g_cov,
        demotion=demotion(delta, g_cov),
        kl=jnp.maximum(mean - mass, 0.0),
        z_path=z_path(delta, mean, spread),
        path_mean=mean,
        path_sd=spread,
    )


def z_path(
    delta: Float[Array, "..."], mean: Float[Array, "..."], sd: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Standardised log-ratio Z_path = max(0, (delta_path - mean) / (sd + 1e-6)).

    Args:
        delta: delta_path, in nats.
        mean: Mean of the log-ratio under the specialist.
        sd: Its standard deviation.

    Returns:
        Z_path.
    """
    return jnp.maximum((delta - mean) / (sd + 1e-6), 0.0)


def for_token(lineage: LineageStats, delta: Float[Array, "B"]) -> LineageStats:
    """Statistics of the same position for another emitted token.

    Args:
        lineage: Statistics of the position.
        delta: delta_path of the other token.

    Returns:
        The statistics with `delta_path`, `demotion` and `z_path` of the other token.
    """
    return dataclasses.replace(
        lineage,
        delta_path=delta,
        demotion=demotion(delta, lineage.g_cov),
        z_path=z_path(delta, lineage.path_mean, lineage.path_sd),
    )
