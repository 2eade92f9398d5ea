"""Statistics of next-token distributions, reduced from float32 logits: one code for the loop and the scorer."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.sampling.structs import LineageStats, TokenStats
from fr.sampling.vocab_reductions import (
    PAD,
    column_sums,
    likeliest,
    pick,
    summable,
    two_sums,
)

TOP = 100  # the source renormalises V and KL on this many tokens (arXiv 2606.05145)
ANCESTOR_TOP = 20  # its set A_t
CONFIDENCE_TOP = 20  # of DeepConf (arXiv 2508.15260)


@struct.dataclass
class Reading:
    """What statistics and log-probs take from the whole of a row's logits: read once, whatever the token.

    Everything is relative to the largest logit: the mass of a softmax lies within about log V of it, so sums of
    squares lose no digits, and a common offset of the logits none either.
    """

    logits: Float[Array, "B V"]
    tau: Float[Array, ""]
    peak: Float[Array, "B"]  # the largest logit
    log_total: Float[Array, "B"]  # logsumexp less the peak
    log_total_tau: Float[Array, "B"]  # the same of the logits over tau
    entropy: Float[Array, "B"]
    varentropy: Float[Array, "B"]
    entropy_tau: Float[Array, "B"]
    mean: Float[Array, "B"]  # of the logits less the peak
    top: Float[Array, "B C"]  # the largest logits, in descending order
    ids: Int[Array, "B C"]


def read(logits: Float[Array, "B V"], tau: Float[Array, ""], top: int = TOP) -> Reading:
    """Read float32 logits at temperature 1 and at the diagnosis temperature, and the `top` largest of them.

    What nobody asks of a reading costs nothing under `jit`. An ancestor needs the ANCESTOR_TOP largest.
    """
    z = summable(logits)
    peak = jnp.max(z, axis=(1, 2))
    # Rounding to what it is: XLA:CPU would otherwise write out the peak as wide as the columns.
    x = jnp.maximum(
        z - jax.lax.reduce_precision(peak, 8, 23)[:, None, None], PAD
    )  # -inf times 0 is no number
    e, e_tau, half = jnp.exp(x), jnp.exp(x / tau), x * jnp.exp(x / 2)
    total, first = two_sums(e, x * e)
    # Not from the exponential above: shared between passes it would be stored.
    second = jnp.sum(column_sums(half * half), axis=-1)
    total_tau, first_tau = two_sums(e_tau, x * e_tau)
    mean = first / total
    largest, ids = likeliest(logits, top)
    return Reading(
        logits=logits,
        tau=tau,
        peak=peak,
        log_total=jnp.log(total),
        log_total_tau=jnp.log(total_tau),
        entropy=jnp.log(total) - mean,
        varentropy=jnp.maximum(second / total - jnp.square(mean), 0.0),
        entropy_tau=jnp.log(total_tau) - first_tau / total_tau / tau,
        mean=jnp.maximum(jnp.mean(logits, axis=-1) - peak, PAD),
        top=largest,
        ids=ids,
    )


def log_prob(reading: Reading, token: Int[Array, "B"]) -> Float[Array, "B"]:
    """Log-prob of one token a row, full vocabulary."""
    return pick(reading.logits, token) - reading.peak - reading.log_total


def token_stats(reading: Reading, token: Int[Array, "B"]) -> TokenStats:
    """All single-model statistics of a token; see TokenStats for each one's definition and source."""
    top = reading.top - reading.peak[:, None]
    p = jnp.exp(top - reading.log_total[:, None])
    p_top = jax.nn.softmax(top / reading.tau, axis=-1)
    centred = top - jnp.sum(p_top * top, axis=-1, keepdims=True)
    return TokenStats(
        logp=log_prob(reading, token),
        entropy=reading.entropy,
        varentropy=reading.varentropy,
        margin=p[:, 0] - p[:, 1],
        top20_confidence=reading.log_total - jnp.mean(top[:, :CONFIDENCE_TOP], axis=-1),
        self_certainty=reading.log_total - reading.mean,
        logit_var=jnp.sum(p_top * jnp.square(centred), axis=-1),
        entropy_tau=reading.entropy_tau,
    )


def delta_path(
    specialist: Reading, ancestor: Reading, token: Int[Array, "B"]
) -> Float[Array, "B"]:
    """log p_S(x) - log p_A(x) at temperature tau, on shared ids; 0 for a token that the ancestor does not have."""
    s, a = _shared(specialist, ancestor)
    delta = _at_tau(s, pick(s.logits, token)[:, None]) - _at_tau(
        a, pick(a.logits, token)[:, None]
    )
    return jnp.where(token < s.logits.shape[-1], delta[:, 0], 0.0)


def _at_tau(reading: Reading, logits: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Log-probs at temperature tau of some of a row's logits."""
    return (logits - reading.peak[:, None]) / reading.tau - reading.log_total_tau[
        :, None
    ]


def _shared(specialist: Reading, ancestor: Reading) -> tuple[Reading, Reading]:
    """Both on the ids that both have; a side that is cut is read anew."""
    size = min(specialist.logits.shape[-1], ancestor.logits.shape[-1])
    cut = lambda side: (
        side
        if side.logits.shape[-1] == size
        else read(side.logits[:, :size], side.tau, side.top.shape[-1])
    )
    return cut(specialist), cut(ancestor)


def defer(
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"],
    tau: Float[Array, ""],
    masked: tuple[int, ...],
) -> Float[Array, "B V2"]:
    """The ancestor's logits with the specialist's probability, at temperature tau, for the `masked` ids.

    What is another token for each of the two says nothing of the one beside the other: its log ratio is 0.
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
    """J = max(0, delta_path) + max(0, g_cov)."""
    return jnp.maximum(delta, 0.0) + jnp.maximum(g_cov, 0.0)


def lineage_stats(
    specialist: Reading, ancestor: Reading, token: Int[Array, "B"]
) -> LineageStats:
    """Specialist against ancestor at temperature tau (arXiv 2606.05145); vocabularies are cut to the shared ids."""
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
    # Renormalising both sides on the same ids shifts the mean log ratio by the ratio of their masses.
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
    """Z_path = max(0, (delta_path - mean) / (sd + 1e-6)), mean and sd of the log ratio under the specialist."""
    return jnp.maximum((delta - mean) / (sd + 1e-6), 0.0)


def for_token(lineage: LineageStats, delta: Float[Array, "B"]) -> LineageStats:
    """The same position's statistics for another emitted token, given that token's delta_path."""
    return lineage.replace(
        delta_path=delta,
        demotion=demotion(delta, lineage.g_cov),
        z_path=z_path(delta, lineage.path_mean, lineage.path_sd),
    )
