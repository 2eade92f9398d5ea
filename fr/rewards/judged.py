"""What a reward model that was trained on pairs says of an attempt."""

import numpy as np
from jaxtyping import Float

from fr.config import RewardsConfig
from fr.rewards.base import term
from fr.types import RewardBatch


@term("reward_model", needs_model=True)
def reward_model(batch: RewardBatch, config: RewardsConfig) -> Float[np.ndarray, "B"]:
    """The reward of the model in `config.model`: of any scale, since only differences were trained.

    On pairs by confidence it is the first stage of RLSF with a reward model (arXiv 2507.21931).
    """
    return batch.judged
