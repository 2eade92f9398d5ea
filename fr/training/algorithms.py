"""Advantages: what the rewards of a group of rollouts say of each of them."""

import numpy as np
from jaxtyping import Float

from fr.config.algorithms import (
    ALGORITHMS,
    CISPO,
    DAPO,
    DR_GRPO,
    GRPO,
    GSPO,
    REINFORCE,
    RLOO,
    Algorithm,
    with_settings,
)
from fr.rewards.mix import STD_FLOOR

__all__ = [
    "ALGORITHMS",
    "CISPO",
    "DAPO",
    "DR_GRPO",
    "GRPO",
    "GSPO",
    "REINFORCE",
    "RLOO",
    "Algorithm",
    "advantages",
    "with_settings",
]


def advantages(
    rewards: Float[np.ndarray, "B"], group: int, algorithm: Algorithm
) -> Float[np.ndarray, "B"]:
    """Advantage of each rollout, A = (r - centre) / max(std, 1e-3), in float32.

    Args:
        rewards: of the rollouts, the `group` rollouts of a problem side by side.
        group: rollouts of a problem, G; at least 2 where an algorithm compares them.
        algorithm: centre is the mean of the group, of the group's others (RLOO, arXiv 2402.14740) or
            of the batch; std is that of the group (arXiv 2402.03300), of the batch (arXiv 2508.08221)
            or 1, with `algorithm.ddof`.

    The variance is taken in two passes. With ddof 1 one reward of 1 among seven of 0 gives 2.47 and -0.35.
    """
    rewards = np.asarray(rewards, np.float64).reshape(-1, group)
    axis = None if algorithm.centre == "batch" else 1
    centred = rewards - rewards.mean(axis=axis, keepdims=True)
    if algorithm.centre == "others":
        centred *= group / (group - 1)
    if algorithm.scale != "none":
        axis = None if algorithm.scale == "batch" else 1
        apart = rewards - rewards.mean(axis=axis, keepdims=True)
        count = rewards.size if axis is None else group
        variance = np.square(apart).sum(axis=axis, keepdims=True) / max(
            count - algorithm.ddof, 1
        )
        centred /= np.maximum(np.sqrt(variance), STD_FLOOR)
    return centred.reshape(-1).astype(np.float32)
