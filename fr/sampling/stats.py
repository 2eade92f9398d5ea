"""Statistics of next-token distributions, reduced from float32 logits: one code for the loop and the scorer."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fr.types import LineageStats, TokenStats

TOP = 100  # the source renormalises V and KL on this many tokens (arXiv 2606.05145)
ANCESTOR_TOP = 20  # its set A_t
CONFIDENCE_TOP = 20  # of DeepConf (arXiv 2508.15260)


def log_prob(logits: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """Log-prob of one token a row, full vocabulary."""
    return pick(logits, token) - jax.nn.logsumexp(logits, axis=-1)


def pick(values: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The entry of each row that `token` names; ids beyond the vocabulary take its last entry."""
    index = jnp.clip(token, 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]


def likeliest(values: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The `count` largest entries of each row (all, if there are fewer) and their ids, in descending order."""
    # Behind barriers: XLA merges a slice of the result into its top-k, and is left with a full sort (590 ms
    # instead of 4 for 32 rows of 49,152 on two cores). One each: around the pair, XLA aborts under pmap.
    top, ids = jax.lax.top_k(values, min(count, values.shape[-1]))
    return jax.lax.optimization_barrier(top), jax.lax.optimization_barrier(ids)


def token_stats(logits: Float[Array, "B V"], token: Int[Array, "B"], tau: Float[Array, ""]) -> TokenStats:
    """All single-model statistics of a token; see TokenStats for each one's definition and source."""
    lse = jax.nn.logsumexp(logits, axis=-1)
    logp = logits - lse[:, None]
    entropy = _entropy(logp)
    top, _ = likeliest(logits, TOP)
    p_top = jax.nn.softmax(top / tau, axis=-1)
    centred = top - jnp.sum(p_top * top, axis=-1, keepdims=True)
    return TokenStats(
        logp=pick(logits, token) - lse,
        entropy=entropy,
        # A second pass, since E[x^2] - E[x]^2 loses the variance of peaked rows.
        varentropy=jnp.sum(jnp.exp(logp) * jnp.square(logp + entropy[:, None]), axis=-1),
        margin=jnp.exp(top[:, 0] - lse) - jnp.exp(top[:, 1] - lse),
        top20_confidence=lse - jnp.mean(top[:, :CONFIDENCE_TOP], axis=-1),
        self_certainty=lse - jnp.mean(logits, axis=-1),
        logit_var=jnp.sum(p_top * jnp.square(centred), axis=-1),
        entropy_tau=_entropy(jax.nn.log_softmax(logits / tau, axis=-1)),
    )


def _entropy(logp: Float[Array, "B V"]) -> Float[Array, "B"]:
    # Summed from log p: beside large logits, lse - E[z] loses what a peaked row's entropy has left.
    return -jnp.sum(jnp.exp(logp) * logp, axis=-1)


def delta_path(
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V"],
    token: Int[Array, "B"],
    tau: Float[Array, ""],
) -> Float[Array, "B"]:
    """log p_S(x) - log p_A(x) at temperature tau, on shared ids; 0 for a token that the ancestor does not have."""
    s, a = _shared(specialist, ancestor)
    delta = log_prob(s / tau, token) - log_prob(a / tau, token)
    return jnp.where(token < s.shape[-1], delta, 0.0)


def demotion(delta: Float[Array, "..."], g_cov: Float[Array, "..."]) -> Float[Array, "..."]:
    """J = max(0, delta_path) + max(0, g_cov)."""
    return jnp.maximum(delta, 0.0) + jnp.maximum(g_cov, 0.0)


def lineage_stats(
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"],
    token: Int[Array, "B"],
    tau: Float[Array, ""],
) -> LineageStats:
    """Specialist against ancestor at temperature tau (arXiv 2606.05145); vocabularies are cut to the shared ids."""
    s, a = _shared(specialist, ancestor)
    logp_s = jax.nn.log_softmax(s / tau, axis=-1)
    logp_a = jax.nn.log_softmax(a / tau, axis=-1)
    top_a, ids_a = likeliest(logp_a, ANCESTOR_TOP)
    g_cov = jax.nn.logsumexp(top_a, -1) - jax.nn.logsumexp(jnp.take_along_axis(logp_s, ids_a, axis=-1), -1)
    top_s, ids_s = likeliest(logp_s, TOP)
    ratio = top_s - jnp.take_along_axis(logp_a, ids_s, axis=-1)
    p = jax.nn.softmax(top_s, axis=-1)
    mean = jnp.sum(p * ratio, axis=-1)
    spread = jnp.sqrt(jnp.sum(p * jnp.square(ratio - mean[:, None]), axis=-1))
    # Renormalising both sides on the same ids shifts the mean log ratio by the ratio of their masses.
    mass = jax.nn.logsumexp(top_s, -1) - jax.nn.logsumexp(top_s - ratio, -1)
    delta = jnp.where(token < s.shape[-1], pick(logp_s, token) - pick(logp_a, token), 0.0)
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


def _shared(
    s: Float[Array, "B V"], a: Float[Array, "B V2"]
) -> tuple[Float[Array, "B U"], Float[Array, "B U"]]:
    size = min(s.shape[-1], a.shape[-1])
    return s[:, :size], a[:, :size]
