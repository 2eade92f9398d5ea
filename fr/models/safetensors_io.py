"""Folders as transformers writes them: `config.json` and safetensors, one file or shards with an index."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import safetensors
from etils import epath

from fr import processes
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.families import config_json
from fr.models.weights import disassemble
from fr.workdir import PathLike, write_json

FLOATS = ("F32", "BF16", "F16", "F64")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_json(path: Path, optional: bool = False) -> dict:
    """A JSON object; {} if it may be absent and is. Raises UserError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if optional:
            return {}
        raise UserError(f"{path} is missing") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
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
            with _open(path) as file:
                found |= {name: _describe(path, file, name) for name in file.keys()}
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


def _describe(path: Path, file, name: str) -> _Stored:
    tensor = file.get_slice(name)
    return _Stored(path, name, tuple(tensor.get_shape()), tensor.get_dtype())


# Of a multimodal folder the first is how it is published, the second how transformers 5 writes it.
_TEXT = ("language_model.", "model.language_model.")
_OTHER = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


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
            raise UserError(f"{where}: tensors {out[short].name} and {name} are the same parameter")
        out[short] = tensor
    return out


def _files(folder: Path) -> list[Path]:
    # transformers reads the single file first, too.
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not (folder / INDEX).exists():
        raise UserError(f"{folder} holds neither {SINGLE} nor {INDEX}")
    table = read_json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError(f"{folder / INDEX} has no weight_map")
    return [folder / name for name in sorted(set(table.values()))]


def _open(path: Path):
    try:
        return safetensors.safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is no whole safetensors file: {error}") from error


def write_folder(folder: PathLike, config: ModelConfig, params: dict, stop_tokens: tuple[int, ...]) -> None:
    """Write float32 safetensors and configs that transformers opens; every file whole, `config.json` last.

    A save that is killed leaves a folder without `config.json`, which `load` refuses. Processes that hold the
    parameters together all call it, and the first one writes.
    """
    folder, tensors = epath.Path(folder), list(disassemble(config, params))
    if not processes.is_first():
        for _, _, read in tensors:
            read()
        return
    (folder / "config.json").unlink(missing_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    _write_tensors(folder / SINGLE, tensors)
    write_configs(folder, config, stop_tokens)


def write_configs(folder: PathLike, config: ModelConfig, stop_tokens: tuple[int, ...]) -> None:
    """Write what a decoder is, but its parameters; `config.json` last."""
    folder, eos = epath.Path(folder), {"eos_token_id": list(stop_tokens)} if stop_tokens else {}
    write_json(folder / "generation_config.json", {"_from_model_config": False, **eos})
    write_json(folder / "config.json", config_json(config, stop_tokens))


def _write_tensors(path: epath.Path, tensors) -> None:
    # The safetensors package wants all tensors at once; written one by one, a second copy never exists.
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.parent / f".{path.name}.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, read in tensors:
            file.write(read().astype("<f4", copy=False).tobytes())
    temporary.replace(path)
