"""The reward model of a run: what it says of a step's rollouts."""

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr.config import Config
from fr.models import Model, sharding
from fr.pipeline.fit import check_vocabularies
from fr.training.preference import make_rewards
from fr.training.reward_model import load_reward_model
from fr.training.state import place_batch


class Judge:
    """Reads prompts and completions with the model in `config.rewards.model`, a microbatch at a time.

    Raises UserError for a folder that holds no reward model, or one that does not read the ids of `policy`.
    """

    def __init__(self, config: Config, policy: Model, mesh: Mesh):
        self._mesh = mesh
        self._held = load_reward_model(config.rewards.model, mesh)
        check_vocabularies(policy, self._held.model, "a reward model")
        self._rewards = make_rewards(self._held.model.config, config.policy.dtype)
        self._rows = config.policy.microbatch

    def read(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B"]:
        """The reward of every row, from the state of its last token; -1 pads on the right."""
        parts = np.split(tokens, len(tokens) // (self._rows or len(tokens)))
        ask = lambda part: self._rewards(
            self._held.model.params, self._held.kernel, place_batch(part, self._mesh)
        )
        return np.concatenate([sharding.on_host(found) for found in [ask(part) for part in parts]])
