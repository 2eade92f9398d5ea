"""Terms of the model's confidence, along its reasoning or in its tokens."""

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RewardsConfig
from fr.diagnosis.features import bottom_confidence, group_confidence
from fr.rewards.terms import register_term, token_mean
from fr.types import RewardBatch, Trajectory


@register_term("pcs", needs_gold=True, needs_confidence="gold", placement="advantage")
def pcs(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Progressive confidence shaping, -<c, w> with w = linspace(0.5, -0.5, C).

    c is the confidence in the right answers at C cuts; from -0.9 to 0.9 at 6 cuts. Its
    weight is eta (arXiv 2605.24396). As in the paper it is added to the advantage of
    each token; the Countdown code of the paper adds it to the reward: `placement =
    (("pcs", "reward"),)`.
    """
    return _shaped(_confidence(batch, "gold"), _weights)


@register_term("pcs_own", needs_confidence="own", placement="advantage")
def pcs_own(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """PCS of the confidence in the row's own final answer, right or wrong [ours].

    It reads no reference, so it also trains without one.
    """
    return _shaped(_confidence(batch, "own"), _weights)


@register_term(
    "pcs_shuffled", needs_gold=True, needs_confidence="gold", placement="advantage"
)
def pcs_shuffled(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Control of PCS: the same weights in one random order per run [ours].

    `config.shuffle_seed` draws the order. Scale and probes stay; the order in time is
    lost.
    """
    shuffled = lambda cuts: np.random.default_rng(config.shuffle_seed).permutation(
        _weights(cuts)
    )
    return _shaped(_confidence(batch, "gold"), shuffled)


@register_term("late_confidence", needs_confidence="own")
def late_confidence(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """c_C - c_1: confidence in the own answer at the last cut less the first [ours].

    In [-1, 1]; PCS if only its ends count.
    """
    ends = lambda cuts: np.array([1.0, *[0.0] * (cuts - 2), -1.0])
    return _shaped(_confidence(batch, "own"), ends)


@register_term("late_gold", needs_gold=True, needs_confidence="gold")
def late_gold(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """c_C: confidence in the right answers at the last cut, a probability [ours].

    A dense form of the outcome, without the weights that PCS gives to earlier cuts: the
    control that says if PCS acts by the shape of confidence or by its density.
    """
    last = lambda cuts: np.array([*[0.0] * (cuts - 1), -1.0])
    return _shaped(_confidence(batch, "gold"), last)


def _confidence(batch: RewardBatch, answers: str) -> Trajectory:
    """Confidence in a set of answers; the declaration `needs_confidence` gives it."""
    gold = batch.truth.confidence if batch.truth else None
    found = batch.own if answers == "own" else gold
    assert found is not None
    return found


def _weights(cuts: int) -> Float[np.ndarray, "C"]:
    return np.linspace(0.5, -0.5, cuts)


def _shaped(confidence: Trajectory, weights) -> Float[np.ndarray, "B"]:
    """-<c, w>; 0 for rows that were not asked."""
    penalty = (confidence.probability * weights(confidence.probability.shape[1])).sum(
        axis=1
    )
    return np.where(confidence.known, -penalty, 0.0)


@register_term("rlsf", from_stats=True)
def rlsf(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Mean over the answer's tokens of p_1 - p_2, the two largest probabilities.

    In [0, 1]; 0 without an answer. Answer confidence of RLSF (arXiv 2507.21931).
    """
    first, end = (edge[:, None] for edge in batch.answer.T)
    at = np.arange(batch.tokens.shape[1])
    return token_mean(batch.stats["margin"], batch.mask & (at >= first) & (at < end))


@register_term("self_certainty", from_stats=True)
def self_certainty(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Mean over tokens of KL(uniform || p) + log V, raw policy.

    Self-certainty of Intuitor (arXiv 2505.19590).
    """
    return token_mean(batch.stats["self_certainty"], batch.mask)


@register_term("entropy", from_stats=True)
def entropy(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the mean entropy of the tokens, in nats (RENT, arXiv 2505.22660)."""
    return -token_mean(batch.stats["entropy"], batch.mask)


@register_term("deepconf_lowest", from_stats=True)
def deepconf_lowest(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """DeepConf confidence of the least confident window of tokens (arXiv 2508.15260).

    A token's confidence is minus the mean of its 20 largest log-probs; a window's is
    the mean over `config.window` tokens. The paper filters and votes by it; as a
    reward, and with shorter rows as one window, it is ours.
    """
    return np.array([windows.min() for windows in _windows(batch, config)])


@register_term("deepconf_bottom", from_stats=True)
def deepconf_bottom(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """Mean DeepConf confidence of the lowest 10 % of windows, at least one.

    arXiv 2508.15260.
    """
    return np.array([bottom_confidence(windows) for windows in _windows(batch, config)])


@register_term("deepconf_tail", from_stats=True)
def deepconf_tail(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """DeepConf confidence of the last window (arXiv 2508.15260)."""
    return np.array([windows[-1] for windows in _windows(batch, config)])


def _windows(batch: RewardBatch, config: RewardsConfig) -> list[Float[np.ndarray, "_"]]:
    """Mean confidence of each full window of sampled tokens; 0 without tokens."""
    rows = zip(batch.stats["top20_confidence"], batch.mask)
    return [group_confidence(row[mask], config.window) for row, mask in rows]


_NOISE = 1e-4  # nats: difference of log-probs between batches of other shapes
_FLOOR = 1e-3  # nats: returns of a group that differ by less are not scaled to [0, 1]


@register_term(
    "pacr",
    needs_gold=True,
    needs_confidence="gold",
    needs_logp=True,
    placement="advantage",
)
def pacr(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B T"]:
    """PACR: discounted gain in log-prob of the right answer, min-max scaled by group.

    G_k = sum_{t >= k} discount^(t - k) g_t, with g_k the gain in mean log-prob of step
    k, on the tokens of the step, scaled to [0, 1] over all steps of the group (arXiv
    2510.22255). The paper's weight is 0.5, with 1 for the outcome. A step lies between
    two cuts [ours], so `config.cuts` sets their number; tokens after the last cut (the
    answer) get 0.
    """
    gains, real = _gains(batch)
    returns = np.zeros_like(gains)
    ahead = np.zeros(len(gains))
    for k in reversed(range(gains.shape[1])):
        ahead = np.where(real[:, k], gains[:, k] + config.discount * ahead, ahead)
        returns[:, k] = ahead
    scaled = _min_max(returns, real, batch.group)
    # [B, T]: number of cuts before a token. 0 and C lie outside of all steps.
    assert batch.cuts is not None
    position = np.arange(batch.tokens.shape[1])[:, None]
    before = (batch.cuts[:, None, :] <= position).sum(axis=2)
    return np.take_along_axis(np.pad(scaled, ((0, 0), (1, 1))), before, axis=1)


@register_term("pacr_sparse", needs_gold=True, needs_confidence="gold", needs_logp=True)
def pacr_sparse(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Share of steps that raise the log-prob of the right answer.

    The source names a sparse form of PACR (arXiv 2510.22255); the formula is ours.
    Gains within numerical noise do not count.
    """
    gains, real = _gains(batch)
    return (gains > _NOISE).sum(axis=1) / np.maximum(real.sum(axis=1), 1)


def _gains(
    batch: RewardBatch,
) -> tuple[Float[np.ndarray, "B steps"], Bool[np.ndarray, "B steps"]]:
    """The gain of each step, and a mask of real steps: short rows repeat cuts."""
    gold = _confidence(batch, "gold")
    assert batch.cuts is not None
    real = (np.diff(batch.cuts, axis=1) > 0) & gold.known[:, None]
    return np.where(real, np.diff(gold.mean_logp.astype(np.float64), axis=1), 0.0), real


def _min_max(
    values: Float[np.ndarray, "B K"], real: Bool[np.ndarray, "B K"], group: int
) -> Float[np.ndarray, "B K"]:
    """Values scaled to [0, 1] over the steps of each group; 0 outside of steps."""
    wide = (-1, group * values.shape[1])
    values, real, shape = values.reshape(wide), real.reshape(wide), values.shape
    low = np.where(real, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(real, values, -np.inf).max(axis=1, keepdims=True)
    some = np.isfinite(low)
    span = np.maximum(np.where(some, high - low, 1.0), _FLOOR)
    return np.where(real, (values - np.where(some, low, 0.0)) / span, 0.0).reshape(
        shape
    )
