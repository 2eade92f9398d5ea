"""The loss of policy optimisation: clipped ratios, importance weights, KL, entropy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fr.config import PolicyConfig
from fr.config.algorithms import Algorithm, with_settings
from fr.training.microbatches import AnyArray, LossMetrics, PaddedBatch


@struct.dataclass
class PolicyBatch(PaddedBatch):
    """Rollouts and their advantages; columns [W] count a row's tokens from `start` on.

    A prompt of two tokens, a completion of three (the second is forced), and W = 4:

    tokens  5 6 7 8 9 -1     start  2
    mask        1 0 1  0

    Attributes:
        tokens: Prompt and completion; -1 pads on the right.
        start: Index of the completion's first token; 1 or more.
        mask: Sampled tokens, the stop token among them.
        old_logp: Denominator of the ratio, under `config.ratio_distribution`.
        advantages: Advantage of each token.
        ref_logp: Log-probs of the ancestor, under the same distribution; None: no KL.
        drawn_logp: Log-probs of the sampler, under the same; None: `old_logp`.
        fresh: The ratio's denominator is the log-prob of this very update; None:
            nowhere.
        entropy: Weight of the entropy bonus; None: `config.entropy`.
    """

    tokens: Int[AnyArray, "B T"]
    start: Int[AnyArray, "B"]
    mask: Bool[AnyArray, "B W"]
    old_logp: Float[AnyArray, "B W"]
    advantages: Float[AnyArray, "B W"]
    ref_logp: Float[AnyArray, "B W"] | None = None
    drawn_logp: Float[AnyArray, "B W"] | None = None
    fresh: Bool[AnyArray, "B"] | None = None
    entropy: Float[AnyArray, "B"] | None = None


@struct.dataclass
class WeightedBatch(PaddedBatch):
    """A batch with all quantities of the whole batch, so that its microbatches add up.

    Attributes:
        batch: The rows.
        weights: Weight w of a token's gain.
        penalties: Weight v of a token's KL: `weights` scaled to a sum of 1.
        bonus: v times the coefficient of the entropy bonus.
        share: Weight of a token in means over tokens.
        high_covariance: Tokens that the covariance remedies treat.
    """

    batch: PolicyBatch
    weights: Float[AnyArray, "B W"]
    penalties: Float[AnyArray, "B W"]
    bonus: Float[AnyArray, "B W"]
    share: Float[AnyArray, "B W"]
    high_covariance: Bool[AnyArray, "B W"]

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.batch.width

    def columns_used(self) -> Int[AnyArray, "B"]:
        """Columns that each row needs."""
        return self.batch.columns_used()


def weigh(
    batch: PolicyBatch,
    step: Int[Array, ""] | int,
    algorithm: Algorithm,
    config: PolicyConfig,
) -> WeightedBatch:
    """Weights of each token in the loss; rows without sampled tokens do not count.

    With |o| a row's sampled tokens and B its rows, the weight of a token's gain is
    1 / (B |o|) (mean "sequence"), 1 / sum |o| ("token"), 1 / B ("sum") or
    1 / (B max_new_tokens) ("fixed"). KL and entropy bonus take these weights over their
    sum, so that their coefficients multiply a mean in nats per token under every mean;
    under "sum" and "fixed" that is the token mean.

    Args:
        batch: Rollouts and advantages.
        step: Updates made; seeds the draw of clip-cov.
        algorithm: A row of the table of algorithms.
        config: Settings of policy optimisation.

    Returns:
        The batch with its weights.
    """
    algorithm = with_settings(algorithm, config)
    mask = batch.mask.astype(jnp.float32)
    length = jnp.sum(mask, axis=1, keepdims=True)
    # Denominators of at least 1: a batch of which nothing is left has loss 0, not NaN.
    rows, share = (
        jnp.maximum(jnp.sum(length > 0), 1),
        mask / jnp.maximum(jnp.sum(mask), 1.0),
    )
    by_row = mask / jnp.maximum(length, 1.0) / rows
    weights = {
        "sequence": by_row,
        "token": share,
        "sum": mask / rows,
        "fixed": mask / config.max_new_tokens / rows,
    }[algorithm.mean]
    penalties = by_row if algorithm.mean == "sequence" else share
    bonus = penalties * (
        config.entropy if batch.entropy is None else batch.entropy[:, None]
    )
    marked = high_covariance(batch.mask, batch.advantages, batch.old_logp, step, config)
    return WeightedBatch(batch, weights, penalties, bonus, share, marked)


def policy_loss(
    logp: Float[Array, "B W"],
    entropy: Float[Array, "B W"],
    weighed: WeightedBatch,
    algorithm: Algorithm,
    config: PolicyConfig,
) -> tuple[Float[Array, ""], LossMetrics]:
    """Loss of a batch: -sum w i g + sum v (kl k3) - sum v (c H).

    w and v are the weights of `weigh`, H the entropy and c its coefficient. With
    rho = exp(log p - log p_old) and advantage A the gain is, by algorithm,

        clip:    g = min(rho A, clip(rho, 1 - low, 1 + high) A)     (arXiv 1707.06347)
        weight:  g = stop_gradient(clip(rho, ...)) A log p          (CISPO, 2506.13585)
        none:    g = A log p                                        (REINFORCE)

    A sequence ratio is exp(mean log ratio) with the gradient of each token: for
    advantages that are constant along a row this is the sequence's own gradient (GSPO,
    2507.18071). The importance weight i is old policy over sampler, without gradient.
    The KL estimate is k3 = e^d - d - 1 with d = log p_ref - log p.

    Args:
        logp: Log-probs of the tokens under the trained policy, nats.
        entropy: Entropy of each position, nats.
        weighed: The batch and its weights.
        algorithm: A row of the table of algorithms.
        config: Settings of policy optimisation.

    Returns:
        The loss, and what it measures (`policy_update.make_update` lists it).

    Raises:
        ValueError: `config.kl` is set and the batch has no `ref_logp`.
    """
    algorithm, batch = with_settings(algorithm, config), weighed.batch
    # Differences are masked before exp: at a pad it may overflow, and the gradient of
    # 0 * inf is NaN.
    live = lambda x: jnp.where(batch.mask, x, 0.0)
    now = jax.lax.stop_gradient(logp)
    old, drawn = (
        batch.old_logp,
        batch.old_logp if batch.drawn_logp is None else batch.drawn_logp,
    )
    if batch.fresh is not None:
        old = jnp.where(batch.fresh[:, None], now, old)
    change = live(logp - old)
    gain, clipped, ratio = _gain(logp, change, batch, algorithm, config)
    weight, cut = _importance(live(old - drawn), config)
    if config.covariance == "clip":
        gain = jnp.where(weighed.high_covariance, 0.0, gain)
    loss = -jnp.sum(weighed.weights * weight * gain) - jnp.sum(weighed.bonus * entropy)
    if config.covariance == "kl":
        # |d| with a derivative of 0 at d = 0, where JAX has 1 for the absolute value.
        sign = jnp.sign(jax.lax.stop_gradient(change))
        held = jnp.where(weighed.high_covariance, sign * change, 0.0)
        loss += config.covariance_kl * jnp.sum(weighed.penalties * held)
    mean = lambda x: jnp.sum(weighed.share * x)
    gap = jnp.abs(live(now - drawn))
    shares = {
        "tokens": jnp.sum(batch.mask),
        "entropy": mean(entropy),
        "clip_share": mean(clipped),
        "moved": mean(_k3(-change)),
        "logp_gap_mean": mean(gap),
        "logp_gap_above": jnp.sum(
            jnp.where(
                gap[:, :, None] > jnp.array((*GAPS, WIDE)),
                weighed.share[:, :, None],
                0.0,
            ),
            axis=(0, 1),
        ),
    }
    if config.importance != "none":
        shares |= {"importance": mean(weight), "importance_cut": mean(cut)}
    if batch.ref_logp is not None:
        k3 = live(_k3(batch.ref_logp - logp))
        loss += config.kl * jnp.sum(weighed.penalties * k3)
        shares["kl"] = mean(k3)
    elif config.kl:
        raise ValueError("config.policy.kl needs ref_logp in the batch")
    return loss, LossMetrics(
        shares, {"ratio_max": jnp.max(live(ratio)), "logp_gap": jnp.max(gap)}
    )


def _gain(logp, change, batch: PolicyBatch, algorithm: Algorithm, config: PolicyConfig):
    """Gain of each token [B, W], if the clip took its gradient, and its ratio."""
    advantage, log_ratio = batch.advantages, change
    if algorithm.ratio == "sequence":
        count = jnp.maximum(jnp.sum(batch.mask, axis=1, keepdims=True), 1)
        mean = jnp.sum(change, axis=1, keepdims=True) / count
        # The value is the row's mean, the gradient the token's own.
        log_ratio = jnp.where(
            batch.mask, jax.lax.stop_gradient(mean - change) + change, 0.0
        )
    ratio = jnp.exp(log_ratio)
    if algorithm.ratio == "none":
        return logp * advantage, jnp.zeros_like(batch.mask), ratio
    low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
    within = jnp.clip(ratio, low, high)
    if algorithm.gain == "weight":
        outside = (ratio > high) | (ratio < low)
        return (
            jax.lax.stop_gradient(within) * advantage * logp,
            outside & batch.mask,
            ratio,
        )
    gain = jnp.minimum(ratio * advantage, within * advantage)
    clipped = jnp.where(advantage > 0, ratio > high, (advantage < 0) & (ratio < low))
    if config.dual_clip:
        # For A < 0 the minimum has no lower bound in the ratio (arXiv 1912.09729).
        gain = jnp.where(
            advantage < 0, jnp.maximum(gain, config.dual_clip * advantage), gain
        )
        clipped |= (advantage < 0) & (ratio > config.dual_clip)
    return gain, clipped, ratio


def _importance(
    difference: Float[Array, "B W"], config: PolicyConfig
) -> tuple[Float[Array, "B W"] | float, Bool[Array, "B W"] | bool]:
    """Importance weights, old policy over sampler, and where the bound applied.

    By token exp(d), by sequence exp(sum d); truncated to at most C (arXiv 1802.01561),
    or 0 outside [1 / C, C] (arXiv 2510.18855). No gradient passes.
    """
    if config.importance == "none":
        return 1.0, False
    if config.importance == "sequence":
        difference = jnp.zeros_like(difference) + jnp.sum(
            difference, axis=1, keepdims=True
        )
    weight, bound = jax.lax.stop_gradient(jnp.exp(difference)), config.importance_bound
    above = weight > bound
    if config.importance_beyond == "truncate":
        return jnp.minimum(weight, bound), above
    outside = above | (weight < 1 / bound)
    return jnp.where(outside, 0.0, weight), outside


def _k3(d: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """e^d - d - 1 with d = log p_ref - log p: an estimate of the KL, never negative."""
    return jnp.expm1(d) - d


def high_covariance(
    mask: Bool[AnyArray, "B W"],
    advantages: Float[AnyArray, "B W"],
    logp: Float[AnyArray, "B W"],
    step: Int[Array, ""] | int,
    config: PolicyConfig,
) -> Bool[Array, "B W"]:
    """Tokens whose update costs most entropy (Clip-Cov and KL-Cov, arXiv 2505.22617).

    The covariance of a token is (A - mean A)(log p - mean log p). "kl" marks the
    largest, which `policy_loss` holds to the old policy by |log p - log p_old|; that
    needs several updates per step to act, and old log-probs of the trainer. "clip"
    marks tokens at random among those within `covariance_bounds`; they lose their
    gradient. Either marks at least one token if there is a candidate. Log-probs are of
    the policy that drew, so that microbatches add up [ours; the source takes the
    current ones, equal at the first update, and draws among tokens that PPO's clip has
    left a gradient]. PPO's clip stays in "kl" [ours].

    Args:
        mask: Sampled tokens.
        advantages: Advantage of each token.
        logp: Log-probs of the tokens, nats.
        step: Updates made; seeds the random choice.
        config: Settings; without `covariance` no token is marked.

    Returns:
        The marked tokens.
    """
    if not config.covariance:
        return jnp.zeros_like(mask)
    total = jnp.maximum(jnp.sum(mask), 1)
    centred = lambda x: x - jnp.sum(jnp.where(mask, x, 0.0)) / total
    covariance = centred(advantages) * centred(logp)
    if config.covariance == "clip":
        low, high = config.covariance_bounds
        candidates = mask & (covariance > low) & (covariance < high)
        score = jax.random.uniform(
            jax.random.fold_in(jax.random.key(0), step), mask.shape
        )
    else:
        candidates, score = mask, covariance
    count = jnp.maximum((config.covariance_share * total).astype(jnp.int32), 1)
    order = jnp.argsort(
        jnp.where(candidates, score, -jnp.inf).reshape(-1), descending=True
    )
    rank = (
        jnp.zeros(order.shape, jnp.int32)
        .at[order]
        .set(jnp.arange(order.size, dtype=jnp.int32))
    )
    return candidates & (rank < count).reshape(mask.shape)


# Edges, in nats, of the histogram of differences between two log-probs; a quarter of
# an octave apart.
GAPS = tuple(1e-6 * 2 ** (k / 4) for k in range(97))
WIDE = 0.1  # nats: a ratio that is a tenth off


def gap_percentile(above: Float[np.ndarray, "K"], share: float) -> float:
    """A percentile of the difference between two log-probs, in nats.

    Args:
        above: Share of tokens whose difference is above each of GAPS.
        share: Share of the tokens that do not exceed the result.

    Returns:
        The percentile, rounded up to an edge of GAPS: at most a fifth too large.
    """
    within = np.flatnonzero(above <= 1 - share)
    return (
        float(GAPS[min(within[0], len(GAPS) - 1)]) if len(within) else float(GAPS[-1])
    )
