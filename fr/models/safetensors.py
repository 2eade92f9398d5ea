"""Folders as transformers writes them: `config.json` and safetensors."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import safetensors
from etils import epath

from fr import distributed
from fr.errors import UserError
from fr.files import read_json
from fr.models.bounds import LARGEST, shown
from fr.models.config import ModelConfig
from fr.models.config_json import config_json
from fr.models.safetensors_header import read_header, write_sealed
from fr.models.weights import disassemble
from fr.workdir import PathLike, replacing, write_json

FLOATS = ("F32", "BF16", "F16", "F64")
_LARGEST_INDEX = 1 << 25  # bytes
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_object(path: Path, optional: bool = False, limit: int = LARGEST) -> dict:
    """Read a JSON object.

    Args:
        path: Path of the file.
        optional: A missing file is an empty object.
        limit: Largest size of the file, in bytes.

    Returns:
        The object.

    Raises:
        UserError: The file is missing, too large or not a JSON object.
    """
    if not os.path.lexists(path):
        if optional:
            return {}
        raise UserError(f"{path} is missing")
    value = read_json(path, limit)
    if not isinstance(value, dict):
        raise UserError(f"{path}: does not hold a JSON object")
    return value


class SafetensorsFolder:
    """The tensors of a folder; implements `weights.Tensors`.

    A file is only open while it is read: mapped parts of an open file count as memory
    of the process.

    Attributes:
        kind: Column of the weight table, hf.
        where: The folder, for errors.
        paths: The safetensors files.
    """

    kind = "hf"

    def __init__(self, folder: Path, tied: bool):
        """Read the headers of all files.

        Args:
            folder: The folder.
            tied: The head is the embedding; an equal copy of it is ignored.

        Raises:
            UserError: A file is broken, or the files contradict each other.
        """
        self.where = str(folder)
        self.paths = _files(folder)
        found: dict[str, _Stored] = {}
        for path in self.paths:
            for name, (kind, shape) in read_header(path).items():
                if name in found:
                    raise UserError(
                        f"{path}: tensor {name} is in {found[name].path.name}, too"
                    )
                found[name] = _Stored(path, name, shape, kind)
        _check_index(folder, self.paths, found)
        self._tensors = _language_model(found, self.where)
        if self._tensors is not found:
            self.where += " (its language_model)"
        if tied:
            self._drop_tied_head()

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""
        # Old exports of Llama hold the rotary frequencies, which the config determines.
        return {n for n in self._tensors if not n.endswith("rotary_emb.inv_freq")}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it.

        Args:
            name: Name of the tensor.

        Returns:
            Sizes of its axes.
        """
        return self._tensors[name].shape

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor.

        Args:
            name: Name of the tensor.
            index: A slice per axis.

        Returns:
            The values in their own type; bfloat16 is a type of ml_dtypes.

        Raises:
            UserError: The tensor is not of a floating type.
        """
        tensor = self._tensors[name]
        if tensor.kind not in FLOATS:
            known = ", ".join(FLOATS)
            raise UserError(
                f"{self.where}: tensor {name} has type {tensor.kind}, which cannot be "
                f"read; only {known}"
            )
        with _open(tensor.path) as file:
            return file.get_slice(tensor.name)[index]

    def _drop_tied_head(self) -> None:
        # Some exports write a tied head a second time, or in place of the embedding. A
        # head that differs from the embedding contradicts config.json: refuse it.
        head, embedding = "lm_head.weight", "model.embed_tokens.weight"
        if head in self._tensors and embedding not in self._tensors:
            self._tensors[embedding] = self._tensors.pop(head)
        elif head in self._tensors:
            if not self._equal(head, embedding):
                raise UserError(
                    f"{self.where}: {head} differs from {embedding} although "
                    "config.json ties them; if the head is its own, set "
                    '"tie_word_embeddings": false there'
                )
            del self._tensors[head]

    def _equal(self, a: str, b: str) -> bool:
        """Compare two tensors, the largest of a model, a thousand rows at a time."""
        rows = self.shape(a)[0]
        pieces = [(slice(i, min(i + 1000, rows)),) for i in range(0, rows, 1000)]
        same = lambda index: np.array_equal(self.read(a, index), self.read(b, index))
        return self.shape(a) == self.shape(b) and all(map(same, pieces))


@dataclasses.dataclass(frozen=True)
class _Stored:
    """The file of a tensor, its name there, its shape and its type."""

    path: Path
    name: str
    shape: tuple[int, ...]
    kind: str


# Prefixes in multimodal folders: as published, and as transformers 5 writes them.
_TEXT = ("language_model.", "model.language_model.")
_OTHER = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)


def _language_model(tensors: dict[str, _Stored], where: str) -> dict[str, _Stored]:
    """Tensors of a multimodal folder's language model, renamed; else all tensors."""
    if not any(name.startswith(_TEXT) for name in tensors):
        return tensors
    out: dict[str, _Stored] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OTHER):
            continue
        short = name
        if name.startswith(_TEXT[1]):
            short = "model." + name.removeprefix(_TEXT[1])
        elif name.startswith(_TEXT[0]):
            short = name.removeprefix(_TEXT[0])
        if short in out:
            raise UserError(
                f"{where}: tensors {out[short].name} and {name} are the same parameter"
            )
        out[short] = tensor
    return out


def _files(folder: Path) -> list[Path]:
    # transformers also reads the single file first.
    if os.path.lexists(folder / SINGLE):
        return [folder / SINGLE]
    if not os.path.lexists(folder / INDEX):
        raise UserError(f"{folder} holds neither {SINGLE} nor {INDEX}")
    return [_shard(folder, name) for name in sorted(set(_weight_map(folder).values()))]


def _weight_map(folder: Path) -> dict[str, str]:
    """The file that holds each tensor, for a folder of several files."""
    table = read_object(folder / INDEX, limit=_LARGEST_INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError(f"{folder / INDEX} has no weight_map")
    for tensor, name in table.items():
        if not isinstance(name, str):
            raise UserError(
                f"{folder / INDEX}: {tensor} is in {shown(name)}, which is not a file "
                "name"
            )
    return table


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(
            f"{folder / INDEX}: {shown(name)} is not the name of a file in its folder"
        )
    if path.is_symlink():
        found, home = path.resolve(), folder.resolve()
        # The hub's cache keeps contents apart; a folder per revision links to them.
        if (
            home not in found.parents
            and home.parent.parent / "blobs" not in found.parents
        ):
            raise UserError(
                f"{path} is a link out of its folder, to {found}; copy the file"
            )
    return path


def _check_index(folder: Path, paths: list[Path], found: dict[str, _Stored]) -> None:
    if paths == [folder / SINGLE]:
        return
    for tensor, name in _weight_map(folder).items():
        if tensor in found and found[tensor].path.name != name:
            raise UserError(
                f"{folder / INDEX}: tensor {tensor} is in {found[tensor].path.name}, "
                f"not in {name}"
            )


def _open(path: Path):
    try:
        return safetensors.safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from error


def write_folder(
    folder: PathLike, config: ModelConfig, params: dict, stop_tokens: tuple[int, ...]
) -> None:
    """Write float32 safetensors and configs that transformers opens.

    Every file is written whole, `config.json` last: a save that is killed leaves a
    folder without it, which `load` refuses. Processes that hold the parameters together
    all call this, and the first one writes.

    Args:
        folder: Path, also of a bucket.
        config: The decoder.
        params: Its parameters.
        stop_tokens: Ids that end a text.
    """
    folder, tensors = epath.Path(folder), list(disassemble(config, params))
    if not distributed.is_first():
        for _, _, read in tensors:
            read()
        return
    (folder / "config.json").unlink(missing_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    _write_tensors(folder / SINGLE, tensors)
    write_configs(folder, config, stop_tokens)


def write_configs(
    folder: PathLike, config: ModelConfig, stop_tokens: tuple[int, ...]
) -> None:
    """Write the configs of a decoder; `config.json` last.

    Args:
        folder: Path, also of a bucket.
        config: The decoder.
        stop_tokens: Ids that end a text.
    """
    folder = epath.Path(folder)
    eos = {"eos_token_id": list(stop_tokens)} if stop_tokens else {}
    write_json(folder / "generation_config.json", {"_from_model_config": False, **eos})
    write_json(folder / "config.json", config_json(config, stop_tokens))


def _write_tensors(path: epath.Path, tensors) -> None:
    # The safetensors package takes all tensors at once; written one by one, no second
    # copy exists.
    header, end = {}, 0
    for name, shape, _ in tensors:
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    pieces = lambda: (
        read().astype("<f4", copy=False).tobytes() for _, _, read in tensors
    )
    with replacing(path) as file:
        write_sealed(file, header, pieces)
