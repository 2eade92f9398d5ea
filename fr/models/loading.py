"""From the name of a model to the model: folders, hub ids and the names of models that travel with us."""

from pathlib import Path

from fr.errors import UserError
from fr.models.families import model_config
from fr.models.model import Model
from fr.models.precision import choose_dtype
from fr.models.safetensors_io import SafetensorsFolder, read_json, write_folder
from fr.models.tokenizer import load_tokenizer, stop_ids, write_tokenizer
from fr.models.weights import assemble
from fr.workdir import PathLike


def load(source: PathLike, dtype=None) -> Model:
    """A model from a folder of safetensors.

    `dtype` (float32, bfloat16) overrides the policy of `precision`. Raises UserError, in one line, for whatever
    is missing, broken or does not fit.
    """
    dtype = choose_dtype(dtype)
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, str(source), dtype)
    raise UserError(f"model {str(source)!r} is no folder")


def _load_folder(folder: Path, name: str, dtype) -> Model:
    raw = read_json(folder / "config.json")
    config = model_config(raw, str(folder / "config.json"))
    generation = read_json(folder / "generation_config.json", optional=True)
    tokenizer = load_tokenizer(folder)
    params = assemble(config, SafetensorsFolder(folder, config.tied), dtype)
    own = tokenizer.eos_token_id if tokenizer else None
    stop = stop_ids(generation.get("eos_token_id"), raw.get("eos_token_id"), own)
    return Model(config, params, tokenizer, stop, name)


def save(
    folder: PathLike, config, params: dict, tokenizer=None, stop_tokens: tuple[int, ...] | None = None
) -> None:
    """Write a model as float32 safetensors that `load` and transformers open; `stop_tokens`: the tokenizer's."""
    if stop_tokens is None:
        stop_tokens = stop_ids(tokenizer.eos_token_id if tokenizer else None)
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer)
    write_folder(folder, config, params, stop_tokens)
