"""Algorithms of policy optimisation as data: how rewards become advantages, and what is done to the ratio."""

import dataclasses

import numpy as np
from jaxtyping import Float

from fr.registry import Registry
from fr.rewards.groups import STD_FLOOR

ALGORITHMS = Registry("algorithm")


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """What tells one algorithm from another; the defaults are those of GRPO."""

    centre: str = "group"  # whose mean is taken off a reward: group, or batch
    scale: bool = True  # divide by the group's standard deviation
    ratio: str = "token"  # token; sequence: exp of the mean log ratio; none: plain policy gradient
    clip_low: float = 0.2
    clip_high: float = 0.2
    mean: str = (
        "sequence"  # of token losses: of a row's, then of rows; token: of all; fixed: over a fixed length
    )
    resample: bool = False  # problems whose rollouts all have one reward are drawn anew


def _file(name: str, algorithm: Algorithm) -> Algorithm:
    return ALGORITHMS.register(name)(algorithm)


GRPO = _file("grpo", Algorithm())  # arXiv 2402.03300
DR_GRPO = _file("dr_grpo", Algorithm(scale=False, mean="fixed"))  # arXiv 2503.20783
DAPO = _file("dapo", Algorithm(clip_high=0.28, mean="token", resample=True))  # arXiv 2503.14476
GSPO = _file("gspo", Algorithm(ratio="sequence", clip_low=3e-4, clip_high=4e-4))  # arXiv 2507.18071
REINFORCE = _file("reinforce", Algorithm(centre="batch", scale=False, ratio="none", mean="fixed"))


def advantages(rewards: Float[np.ndarray, "B"], group: int, algorithm: Algorithm) -> Float[np.ndarray, "B"]:
    """Advantage of each rollout among the `group` rollouts of its problem, which lie side by side; float32.

    The variance is taken in two passes, of the population [ours]: one against seven gives sqrt(7) and -1 / sqrt(7).
    """
    rewards = np.asarray(rewards, np.float64).reshape(-1, group)
    axis = None if algorithm.centre == "batch" else 1
    centred = rewards - rewards.mean(axis=axis, keepdims=True)
    if algorithm.scale:
        centred /= np.maximum(np.sqrt(np.square(centred).mean(axis=1, keepdims=True)), STD_FLOOR)
    return centred.reshape(-1).astype(np.float32)
