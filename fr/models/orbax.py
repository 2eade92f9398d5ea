"""Checkpoints of a training run, by Orbax, and the outline of their model."""

import contextlib
import math
from pathlib import Path

import jax
import numpy as np
from etils import epath

from fr import distributed
from fr.config import LoraConfig
from fr.errors import UserError, first_line
from fr.models.bounds import number, whole_number
from fr.models.config import ModelConfig
from fr.models.model import Model
from fr.models.safetensors import read_object, write_configs
from fr.models.tokenizer import write_tokenizer
from fr.models.weights import disassemble
from fr.workdir import PathLike, absolute, is_local, write_json

OUTLINE, _ADAPTERS = "outline", "adapters.json"
# The file that Orbax writes last, on a file system and in a bucket.
_MARK, _BUCKET_MARK = "_CHECKPOINT_METADATA", "commit_success.txt"


def is_checkpoint(folder: Path | epath.Path) -> bool:
    """True if a folder is one whole step of a training run, for example
    `checkpoints/40`.

    Args:
        folder: The folder.

    Returns:
        Whether it is.
    """
    return (folder / (_MARK if is_local(folder) else _BUCKET_MARK)).exists()


def checkpoints_in(folder: Path | epath.Path) -> list[str]:
    """Names of the steps in a folder `checkpoints`.

    Args:
        folder: The folder.

    Returns:
        Names in ascending order; none if it is another folder.
    """
    if not folder.is_dir():
        return []
    found = (
        path.name
        for path in folder.iterdir()
        if path.name.isdigit() and is_checkpoint(path)
    )
    return sorted(found, key=int)


def outline_of(checkpoint: Path) -> Path:
    """The folder with the configs and the tokenizer of a checkpoint's model.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The folder.

    Raises:
        UserError: It is missing.
    """
    outline = checkpoint.absolute().parent.parent / OUTLINE
    if not outline.is_dir():
        raise UserError(
            f"{checkpoint} is a checkpoint, but {outline}, which describes its model, "
            "is missing"
        )
    return outline


def save_outline(
    folder: PathLike, model: Model, base: str = "", lora: LoraConfig = LoraConfig()
) -> None:
    """Write what `load` needs beside the checkpoints: the model without its parameters.

    Every process calls this, and the first one writes.

    Args:
        folder: Folder of the training run.
        model: The model.
        base: The model that adapters are added to, by any name that `load` takes.
        lora: Settings of the adapters, if they are active.
    """
    if not distributed.is_first():
        return
    outline = epath.Path(folder) / OUTLINE
    if model.tokenizer is not None:
        write_tokenizer(outline, model.tokenizer)
    if lora.active:
        # An absolute path, so that a folder is found from every working directory.
        base = str(Path(base).absolute()) if Path(base).exists() else base
        made = {"base": base, "rank": lora.rank, "alpha": lora.alpha}
        vectors = {"vectors": True} if lora.vectors else {}
        write_json(outline / _ADAPTERS, made | vectors)
    write_configs(outline, model.config, model.stop_tokens)


def read_adapters(outline: Path) -> tuple[str, LoraConfig]:
    """The base model and the settings of a run's adapters.

    Args:
        outline: The folder that `save_outline` wrote.

    Returns:
        Name of the base model ("" if all parameters are trained), and the settings.

    Raises:
        UserError: The file does not hold these settings.
    """
    path = outline / _ADAPTERS
    found = read_object(path, optional=True)
    if not found:
        return "", LoraConfig()
    vectors = found.pop("vectors", False) is True
    if found.keys() != {"base", "rank", "alpha"} or not isinstance(found["base"], str):
        raise UserError(
            f"{path}: must have base (a text), rank and alpha, and no other key"
        )
    low, high = (0, 0) if vectors else (1, 1 << 16)
    rank = whole_number(found["rank"], low, high, f"{path}: rank")
    alpha = number(found["alpha"], 0, 1e6, f"{path}: alpha")
    return found["base"], LoraConfig(rank=rank, alpha=alpha, vectors=vectors)


def count_trained(checkpoint: PathLike) -> int:
    """Number of trained parameters of a checkpoint, from its metadata alone.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The number of values.
    """
    import orbax.checkpoint as ocp  # here, because the import takes a second

    folder = absolute(checkpoint) / "default"
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        leaves = jax.tree.leaves(handler.metadata(folder).tree["params"])
    return sum(math.prod(leaf.shape) for leaf in leaves)


def read_trained(checkpoint: Path) -> dict:
    """The trained parameters or adapters; the optimiser's state is not read.

    Args:
        checkpoint: The checkpoint.

    Returns:
        A tree of numpy arrays.

    Raises:
        UserError: The checkpoint is not whole.
    """
    import orbax.checkpoint as ocp  # here, because the import takes a second

    folder = epath.Path(checkpoint).absolute() / "default"
    try:
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            wanted = {"params": handler.metadata(folder).tree["params"]}
            on_host = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
            )
            args = ocp.args.PyTreeRestore(
                wanted, restore_args=on_host, partial_restore=True
            )
            return handler.restore(folder, args=args)["params"]
    # Errors of Orbax and of the libraries that it uses share no base class.
    except Exception as error:
        why = first_line(error).split(" [tensorstore")[0]
        raise UserError(
            f"{checkpoint} cannot be read as a checkpoint: {why}"
        ) from error


class InMemoryTensors:
    """Parameters in memory as the tensors of a file; implements `weights.Tensors`.

    Attributes:
        kind: Column of the weight table, hf.
        where: Name, for errors.
    """

    kind = "hf"

    def __init__(self, where: str, config: ModelConfig, params: dict):
        """Name the parameters as tensors.

        Args:
            where: Name, for errors.
            config: The decoder.
            params: Its parameters.

        Raises:
            UserError: The parameters do not fit the config.
        """
        self.where = where
        try:
            self._tensors = {
                name: (shape, read) for name, shape, read in disassemble(config, params)
            }
        except ValueError as error:
            raise UserError(f"{where} does not fit its outline: {error}") from error

    def names(self) -> set[str]:
        """Names of the tensors."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Args:
            name: Name of the tensor.

        Returns:
            Sizes of its axes.
        """
        return self._tensors[name][0]

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor.

        Args:
            name: Name of the tensor.
            index: A slice per axis.

        Returns:
            The values, float32.
        """
        return self._tensors[name][1]()[index]
