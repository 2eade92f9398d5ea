"""From the name of a model to the model: folders, GGUF files, hub ids, checkpoints."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

from etils import epath
from jax.sharding import Mesh

from fr import distributed
from fr.buckets import is_local
from fr.errors import UserError, first_line
from fr.local_copies import local_copy
from fr.models.chat_template import end_of_turn
from fr.models.config import ModelConfig, choose_dtype
from fr.models.dense import merge
from fr.models.families import model_config, text_config
from fr.models.gguf import GGUFFile
from fr.models.gguf_tokenizer import gguf_tokenizer, special_id
from fr.models.model import Model, check_ids
from fr.models.orbax import (
    OUTLINE,
    InMemoryTensors,
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
NAMED: dict[str, Callable[[], Path]] = {
    "smollm2": smollm2,
    "countdown": lambda: Path(__file__).parents[1] / "assets" / "countdown",
}


def load(
    source: PathLike, dtype=None, mesh: Mesh | None = None, stacked: bool = True
) -> Model:
    """Load a model.

    Args:
        source: A folder of safetensors, a `.gguf` file, a checkpoint of a training run,
            a hub id `owner/name` (with a commit, branch or tag: `owner/name@revision`),
            or a key of NAMED.
        dtype: float32 or bfloat16; None: `choose_dtype`.
        mesh: Mesh of (data, model) over which parameters are divided, slice by slice;
            None: the default device.
        stacked: Stack the layers; otherwise they are a tuple of trees.

    Returns:
        The model.

    Raises:
        UserError: A file is missing, broken or does not fit; one line.
    """
    path = locate(str(source))
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


def read_shape(source: PathLike) -> Model:
    """A model without its weights, which are not read from its folder or hub id.

    Args:
        source: As in `load`.

    Returns:
        The model, with empty `params`.

    Raises:
        UserError: As in `load`.
    """
    path = locate(str(source), weights=False)
    if not path.is_dir():
        return _load_gguf(path, str(source), lambda config, tensors: {})
    folder = outline_of(path) if is_checkpoint(path) else path
    config, tokenizer, stop = _described(folder)
    return Model(config, {}, tokenizer, stop, str(source))


def save(
    folder: PathLike,
    config,
    params: dict,
    tokenizer=None,
    stop_tokens: tuple[int, ...] | None = None,
) -> None:
    """Write a model as float32 safetensors, configs and tokenizer files.

    `load` and transformers open the folder. Processes that hold the parameters together
    all call this, and the first one writes.

    Args:
        folder: Path, also of a bucket; other files in it stay.
        config: The decoder.
        params: Its parameters.
        tokenizer: A transformers tokenizer, or None.
        stop_tokens: Ids that end a text; None: the tokenizer's own.
    """
    if stop_tokens is None:
        stop_tokens = stop_ids(tokenizer.eos_token_id if tokenizer else None)
    if tokenizer is not None and distributed.is_first():
        write_tokenizer(folder, tokenizer)
    write_folder(folder, config, params, stop_tokens)


def locate(source: str, weights: bool = True) -> Path:
    """Path of a model on this machine; a hub id is downloaded.

    Args:
        source: As in `load`.
        weights: Download weights, too.

    Returns:
        A folder or a `.gguf` file.

    Raises:
        UserError: There is no such model.
    """
    if is_local(source):
        place = NAMED[source]() if source in NAMED else Path(source).expanduser()
    else:
        place = epath.Path(source)
    if steps := checkpoints_in(place):
        raise UserError(
            f"model {source!r} is a folder of checkpoints; name one of: "
            f"{', '.join(steps)}"
        )
    path = place if is_local(source) else _from_bucket(place, weights)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise UserError(
            f"model {source!r} is a file but not a .gguf; give the folder of a "
            "safetensors file"
        )
    if source not in NAMED and path.suffix != ".gguf" and re.fullmatch(_HUB, source):
        return _from_hub(source, weights)
    raise UserError(
        f"model {source!r} is not there; give a folder of safetensors, a .gguf file, a "
        f"hub id (owner/name), or one of: {', '.join(NAMED)}"
    )


def _from_bucket(place: epath.Path, weights: bool) -> Path:
    """The model's files on the local disk: its folder, file or checkpoint."""
    if is_checkpoint(place):
        local_copy(place.parent.parent / OUTLINE)
        return local_copy(place, inner=True)
    if place.suffix == ".gguf":
        # A large file may be in parts.
        start = re.sub(r"-\d{5}-of-\d{5}\.gguf$", "", place.name)
        near = local_copy(place.parent, wanted=lambda name: name.startswith(start))
        return near / place.name
    return local_copy(
        place, wanted=lambda name: weights or not name.endswith(".safetensors")
    )


def _from_hub(name: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = name.partition("@")
    wanted = ["*.json", "*.model", "*.jinja", "*.txt"] + ["*.safetensors"] * weights
    # Second copies of the weights, in subfolders or in other layouts.
    unwanted = ["*/*", "consolidated*"]
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=wanted,
                ignore_patterns=unwanted,
            )
        )
    # The hub's errors share no base class, and errors of its HTTP library pass through.
    except Exception as error:
        why = first_line(error)
        raise UserError(
            f"model {name!r} is not a folder here and cannot be downloaded from the "
            f"hub: {why}"
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
        read(config, InMemoryTensors(str(folder), config, params)),
        tokenizer,
        stop,
        name,
        files,
    )


def _described_by(folder: Path) -> list[Path]:
    """The files beside the weights that decide how a model reads and writes text."""
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
    # Ends of the text, of a turn, of a message.
    ends = [special_id(file, end) for end in ("eos", "eot", "eom")]
    stop = stop_ids(*ends, end_of_turn(tokenizer))
    return Model(file.config, params, tokenizer, stop, name, tuple(file.paths))
