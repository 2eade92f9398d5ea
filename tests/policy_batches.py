"""Rows of an update from prompts and completions, for tests."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.training.policy_loss import PolicyBatch


def make_batch(
    prompts: Sequence[Sequence[int]],
    tokens: Int[np.ndarray, "B W"],
    mask: Bool[np.ndarray, "B W"],
    old_logp: Float[np.ndarray, "B W"],
    advantages: Float[np.ndarray, "B W"],
    ref_logp: Float[np.ndarray, "B W"] | None = None,
) -> PolicyBatch:
    """Prompts and completions (-1 pads on the right) as rows that are four tokens
    longer than any needs.
    """
    start, length = (
        np.array([len(prompt) for prompt in prompts], np.int32),
        (tokens >= 0).sum(axis=1),
    )
    rows = np.full((len(tokens), (start + length).max() + 4), -1, np.int32)
    for row, prompt, completion, count in zip(rows, prompts, tokens, length):
        row[: len(prompt)] = prompt
        row[len(prompt) : len(prompt) + count] = completion[:count]
    number = lambda x: None if x is None else np.asarray(x, np.float32)
    return PolicyBatch(
        rows,
        start,
        np.asarray(mask, bool),
        number(old_logp),
        number(advantages),
        number(ref_logp),
    )
