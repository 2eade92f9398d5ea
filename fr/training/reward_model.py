"""A reward model on disk: a decoder as every other, and beside it the scalar head that was trained on its states."""

import dataclasses
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float

from fr import processes
from fr.errors import UserError
from fr.models import Model, load, save
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
    if processes.is_first():
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
