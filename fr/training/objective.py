"""The loss of policy optimisation: clipped ratios, importance weights, KL, entropy, and their means."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fr.config import PolicyConfig
from fr.models.config import choose_dtype
from fr.training.algorithms import Algorithm, with_settings
from fr.training.covariance import costly
from fr.training.microbatches import Measured

# Differences of two log-probs, in nats, whose share of larger ones is counted; a quarter of an octave apart.
GAPS = tuple(1e-6 * 2 ** (k / 4) for k in range(97))


@struct.dataclass
class PolicyBatch:
    """Rollouts and their advantages; columns count a row's tokens from `start` on.

    A prompt of two and a completion of three, the second of its tokens forced, in a batch of width 4:

    tokens  5 6 7 8 9 -1     start  2
    mask        1 0 1  0
    """

    tokens: Int[Array, "B T"]  # prompt and completion; -1 pads on the right
    start: Int[Array, "B"]  # where the completion begins; 1 or more
    mask: Bool[Array, "B W"]  # sampled tokens, the stop token among them
    old_logp: Float[
        Array, "B W"
    ]  # denominator of the ratio, under the distribution of `ratio_distribution`
    advantages: Float[Array, "B W"]
    ref_logp: Float[Array, "B W"] | None = (
        None  # of the ancestor, under the same distribution
    )
    drawn_logp: Float[Array, "B W"] | None = (
        None  # of the sampler, under the same; None: `old_logp`
    )
    fresh: Bool[Array, "B"] | None = (
        None  # the ratio's denominator is the log-prob of this very update
    )
    entropy: Float[Array, "B"] | None = (
        None  # weight of the entropy bonus; None: config.entropy
    )

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.mask.shape[1]

    def needs(self) -> Int[Array, "B"]:
        """Least number of columns that `narrow` may leave of each row; a numpy array on the host."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(
            max=self.tokens.shape[1] - self.width
        )

    def narrow(self, columns: int) -> "PolicyBatch":
        """The first `columns` of W; T loses as many as W."""
        less = self.width - columns
        return jax.tree.map(
            lambda x: x[:, : x.shape[1] - less] if x.ndim == 2 else x, self
        )


@struct.dataclass
class Weighed:
    """A batch with all that depends on the whole of it, so that its microbatches add up."""

    batch: PolicyBatch
    weights: Float[Array, "B W"]  # of a token's gain
    penalties: Float[Array, "B W"]  # of a token's KL: `weights` scaled to a sum of 1
    bonus: Float[Array, "B W"]  # of a token's entropy: the same times its coefficient
    share: Float[Array, "B W"]  # of a token in means over tokens
    costly: Bool[Array, "B W"]  # tokens that the covariance remedies deal with

    @property
    def width(self) -> int:
        return self.batch.width

    def needs(self) -> Int[Array, "B"]:
        return self.batch.needs()

    def narrow(self, columns: int) -> "Weighed":
        rest = (self.weights, self.penalties, self.bonus, self.share, self.costly)
        return Weighed(self.batch.narrow(columns), *(x[:, :columns] for x in rest))


def recomputes(config: PolicyConfig) -> bool:
    """Whether the trainer computes the ratio's denominator itself instead of taking the sampler's.

    Unless `ratio_from` says so: where an update is not the first one on its rollouts, or where sampler or
    trainer computes in bfloat16, so that both differ at equal parameters. Rollouts of the parameters of
    the step before (`lag`) keep the sampler's, which then is another policy, unless importance weights
    correct for it (decoupled PPO, arXiv 2110.00641).
    """
    if config.ratio_from:
        return config.ratio_from == "trainer"
    if config.lag and config.importance == "none":
        return False
    types = (choose_dtype(config.dtype or None), choose_dtype())
    return config.epochs * config.minibatches > 1 or any(
        kind != jnp.float32 for kind in types
    )


def weigh(
    batch: PolicyBatch, step: Int[Array, ""], algorithm: Algorithm, config: PolicyConfig
) -> Weighed:
    """Weights of each token's terms in the loss; rows without a sampled token do not count.

    KL and entropy bonus are weighted by the weights of the gain over their sum: their coefficients then
    multiply a mean in nats a token, whichever the mean. Under `sum` and `fixed` that is the token mean.
    """
    algorithm = with_settings(algorithm, config)
    mask = batch.mask.astype(jnp.float32)
    length = jnp.sum(mask, axis=1, keepdims=True)
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
    marked = costly(batch.mask, batch.advantages, batch.old_logp, step, config)
    return Weighed(batch, weights, penalties, bonus, share, marked)


def policy_loss(
    logp: Float[Array, "B W"],
    entropy: Float[Array, "B W"],
    weighed: Weighed,
    algorithm: Algorithm,
    config: PolicyConfig,
) -> tuple[Float[Array, ""], Measured]:
    """Loss of a batch and what it measures: -sum w (i g) + sum v (kl k3) - sum v (c H).

    g is the gain of a token, i its importance weight, w and v the weights of `weigh`, k3 the KL estimate,
    H the entropy. A sequence ratio is taken a token at a time, as exp(mean log ratio) with the gradient
    of that token: for advantages that are constant along a row the same as its own gradient
    (arXiv 2507.18071).
    """
    algorithm, batch = with_settings(algorithm, config), weighed.batch
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
        gain = jnp.where(weighed.costly, 0.0, gain)
    loss = -jnp.sum(weighed.weights * weight * gain) - jnp.sum(weighed.bonus * entropy)
    if config.covariance == "kl":
        # The source has |d|, whose derivative at d = 0 is a matter of convention and of rounding's sign.
        held = 0.5 * jnp.square(jnp.where(weighed.costly, change, 0.0))
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
                gap[:, :, None] > jnp.array(GAPS), weighed.share[:, :, None], 0.0
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
    return loss, Measured(
        shares, {"ratio_max": jnp.max(live(ratio)), "logp_gap": jnp.max(gap)}
    )


def _gain(logp, change, batch: PolicyBatch, algorithm: Algorithm, config: PolicyConfig):
    """Gain of each token [B, W], whether the clip was at work on it, and its ratio."""
    advantage, log_ratio = batch.advantages, change
    if algorithm.ratio == "sequence":
        count = jnp.maximum(jnp.sum(batch.mask, axis=1, keepdims=True), 1)
        mean = jnp.sum(change, axis=1, keepdims=True) / count
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
        gain = jnp.where(
            advantage < 0, jnp.maximum(gain, config.dual_clip * advantage), gain
        )
        clipped |= (advantage < 0) & (ratio > config.dual_clip)
    return gain, clipped, ratio


def _importance(
    difference: Float[Array, "B W"], config: PolicyConfig
) -> tuple[Float[Array, "B W"] | float, Bool[Array, "B W"] | bool]:
    """Importance weights of the trainer's old policy over the sampler's, and where the bound was at work.

    By token exp(d), by sequence exp(sum d); truncated to at most C (arXiv 1802.01561), or 0 outside
    [1 / C, C] (arXiv 2510.18855). No gradient passes.
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


def _k3(d: Float[Array, "..."]) -> Float[Array, "..."]:
    """The estimate e^d - d - 1 of a KL, d = log p_ref - log p of a sampled token; never negative."""
    return jnp.expm1(d) - d
