"""Checkpoints of a training run: what was trained, by Orbax, and beside it an outline of the model that it makes."""

import contextlib
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
from fr.workdir import PathLike, write_json

_OUTLINE, _ADAPTERS = "outline", "adapters.json"
_MARK = "_CHECKPOINT_METADATA"  # a file that Orbax writes last


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one whole step of a training run: `checkpoints/40`."""
    return (folder / _MARK).exists()


def checkpoints_in(folder: Path) -> list[str]:
    """Names of the steps in a folder `checkpoints`; none if it is another one."""
    if not folder.is_dir():
        return []
    found = (
        path.name
        for path in folder.iterdir()
        if path.name.isdigit() and is_checkpoint(path)
    )
    return sorted(found, key=int)


def outline_of(checkpoint: Path) -> Path:
    """Where the configs and the tokenizer of a checkpoint's model are; raises UserError if they are not."""
    outline = checkpoint.absolute().parent.parent / _OUTLINE
    if not outline.is_dir():
        raise UserError(
            f"{checkpoint} is a checkpoint, but {outline}, which describes its model, is missing"
        )
    return outline


def save_outline(
    folder: PathLike, model: Model, base: str = "", lora: LoraConfig = LoraConfig()
) -> None:
    """Write what `load` needs beside the checkpoints of a training run in `folder`: `model` but its parameters.

    Of adapters also the model that they stand beside, `base`: any name that `load` takes. Of several processes the
    first one writes.
    """
    if not distributed.is_first():
        return
    outline = epath.Path(folder) / _OUTLINE
    if model.tokenizer is not None:
        write_tokenizer(outline, model.tokenizer)
    if lora.rank:
        # From wherever it is looked at: a base that is a folder here is found again.
        base = str(Path(base).absolute()) if Path(base).exists() else base
        write_json(
            outline / _ADAPTERS, {"base": base, "rank": lora.rank, "alpha": lora.alpha}
        )
    write_configs(outline, model.config, model.stop_tokens)


def read_adapters(outline: Path) -> tuple[str, LoraConfig]:
    """The name of the model that adapters stand beside ("" where all parameters are trained), and how they do."""
    path = outline / _ADAPTERS
    found = read_object(path, optional=True)
    if not found:
        return "", LoraConfig()
    if found.keys() != {"base", "rank", "alpha"} or not isinstance(found["base"], str):
        raise UserError(
            f"{path}: must have base (a text), rank and alpha, and nothing else"
        )
    rank = whole_number(found["rank"], 1, 1 << 16, f"{path}: rank")
    return found["base"], LoraConfig(
        rank=rank, alpha=number(found["alpha"], 0, 1e6, f"{path}: alpha")
    )


def read_trained(checkpoint: Path) -> dict:
    """What was trained, parameters or adapters, as arrays on the host; the optimiser's state is not read.

    Raises UserError for a checkpoint that is not whole.
    """
    import orbax.checkpoint as ocp  # here, because it takes a second

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
    # Orbax and what it stands on share no base of their errors.
    except Exception as error:
        why = first_line(error).split(" [tensorstore")[0]
        raise UserError(
            f"{checkpoint} cannot be read as a checkpoint: {why}"
        ) from error


class Held:
    """Parameters that are at hand, as the tensors of a file; see `weights.Tensors`.

    Raises UserError if they are not those of the config.
    """

    kind = "hf"

    def __init__(self, where: str, config: ModelConfig, params: dict):
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
        """Shape of a tensor."""
        return self._tensors[name][0]

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor."""
        return self._tensors[name][1]()[index]
