"""Text to token ids and back: a folder's own tokenizer, its files for an export, and the stop tokens."""

import os
import tempfile
from pathlib import Path

from etils import epath

from fr import foreign
from fr.errors import UserError, first_line
from fr.workdir import PathLike, write_whole

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def quiet_transformers() -> None:
    """Keep transformers, when it is imported, from advising to install torch: nothing here wants it."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def load_tokenizer(folder: Path):
    """The transformers tokenizer of a folder, None if it has none; raises UserError if it cannot be read."""
    if not any((folder / name).exists() for name in _FILES):
        return None
    foreign.warm()
    quiet_transformers()
    # Imported where it is used: it takes a second or more.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # tokenizer.json is the whole tokenizer. AutoTokenizer may prefer the class of the model type, and with
    # it other rules of splitting than those in the file.
    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").exists() else AutoTokenizer
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    # transformers and tokenizers raise bare Exceptions among others.
    except Exception as error:
        raise UserError(f"{folder}: its tokenizer cannot be read: {first_line(error)}") from error


def write_tokenizer(folder: PathLike, tokenizer) -> None:
    """Write a tokenizer's files, each whole, so that `load_tokenizer` and transformers read it back."""
    with tempfile.TemporaryDirectory() as local:
        tokenizer.save_pretrained(local)
        for path in sorted(Path(local).iterdir()):
            write_whole(epath.Path(folder) / path.name, path.read_bytes())


def stop_ids(*given) -> tuple[int, ...]:
    """Sorted union of stop tokens, each given as an id, a list of ids, or None; -1 says none, too."""
    ids = set()
    for one in given:
        for i in one if isinstance(one, (list, tuple)) else [one]:
            if i is not None and (not isinstance(i, int) or isinstance(i, bool)):
                raise UserError(f"eos_token_id = {i!r} must be a whole number or a list of them")
            ids |= {i} - {None, -1}
    return tuple(sorted(ids))
