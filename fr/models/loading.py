"""From the name of a model to the model: folders, GGUF files, hub ids, and the models that travel with us."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh

from fr import distributed
from fr.errors import UserError, first_line
from fr.models.chat_template import end_of_turn
from fr.models.config import ModelConfig, choose_dtype
from fr.models.dense import merge
from fr.models.families import model_config, text_config
from fr.models.gguf import GGUFFile
from fr.models.gguf_tokenizer import gguf_tokenizer, special_id
from fr.models.model import Model, check_ids
from fr.models.orbax import (
    Held,
    checkpoints_in,
    is_checkpoint,
    outline_of,
    read_adapters,
    read_trained,
)
from fr.models.safetensors import SafetensorsFolder, read_object, write_folder
from fr.models.smollm2 import smollm2
from fr.models.tokenizer import load_tokenizer, stop_ids, write_tokenizer
from fr.models.weights import assemble
from fr.workdir import PathLike

_HUB = r"[\w.-]+/[\w.-]+(@[\w./-]+)?"
NAMED = {
    "smollm2": smollm2,
    "countdown": lambda: Path(__file__).parents[1] / "assets" / "countdown",
}


def load(
    source: PathLike, dtype=None, mesh: Mesh | None = None, stacked: bool = True
) -> Model:
    """A model from a folder of safetensors, a `.gguf` file, a checkpoint of ours, a hub id, or a name in `NAMED`.

    A hub id may have a revision: `owner/name@commit`, a branch or a tag.

    `dtype` (float32, bfloat16) overrides the policy of `precision`. Parameters go to the default device, or
    slice by slice to where `sharding` places them on a mesh of (data, model); layers are stacked, or a tuple of
    trees. Raises UserError, in one line, for whatever is missing, broken or does not fit.
    """
    path = _locate(str(source))
    read = functools.partial(
        assemble, dtype=choose_dtype(dtype), mesh=mesh, stacked=stacked
    )
    kind = (
        _load_gguf
        if path.is_file()
        else _load_checkpoint
        if is_checkpoint(path)
        else _load_folder
    )
    return kind(path, str(source), read)


def read_shape(source: PathLike) -> tuple[ModelConfig, object | None]:
    """The config of a model and its tokenizer, None if it has none; of a folder or hub id no weights are read.

    Raises UserError as `load` does.
    """
    path = _locate(str(source), weights=False)
    if not path.is_dir():
        file = GGUFFile(path)
        return file.config, gguf_tokenizer(file)
    return _described(outline_of(path) if is_checkpoint(path) else path)[:2]


def save(
    folder: PathLike,
    config,
    params: dict,
    tokenizer=None,
    stop_tokens: tuple[int, ...] | None = None,
) -> None:
    """Write a model as float32 safetensors, configs and tokenizer files that `load` and transformers open.

    `stop_tokens`: the tokenizer's own, unless given. `folder` may be a bucket path; what else it holds stays.
    Processes that hold the parameters together all call it, and the first one writes.
    """
    if stop_tokens is None:
        stop_tokens = stop_ids(tokenizer.eos_token_id if tokenizer else None)
    if tokenizer is not None and distributed.is_first():
        write_tokenizer(folder, tokenizer)
    write_folder(folder, config, params, stop_tokens)


def _locate(source: str, weights: bool = True) -> Path:
    path = NAMED[source]() if source in NAMED else Path(source).expanduser()
    if steps := checkpoints_in(path):
        raise UserError(
            f"model {source!r} is a folder of checkpoints; name one of: {', '.join(steps)}"
        )
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise UserError(
            f"model {source!r} is a file but no .gguf; give the folder of a safetensors file"
        )
    if source not in NAMED and path.suffix != ".gguf" and re.fullmatch(_HUB, source):
        return _from_hub(source, weights)
    raise UserError(
        f"model {source!r} is not there; give a folder of safetensors, a .gguf file, a hub id (owner/name), "
        f"or one of: {', '.join(NAMED)}"
    )


def _from_hub(name: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = name.partition("@")
    wanted = ["*.json", "*.model", "*.jinja", "*.txt"] + ["*.safetensors"] * weights
    # Second copies of the weights, in subfolders or in their makers' own layout.
    unwanted = ["*/*", "consolidated*"]
    given = {"revision": revision} if revision else {}
    try:
        return Path(
            snapshot_download(
                name, **given, allow_patterns=wanted, ignore_patterns=unwanted
            )
        )
    # The hub's errors share no base, and its HTTP library's come through.
    except Exception as error:
        why = first_line(error)
        raise UserError(
            f"model {name!r} is no folder here and cannot be had from the hub: {why}"
        ) from error


def _load_folder(folder: Path, name: str, read: Callable[..., dict]) -> Model:
    config, tokenizer, stop = _described(folder)
    tensors = SafetensorsFolder(folder, config.tied)
    files = (*tensors.paths, *_described_by(folder))
    return Model(config, read(config, tensors), tokenizer, stop, name, files)


def _load_checkpoint(folder: Path, name: str, read: Callable[..., dict]) -> Model:
    outline = outline_of(folder)
    config, tokenizer, stop = _described(outline)
    params, (base, lora) = read_trained(folder), read_adapters(outline)
    if base:
        params = merge(load(base, dtype="float32").params, params, lora)
    files = (
        *(path for path in folder.rglob("*") if path.is_file()),
        *_described_by(outline),
    )
    return Model(
        config,
        read(config, Held(str(folder), config, params)),
        tokenizer,
        stop,
        name,
        files,
    )


def _described_by(folder: Path) -> list[Path]:
    """The files beside the weights that decide what a model reads and writes."""
    names = ("config.json", "generation_config.json", "vocab.json", "merges.txt")
    found = (
        [folder / name for name in names]
        + sorted(folder.glob("tokenizer*"))
        + sorted(folder.glob("*.jinja"))
    )
    return [path for path in found if path.is_file()]


def _described(folder: Path) -> tuple[ModelConfig, object | None, tuple[int, ...]]:
    """The config, the tokenizer and the stop tokens of a folder."""
    raw = read_object(folder / "config.json")
    config = model_config(raw, str(folder / "config.json"))
    generation = read_object(folder / "generation_config.json", optional=True)
    tokenizer = load_tokenizer(folder)
    given = [
        generation.get("eos_token_id"),
        raw.get("eos_token_id"),
        text_config(raw).get("eos_token_id"),
    ]
    if tokenizer:
        given += [tokenizer.eos_token_id, end_of_turn(tokenizer)]
    stop = stop_ids(*given)
    check_ids(stop, config.vocab, f"{folder}: its eos_token_id")
    return config, tokenizer, stop


def _load_gguf(path: Path, name: str, read: Callable[..., dict]) -> Model:
    file = GGUFFile(path)
    tokenizer = gguf_tokenizer(file)
    params = read(file.config, file)
    ends = [
        special_id(file, end) for end in ("eos", "eot", "eom")
    ]  # of the text, of a turn, of a message
    stop = stop_ids(*ends, end_of_turn(tokenizer))
    return Model(file.config, params, tokenizer, stop, name, tuple(file.paths))
