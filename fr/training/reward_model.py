"""A reward model on disk: a decoder as every other, and beside it the scalar head that was trained on its states."""

import dataclasses
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr import distributed
from fr.config import Config
from fr.errors import UserError
from fr.models import Model, load, save, sharding
from fr.runs.compatibility import check_vocabularies
from fr.training.preference_loss import make_rewards
from fr.training.update import place_batch
from fr.workdir import PathLike, write_whole

_HEAD, _KERNEL, _CUT = "reward_head.safetensors", "kernel", "answer_cut"


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """A decoder and the head that makes a number of the state of a row's last token."""

    model: Model
    kernel: Float[np.ndarray, "D"]
    cut: bool = False  # it was trained on responses without the sentence of their answer, and reads such


def save_reward_model(folder: PathLike, trained: RewardModel) -> None:
    """Write a reward model; the decoder's `config.json` comes last, as of every model. All processes call it."""
    kernel = np.asarray(trained.kernel, np.float32)
    if distributed.is_first():
        write_whole(
            epath.Path(folder) / _HEAD,
            safetensors.numpy.save({_KERNEL: kernel}, {_CUT: str(trained.cut)}),
        )
    model = trained.model
    save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)


def load_reward_model(folder: PathLike, mesh: Mesh | None = None) -> RewardModel:
    """Read what `save_reward_model` wrote; raises UserError for a folder that is none, as `load` does."""
    model, path = load(folder, mesh=mesh), Path(folder) / _HEAD
    try:
        kernel = safetensors.numpy.load(path.read_bytes())[_KERNEL]
        with safetensors.safe_open(path, "np") as file:
            cut = (file.metadata() or {}).get(_CUT) == "True"
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is a model without {_HEAD}, so it gives no reward; scripts/train.py "
            "--config.algorithm=reward_model makes one that does"
        ) from error
    except (KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is no head of a reward: {error}") from error
    if kernel.shape != (model.config.width,):
        raise UserError(
            f"{path} has {kernel.shape} numbers, and the states of {folder} {model.config.width}"
        )
    return RewardModel(model, kernel, cut)


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
