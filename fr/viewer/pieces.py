"""The pieces of text of token ids, by the tokenizer of the model that wrote them."""

import concurrent.futures
import functools
import hashlib
import multiprocessing
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from fr.errors import UserError, first_line
from fr.files import read_regular
from fr.foreign import panics_are_errors
from fr.viewer.shards import root_of
from fr.workdir import cache_folder, read_object, write_whole

_NAME = "tokenizer.json"
_LARGEST = 1 << 27  # bytes
_WORDS = {"countdown": Path(__file__).parents[1] / "assets" / "countdown"}


class Pieces:
    """Tokenizers of the runs below a workdir; each is read once."""

    def __init__(self, workdir: Path):
        """Read nothing yet.

        Args:
          workdir: the folder that is viewed.
        """
        self._workdir = workdir
        self._tokenizer = functools.cache(self._find)

    def split(self, folder: str, tokens: Sequence[int]) -> tuple[list[str], str]:
        """The piece of text that each token adds.

        A token that ends in the middle of a character adds "", and the token that
        completes it has the whole character.

        Args:
          folder: of the attempts, relative to the workdir.
          tokens: ids, [T].

        Returns:
          Pieces, [T], and ""; or no piece, and the reason.
        """
        tokenizer, reason = self._tokenizer(folder)
        if tokenizer is None:
            return [], reason
        from tokenizers.decoders import DecodeStream

        try:
            with panics_are_errors():
                stream = DecodeStream(skip_special_tokens=False)
                return [stream.step(tokenizer, int(t)) or "" for t in tokens], ""
        except Exception as error:
            return [], f"its tokenizer fails: {first_line(error)}"

    def words(
        self, folder: str, before: int, tokens: Collection[int]
    ) -> dict[int, str]:
        """The pieces of text that single tokens would add to one text.

        Args:
          folder: of the attempts, relative to the workdir.
          before: id of the last token of that text.
          tokens: ids.

        Returns:
          The piece of text by id; "" for a part of a character.
        """
        return {t: "".join(self.split(folder, (before, t))[0][1:]) for t in tokens}

    def _find(self, folder: str) -> tuple[Any, str]:
        from tokenizers import Tokenizer

        root = root_of(self._workdir, folder)
        try:
            for path in _candidates(self._workdir, root, folder):
                if path.is_file():
                    with panics_are_errors():
                        data = read_regular(path, _LARGEST)
                        return Tokenizer.from_buffer(data), ""
        except Exception as error:
            return None, f"its tokenizer cannot be read: {first_line(error)}"
        return None, "the tokenizer of the model is not on this machine"


def _candidates(workdir: Path, root: Path, folder: str) -> Iterator[Path]:
    """Files that may be the tokenizer, the nearest first."""
    here = workdir / folder
    yield here.parent / _NAME  # rollouts of a training lie in the model's folder
    yield root / "specialist" / _NAME
    config = root / "config.json"
    settings = read_object(config) if config.exists() else {}
    model = settings.get("specialist") or settings.get("ancestor") or ""
    if not isinstance(model, str) or not model or model == "scratch":
        return
    if model in _WORDS:
        yield _WORDS[model] / _NAME
    yield Path(model) / _NAME
    if model.endswith(".gguf") or model == "smollm2":
        yield from _of_gguf(model)
    if cached := _of_hub(model):
        yield cached


def _of_hub(model: str) -> Path | None:
    """The file in the cache of the model hub; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    name, _, revision = model.partition("@")
    try:
        found = try_to_load_from_cache(name, _NAME, revision=revision or None)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _of_gguf(model: str) -> Iterator[Path]:
    """The tokenizer that a GGUF file describes, kept in the cache as `tokenizer.json`.

    The reader of such files imports jax, so it has a process of its own.
    """
    path = Path(model)
    stamp = path.stat().st_mtime_ns if path.exists() else model
    name = hashlib.sha256(f"{path.absolute()} {stamp}".encode()).hexdigest()[:32]
    kept = cache_folder() / "view" / f"{name}.tokenizer.json"
    if not kept.exists():
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            write_whole(str(kept), pool.submit(_described, model).result().encode())
    yield kept


def _described(model: str) -> str:
    """In the process: the text of `tokenizer.json`."""
    from fr.models.gguf import GGUFFile
    from fr.models.gguf_tokenizer import gguf_tokenizer
    from fr.models.smollm2 import smollm2

    path = smollm2() if model == "smollm2" else Path(model)
    if not path.exists():
        raise UserError(f"{model}: there is no such file")
    return gguf_tokenizer(GGUFFile(path)).backend_tokenizer.to_str()
