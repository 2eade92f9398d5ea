"""Terms about what an attempt came to."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.rewards.base import term
from fr.types import GRADER_ERROR, RewardBatch


@term("correctness", needs_gold=True)
def correctness(batch: RewardBatch, config: RewardsConfig) -> list[float | None]:
    """1 where the answer is right, else 0.

    None, so left out of the term, for a row that the grader could not judge; 0 with `config.ungraded` = wrong.
    """
    known = [
        grade != GRADER_ERROR or config.ungraded == "wrong"
        for grade in batch.truth.grades
    ]
    return [
        float(right) if judged else None
        for right, judged in zip(batch.truth.right, known)
    ]


@term("format")
def stated_answer(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """1 where the row ends by itself and states an answer behind the task's marker, else 0."""
    first, end = batch.answer.T
    return ((end > first) & ~batch.truncated).astype(np.float32)
