"""A reward model on disk: a decoder, and a scalar head on the last token's state."""

import dataclasses

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr import distributed
from fr.config import Config
from fr.errors import UserError
from fr.local_copies import local_copy
from fr.models import Model, load, save, sharding
from fr.models.loading import read_shape
from fr.runs.compatibility import check_vocabularies
from fr.training.microbatches import place_batch
from fr.training.preference_loss import make_rewards
from fr.workdir import PathLike, write_whole

_HEAD, _KERNEL, _CUT = "reward_head.safetensors", "kernel", "answer_cut"


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """A decoder and its reward head, r = kernel . state of the last token.

    Attributes:
        model: The decoder.
        kernel: Weights of the head.
        cut: It was trained on, and reads, responses without the sentence of their
            answer.
    """

    model: Model
    kernel: Float[np.ndarray, "D"]
    cut: bool = False


def save_reward_model(folder: PathLike, trained: RewardModel) -> None:
    """Write a reward model; all processes call it.

    The decoder's `config.json` is written last, as for every model.

    Args:
        folder: Destination.
        trained: The model and its head.
    """
    kernel = np.asarray(trained.kernel, np.float32)
    if distributed.is_first():
        write_whole(
            epath.Path(folder) / _HEAD,
            safetensors.numpy.save({_KERNEL: kernel}, {_CUT: str(trained.cut)}),
        )
    model = trained.model
    save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)


def load_reward_model(folder: PathLike, mesh: Mesh | None = None) -> RewardModel:
    """Read a reward model.

    Args:
        folder: A folder that `save_reward_model` wrote.
        mesh: Devices as (data, model); None: one device.

    Returns:
        The model and its head.

    Raises:
        UserError: The folder holds no reward model, or a damaged one.
    """
    model = load(folder, mesh=mesh)
    return RewardModel(model, *_read_head(folder, model.config.width))


def check_reward_model(folder: PathLike, policy: Model) -> None:
    """Check that a reward model can score a policy's rows, without its weights.

    Args:
        folder: A folder that `save_reward_model` wrote.
        policy: The model whose token ids are scored.

    Raises:
        UserError: The folder holds no reward model, or its token ids differ.
    """
    model = read_shape(folder)
    _read_head(folder, model.config.width)
    if masked := check_vocabularies(policy, model, "a reward model"):
        first = next(iter(masked.values()))
        raise UserError(
            f"{model.name}: id {first} is another token; a reward model must share "
            "them all"
        )


def _read_head(folder: PathLike, width: int) -> tuple[Float[np.ndarray, "D"], bool]:
    """The head's weights, and whether it reads completions cut at their answer."""
    path = local_copy(epath.Path(folder) / _HEAD)
    try:
        kernel = safetensors.numpy.load(path.read_bytes())[_KERNEL]
        with safetensors.safe_open(path, "np") as file:
            cut = (file.metadata() or {}).get(_CUT) == "True"
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is a model without {_HEAD}, so it gives no reward; "
            "scripts/train.py "
            "--config.algorithm=reward_model makes one that does"
        ) from error
    except (KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is not a head of a reward: {error}") from error
    if kernel.shape != (width,):
        raise UserError(
            f"{path} has {kernel.shape} numbers, and the states of {folder} {width}"
        )
    return kernel, cut


class RewardModelScorer:
    """Scores rows with the model in `config.rewards.model`, a microbatch at a time.

    Args:
        config: The whole configuration.
        policy: The model whose token ids are scored.
        mesh: Devices as (data, model).

    Raises:
        UserError: The folder holds no reward model, or its token ids differ.
    """

    def __init__(self, config: Config, policy: Model, mesh: Mesh):
        self._mesh = mesh
        check_reward_model(config.rewards.model, policy)
        self._held = load_reward_model(config.rewards.model, mesh)
        self.cut = (
            self._held.cut
        )  # it reads completions without the sentence of their answer
        self._rewards = make_rewards(self._held.model.config, config.policy.dtype)
        c = config.policy
        self._rows = c.microbatch or c.prompts * c.rollouts

    def read(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B"]:
        """Reward of each row, from the state of its last token.

        Args:
            tokens: Prompts and completions; -1 pads on the right.

        Returns:
            Rewards, of any scale.
        """
        # Pad to a whole microbatch: another number of rows would compile again.
        whole = np.pad(
            tokens, ((0, -len(tokens) % self._rows), (0, 0)), constant_values=-1
        )
        parts = np.split(whole, len(whole) // self._rows)
        ask = lambda part: self._rewards(
            self._held.model.params, self._held.kernel, place_batch(part, self._mesh)
        )
        found = [sharding.on_host(rewards) for rewards in [ask(part) for part in parts]]
        return np.concatenate(found)[: len(tokens)]
