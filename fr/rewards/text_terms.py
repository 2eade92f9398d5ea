"""Penalties of what training on other terms drifts into: length, repetition, thoughts that are left early."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.diagnosis.features import left_early, repeated
from fr.rewards.terms import term
from fr.types import GRADER_ERROR, RewardBatch


@term("length")
def length(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """0 up to `length_free` tokens, then down to -1 over `length_span` more; -1 for a truncated row.

    DAPO's soft punishment of long rows (arXiv 2503.14476), whose largest length is `length_free` + `length_span`.
    """
    over = (batch.length - config.length_free) / config.length_span
    return -np.where(batch.truncated, 1.0, np.clip(over, 0.0, 1.0))


@term("repetition")
def repetition(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the share of `ngram`-token stretches that the row has had before, in (-1, 0] (ours)."""
    return np.array(
        [
            -repeated(row[mask].tolist(), config.ngram)
            for row, mask in zip(batch.tokens, batch.mask)
        ]
    )


@term("thought_switch")
def thought_switch(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the share of thoughts that a switch word ends within `thought_words` words, in [-1, 0].

    Ours: the source (TIP, arXiv 2501.18585) lowers the logits of switch words while a thought is young; this is
    the same wish as a reward.
    """
    return np.array(
        [
            -left_early(text, config.switch_words, config.thought_words)
            for text in batch.texts
        ]
    )


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


@term("reward_model", needs_model=True)
def reward_model(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """The reward of the model in `config.model`: of any scale, since only differences were trained.

    On pairs by confidence it is the first stage of RLSF with a reward model (arXiv 2507.21931).
    """
    return batch.judged
