"""Terms of the outcome and of the text: correctness, format, length, repetition."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.diagnosis.features import left_early, repeated
from fr.rewards.terms import register_term
from fr.types import GRADER_ERROR, RewardBatch


@register_term("length")
def length(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """0 up to `length_free` tokens, then linear to -1 at `length_free` + `length_span`.

    -1 for a truncated row. The soft overlong punishment of DAPO (arXiv 2503.14476).
    """
    over = (batch.length - config.length_free) / config.length_span
    return -np.where(batch.truncated, 1.0, np.clip(over, 0.0, 1.0))


@register_term("repetition")
def repetition(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the share of `ngram`-token windows that occurred before in the row [ours].

    In (-1, 0].
    """
    return np.array(
        [
            -repeated(row[mask].tolist(), config.ngram)
            for row, mask in zip(batch.tokens, batch.mask)
        ]
    )


@register_term("thought_switch")
def thought_switch(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Minus the share of thoughts that a switch word ends early [ours].

    Early is within `thought_words` words; in [-1, 0]. TIP (arXiv 2501.18585) lowers the
    logits of switch words in young thoughts; this is the same aim as a reward.
    """
    return np.array(
        [
            -left_early(text, config.switch_words, config.thought_words)
            for text in batch.texts
        ]
    )


@register_term("correctness", needs_gold=True)
def correctness(batch: RewardBatch, config: RewardsConfig) -> list[float | None]:
    """1 where the answer is right, else 0.

    A row that the grader could not judge is left out; with `config.ungraded` = wrong it
    counts 0.
    """
    assert batch.truth is not None  # declared: needs_gold
    known = [
        grade != GRADER_ERROR or config.ungraded == "wrong"
        for grade in batch.truth.grades
    ]
    return [
        float(right) if judged else None
        for right, judged in zip(batch.truth.right, known)
    ]


@register_term("format")
def stated_answer(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """1 where the row ends by itself and states an answer after the marker, else 0."""
    first, end = batch.answer.T
    return ((end > first) & ~batch.truncated).astype(np.float32)


@register_term("format_instead", needs_gold=True)
def format_instead(batch: RewardBatch, config: RewardsConfig) -> list[float | None]:
    """`format` where the answer is not right, else 0; a share in {0, 1}.

    With weight a beside correctness a row is paid 1 for a right answer or a for the
    form of another, not 1 + a: in a group without a right answer the form is then the
    only gradient, elsewhere it adds to none. Rows without a grade are left out as of
    `correctness`.
    """
    form, right = stated_answer(batch, config), correctness(batch, config)
    return [
        None if outcome is None else float(stated) * (1.0 - outcome)
        for stated, outcome in zip(form, right)
    ]


@register_term("reward_model", needs_model=True)
def reward_model(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """Reward of the model in `config.model`.

    Its scale is arbitrary, since only differences were trained. Trained on pairs by
    confidence it is the first stage of RLSF (arXiv 2507.21931).
    """
    assert batch.judged is not None  # declared: needs_model
    return batch.judged
