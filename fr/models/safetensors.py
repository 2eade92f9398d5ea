"""Folders as transformers writes them: `config.json` and safetensors, one file or shards with an index."""

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
from fr.models.families import config_json
from fr.models.safetensors_header import read_header, write_sealed
from fr.models.weights import disassemble
from fr.workdir import PathLike, write_json

FLOATS = ("F32", "BF16", "F16", "F64")
_LARGEST_INDEX = 1 << 25  # bytes
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_object(path: Path, optional: bool = False, limit: int = LARGEST) -> dict:
    """A JSON object; {} if it may be absent and is. Raises UserError that names the file."""
    if not os.path.lexists(path):
        if optional:
            return {}
        raise UserError(f"{path} is missing")
    value = read_json(path, limit)
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object")
    return value


class SafetensorsFolder:
    """The tensors of a folder; see `weights.Tensors`. Raises UserError for a broken file.

    A file is open while it is read from: what has been mapped of an open one counts as memory of the process.
    """

    kind = "hf"

    def __init__(self, folder: Path, tied: bool):
        self.where = str(folder)
        self.paths = _files(folder)
        found = {}
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
        # Old exports of Llama carry the rotary frequencies, which the config determines.
        return {n for n in self._tensors if not n.endswith("rotary_emb.inv_freq")}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._tensors[name].shape

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor; bfloat16 as ml_dtypes has it."""
        tensor = self._tensors[name]
        if tensor.kind not in FLOATS:
            known = ", ".join(FLOATS)
            raise UserError(
                f"{self.where}: tensor {name} has type {tensor.kind}, which cannot be read; only {known}"
            )
        with _open(tensor.path) as file:
            return file.get_slice(tensor.name)[index]

    def _drop_tied_head(self) -> None:
        # Some exports write a tied head once more, or in place of the embedding. One that differs from the
        # embedding contradicts config.json, and which of the two is meant is not ours to guess.
        head, embedding = "lm_head.weight", "model.embed_tokens.weight"
        if head in self._tensors and embedding not in self._tensors:
            self._tensors[embedding] = self._tensors.pop(head)
        elif head in self._tensors:
            if not self._equal(head, embedding):
                raise UserError(
                    f"{self.where}: {head} differs from {embedding} although config.json ties them; "
                    'if the head is its own, set "tie_word_embeddings": false there'
                )
            del self._tensors[head]

    def _equal(self, a: str, b: str) -> bool:
        """Whether two tensors are one, a thousand rows at a time: these are the largest of a model."""
        rows = self.shape(a)[0]
        pieces = [(slice(i, min(i + 1000, rows)),) for i in range(0, rows, 1000)]
        same = lambda index: np.array_equal(self.read(a, index), self.read(b, index))
        return self.shape(a) == self.shape(b) and all(map(same, pieces))


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Where a tensor is, what it is called there, and what."""

    path: Path
    name: str
    shape: tuple[int, ...]
    kind: str


# Of a multimodal folder the first is how it is published, the second how transformers 5 writes it.
_TEXT = ("language_model.", "model.language_model.")
_OTHER = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)


def _language_model(tensors: dict[str, _Stored], where: str) -> dict[str, _Stored]:
    """The tensors of a multimodal folder's language model by the names of a text model's; else all."""
    if not any(name.startswith(_TEXT) for name in tensors):
        return tensors
    out = {}
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
    # transformers reads the single file first, too.
    if os.path.lexists(folder / SINGLE):
        return [folder / SINGLE]
    if not os.path.lexists(folder / INDEX):
        raise UserError(f"{folder} holds neither {SINGLE} nor {INDEX}")
    return [_shard(folder, name) for name in sorted(set(_weight_map(folder).values()))]


def _weight_map(folder: Path) -> dict[str, str]:
    """Of a folder of several files the one in which each tensor is."""
    table = read_object(folder / INDEX, limit=_LARGEST_INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError(f"{folder / INDEX} has no weight_map")
    for tensor, name in table.items():
        if not isinstance(name, str):
            raise UserError(
                f"{folder / INDEX}: {tensor} is in {shown(name)}, which is no name of a file"
            )
    return table


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(
            f"{folder / INDEX}: {shown(name)} is no name of a file in its folder"
        )
    if path.is_symlink():
        found, home = path.resolve(), folder.resolve()
        # The hub's cache keeps contents apart, and links to them from a folder a revision.
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
                f"{folder / INDEX}: tensor {tensor} is in {found[tensor].path.name}, not in {name}"
            )


def _open(path: Path):
    try:
        return safetensors.safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is no whole safetensors file: {error}") from error


def write_folder(
    folder: PathLike, config: ModelConfig, params: dict, stop_tokens: tuple[int, ...]
) -> None:
    """Write float32 safetensors and configs that transformers opens; every file whole, `config.json` last.

    A save that is killed leaves a folder without `config.json`, which `load` refuses. Processes that hold the
    parameters together all call it, and the first one writes.
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
    """Write what a decoder is, but its parameters; `config.json` last."""
    folder, eos = (
        epath.Path(folder),
        {"eos_token_id": list(stop_tokens)} if stop_tokens else {},
    )
    write_json(folder / "generation_config.json", {"_from_model_config": False, **eos})
    write_json(folder / "config.json", config_json(config, stop_tokens))


def _write_tensors(path: epath.Path, tensors) -> None:
    # The safetensors package wants all tensors at once; written one by one, a second copy never exists.
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
    temporary = path.parent / f".{path.name}.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        write_sealed(file, header, pieces)
    temporary.replace(path)
