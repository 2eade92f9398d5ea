"""Terms about how sure the model was of its own tokens: read from their statistics, without gold or probes.

Alone they teach a model to repeat itself (a known failure of training on self-certainty): mix them with others.
"""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.diagnosis.windows import bottom, groups
from fr.rewards.base import term, token_mean
from fr.types import RewardBatch


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
    return np.array([bottom(windows) for windows in _windows(batch, config)])


@term("deepconf_tail", from_stats=True)
def deepconf_tail(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """DeepConf confidence of the last window (arXiv 2508.15260)."""
    return np.array([windows[-1] for windows in _windows(batch, config)])


def _windows(batch: RewardBatch, config: RewardsConfig) -> list[Float[np.ndarray, "_"]]:
    """Mean confidence of every full window of a row's sampled tokens, in order; 0 for a row without tokens."""
    rows = zip(batch.stats["top20_confidence"], batch.mask)
    return [groups(row[mask], config.window) for row, mask in rows]
