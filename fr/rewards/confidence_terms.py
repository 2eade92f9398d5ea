"""Terms about when confidence comes: progressive confidence shaping (arXiv 2605.24396) and its relatives."""

import numpy as np
from jaxtyping import Bool, Float

from fr.config import RewardsConfig
from fr.diagnosis.features import bottom_confidence, group_confidence
from fr.rewards.terms import term, token_mean
from fr.types import RewardBatch, Trajectory


@term("pcs", needs_gold=True, needs_confidence="gold", placement="advantage")
def pcs(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus confidence in the right answers, weighted from 0.5 at the first cut to -0.5 at the last.

    -<c, w> with w = linspace(0.5, -0.5, C): from -0.9 to 0.9 for 6 cuts; eta is the term's weight (arXiv 2605.24396).
    As in the paper it is added to the advantage of every token; its Countdown code has it in the reward, which is
    `placement = (("pcs", "reward"),)`.
    """
    return _shaped(batch.truth.confidence, _weights)


@term("pcs_own", needs_confidence="own", placement="advantage")
def pcs_own(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """PCS of confidence in the row's own final answer, right or wrong.

    Ours: no reference is read, so that it also trains where there is none.
    """
    return _shaped(batch.own, _weights)


@term("pcs_shuffled", needs_gold=True, needs_confidence="gold", placement="advantage")
def pcs_shuffled(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Control of PCS: the same weights in an order that `config.shuffle_seed` draws, one for the whole run.

    Ours: the same scale and the same probes without their order in time.
    """
    shuffled = lambda cuts: np.random.default_rng(config.shuffle_seed).permutation(
        _weights(cuts)
    )
    return _shaped(batch.truth.confidence, shuffled)


@term("late_confidence", needs_confidence="own")
def late_confidence(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """Confidence in the own answer at the last cut less that at the first, in [-1, 1].

    Ours: what is left of PCS if only its ends count.
    """
    return _shaped(batch.own, lambda cuts: np.array([1.0, *[0.0] * (cuts - 2), -1.0]))


def _weights(cuts: int) -> Float[np.ndarray, "C"]:
    return np.linspace(0.5, -0.5, cuts)


def _shaped(confidence: Trajectory, weights) -> Float[np.ndarray, "B"]:
    """-<c, w>; 0 for rows that were not asked."""
    penalty = (confidence.probability * weights(confidence.probability.shape[1])).sum(
        axis=1
    )
    return np.where(confidence.known, -penalty, 0.0)


@term("rlsf", from_stats=True)
def rlsf(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Mean over the answer's tokens of p of the likeliest less p of the second, in [0, 1]; 0 without an answer.

    Confidence of the final-answer span of arXiv 2507.21931.
    """
    first, end = (edge[:, None] for edge in batch.answer.T)
    at = np.arange(batch.tokens.shape[1])
    return token_mean(batch.stats["margin"], batch.mask & (at >= first) & (at < end))


@term("self_certainty", from_stats=True)
def self_certainty(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Mean over tokens of KL(uniform || p) + log V, raw policy (Intuitor, arXiv 2505.19590)."""
    return token_mean(batch.stats["self_certainty"], batch.mask)


@term("entropy", from_stats=True)
def entropy(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the mean entropy of the tokens, in nats (RENT, arXiv 2505.22660)."""
    return -token_mean(batch.stats["entropy"], batch.mask)


@term("deepconf_lowest", from_stats=True)
def deepconf_lowest(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """DeepConf confidence of the least sure window of tokens (arXiv 2508.15260).

    A token's confidence is minus the mean of its 20 largest log-probs, a window's the mean over `config.window`
    tokens. The paper filters and votes by it; ours: as a reward, and a shorter row is one window.
    """
    return np.array([windows.min() for windows in _windows(batch, config)])


@term("deepconf_bottom", from_stats=True)
def deepconf_bottom(
    batch: RewardBatch, config: RewardsConfig
) -> Float[np.ndarray, "B"]:
    """Mean DeepConf confidence of the least sure 10 % of windows, at least one (arXiv 2508.15260)."""
    return np.array([bottom_confidence(windows) for windows in _windows(batch, config)])


@term("deepconf_tail", from_stats=True)
def deepconf_tail(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """DeepConf confidence of the last window (arXiv 2508.15260)."""
    return np.array([windows[-1] for windows in _windows(batch, config)])


def _windows(batch: RewardBatch, config: RewardsConfig) -> list[Float[np.ndarray, "_"]]:
    """Mean confidence of every full window of a row's sampled tokens, in order; 0 for a row without tokens."""
    rows = zip(batch.stats["top20_confidence"], batch.mask)
    return [group_confidence(row[mask], config.window) for row, mask in rows]


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
) -> tuple[Float[np.ndarray, "B steps"], Bool[np.ndarray, "B steps"]]:
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
