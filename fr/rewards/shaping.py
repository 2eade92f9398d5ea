"""Terms about when confidence comes: progressive confidence shaping (arXiv 2605.24396) and its relatives."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.rewards.base import term
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
