"""Terms about how far each step of the reasoning brings the right answer nearer (PACR, arXiv 2510.22255)."""

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RewardsConfig
from fr.rewards.base import term
from fr.types import RewardBatch

_NOISE = 1e-4  # nats: log-probs that were computed in batches of other shapes differ by as much
_FLOOR = 1e-3  # nats: a group whose returns differ by less is not stretched to [0, 1]


@term(
    "pacr",
    needs_gold=True,
    needs_confidence="gold",
    needs_logp=True,
    placement="advantage",
)
def pacr(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B T"]:
    """Gain in log-prob of the right answer from each step on, on the tokens of the step, in [0, 1] by group.

    G_k = sum over t >= k of discount^(t - k) g_t, with g_k the step's gain in mean log-prob, min-max over all
    steps of the group's rows; the paper's weight of it is 0.5 beside 1 for the outcome (arXiv 2510.22255). Ours: a
    step is what lies between two cuts, so `config.cuts` says how many there are, and what follows the last cut (the
    answer) gets 0.
    """
    gains, real = _gains(batch)
    returns = np.zeros_like(gains)
    ahead = np.zeros(len(gains))
    for k in reversed(range(gains.shape[1])):
        ahead = np.where(real[:, k], gains[:, k] + config.discount * ahead, ahead)
        returns[:, k] = ahead
    scaled = _min_max(returns, real, batch.group)
    # [B, T]: how many cuts a token lies behind; none, and all of them, are no step.
    behind = (batch.cuts[:, None, :] <= np.arange(batch.tokens.shape[1])[:, None]).sum(
        axis=2
    )
    return np.take_along_axis(np.pad(scaled, ((0, 0), (1, 1))), behind, axis=1)


@term("pacr_sparse", needs_gold=True, needs_confidence="gold", needs_logp=True)
def pacr_sparse(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Share of steps that raise the log-prob of the right answer.

    Ours: the source names a sparse form of PACR (arXiv 2510.22255), the formula is our reading. A gain within
    numerical noise is none.
    """
    gains, real = _gains(batch)
    return (gains > _NOISE).sum(axis=1) / np.maximum(real.sum(axis=1), 1)


def _gains(
    batch: RewardBatch,
) -> tuple[Float[np.ndarray, "B C-1"], Bool[np.ndarray, "B C-1"]]:
    """The gain of each step, and which steps there are: a short row has some of its cuts twice."""
    gold = batch.truth.confidence
    real = (np.diff(batch.cuts, axis=1) > 0) & gold.known[:, None]
    return np.where(real, np.diff(gold.mean_logp.astype(np.float64), axis=1), 0.0), real


def _min_max(
    values: Float[np.ndarray, "B K"], real: Bool[np.ndarray, "B K"], group: int
) -> Float[np.ndarray, "B K"]:
    """Values stretched to [0, 1] over the steps of each group; 0 where there is no step."""
    wide = (-1, group * values.shape[1])
    values, real, shape = values.reshape(wide), real.reshape(wide), values.shape
    low = np.where(real, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(real, values, -np.inf).max(axis=1, keepdims=True)
    some = np.isfinite(low)
    span = np.maximum(np.where(some, high - low, 1.0), _FLOOR)
    return np.where(real, (values - np.where(some, low, 0.0)) / span, 0.0).reshape(
        shape
    )
