"""The reward model of a run: what it says of a step's rollouts."""

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr.config import Config
from fr.errors import UserError
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
        if masked := check_vocabularies(policy, self._held.model, "a reward model"):
            first = next(iter(masked.values()))
            raise UserError(
                f"{self._held.model.name}: id {first} is another token; a reward model must share them all"
            )
        self.cuts = (
            self._held.cut
        )  # it reads completions without the sentence of their answer
        self._rewards = make_rewards(self._held.model.config, config.policy.dtype)
        c = config.policy
        self._rows = c.microbatch or c.prompts * c.rollouts

    def read(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B"]:
        """The reward of every row, from the state of its last token; -1 pads on the right."""
        # Another number of rows would be another program: the last ones are read with pads for rows.
        whole = np.pad(
            tokens, ((0, -len(tokens) % self._rows), (0, 0)), constant_values=-1
        )
        parts = np.split(whole, len(whole) // self._rows)
        ask = lambda part: self._rewards(
            self._held.model.params, self._held.kernel, place_batch(part, self._mesh)
        )
        found = [sharding.on_host(rewards) for rewards in [ask(part) for part in parts]]
        return np.concatenate(found)[: len(tokens)]
