"""Remedies against collapse of the entropy: the tokens whose update costs most of it (arXiv 2505.22617)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fr.config import PolicyConfig


def costly(
    mask: Bool[Array, "B W"],
    advantages: Float[Array, "B W"],
    logp: Float[Array, "B W"],
    step: Int[Array, ""],
    config: PolicyConfig,
) -> Bool[Array, "B W"]:
    """The tokens that lose their gradient (clip) or are held to the old policy (kl): none unless config says so.

    Held by half the squared log ratio (`objective.policy_loss`), which needs several updates a step to act.

    Covariance of a token: (A - mean A)(log p - mean log p). kl: those of the largest; clip: at random among those
    within `covariance_bounds`; at least one of either, if there is any. Log-probs are those of the policy that drew
    [ours; the source takes the current ones, which are the same at the first update]: so microbatches add up.
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
