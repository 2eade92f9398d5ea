"""Terms about what an attempt came to."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.rewards.base import term
from fr.types import GRADER_ERROR, RewardBatch


@term("correctness", needs_gold=True)
def correctness(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """1 where the answer is right, else 0.

    Ours: a row that the grader could not judge gets the mean of its group's others (0 if there are none), which
    leaves their mean and its own advantage alone.
    """
    right = batch.truth.right.reshape(-1, batch.group)
    judged = np.array([grade != GRADER_ERROR for grade in batch.truth.grades]).reshape(right.shape)
    mean = (right * judged).sum(axis=1, keepdims=True) / np.maximum(judged.sum(axis=1, keepdims=True), 1)
    return np.where(judged, right, mean).reshape(-1)


@term("format")
def stated_answer(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """1 where the row ends by itself and states an answer behind the task's marker, else 0."""
    first, end = batch.answer.T
    return ((end > first) & ~batch.truncated).astype(np.float32)
