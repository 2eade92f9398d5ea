"""Tokenizer files: a folder's own tokenizer, exports, and the stop tokens."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from fr import foreign
from fr.errors import UserError, first_line
from fr.files import open_regular, read_json, read_regular
from fr.workdir import PathLike, write_whole

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_TABLES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TEXTS = ("chat_template.jinja", "chat_template.json")
_LARGE = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
_LARGEST_TEXT, _LARGEST = 1 << 24, 1 << 27  # bytes
_SPECIAL = [
    f"{name}_token" for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
]


def quiet_transformers() -> None:
    """Stop transformers from advising at import to install torch, which is not used."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def load_tokenizer(folder: Path) -> Any:
    """The transformers tokenizer of a folder.

    Args:
        folder: The folder.

    Returns:
        The tokenizer; None if the folder has none.

    Raises:
        UserError: It cannot be read.
    """
    if not any((folder / name).exists() for name in _FILES):
        return None
    foreign.warm()
    quiet_transformers()
    # Imported here, because it takes a second or more.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    declared, whole = check_files(folder), folder / "tokenizer.json"
    size = foreign.check_tokenizer(whole) if whole.exists() else None
    # tokenizer.json is the whole tokenizer. AutoTokenizer may prefer the class of the
    # model type, which may split texts by other rules than the file.
    kind = AutoTokenizer if size is None else PreTrainedTokenizerFast
    with one_line_errors(f"{folder}: its tokenizer cannot be read"):
        tokenizer = kind.from_pretrained(str(folder), local_files_only=True)
    if size is not None:
        _check_special(tokenizer, size, declared, folder)
    return tokenizer


@contextlib.contextmanager
def one_line_errors(where: str) -> Iterator[None]:
    """Turn all errors of transformers and tokenizers, native panics too, into one line.

    Args:
        where: Start of the error.

    Yields:
        None.

    Raises:
        UserError: For every error inside.
    """
    try:
        with foreign.panics_are_errors():
            yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: {first_line(error)}") from error


def check_files(folder: Path) -> dict[str, int]:
    """Check the files beside `tokenizer.json`.

    Args:
        folder: The folder.

    Returns:
        Ids of the tokens that these files declare, by content.

    Raises:
        UserError: A file is not a regular one, is too large, or holds a value of the
            wrong type.
    """
    declared: dict[str, int] = {}
    for name in _TEXTS:
        if os.path.lexists(folder / name):
            read_regular(folder / name, _LARGEST_TEXT)
    for name in _LARGE:
        if os.path.lexists(folder / name):
            open_regular(folder / name, _LARGEST).close()
    for name in _TABLES:
        if not os.path.lexists(path := folder / name):
            continue
        found = read_json(path, _LARGEST_TEXT)
        if not isinstance(found, dict):
            raise UserError(f"{path}: does not hold a JSON object")
        for key in _SPECIAL:
            token = found.get(key)
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None and not isinstance(token, str):
                raise UserError(f"{path}: {key} = {repr(token)[:60]} must be a text")
        _check_template(found.get("chat_template"), path)
        declared |= _declared(found, name, path)
    return declared


def _check_template(template, path: Path) -> None:
    named = isinstance(template, list) and all(
        isinstance(t, dict)
        and isinstance(t.get("name"), str)
        and isinstance(t.get("template"), str)
        for t in template
    )
    if not (template is None or isinstance(template, str) or named):
        raise UserError(
            f"{path}: chat_template must be a text, or a list of objects with name and "
            "template"
        )


def _declared(found: dict, name: str, path: Path) -> dict[str, int]:
    if name == "added_tokens.json":
        pairs = list(found.items())
    else:
        table = found.get("added_tokens_decoder") or {}
        if not isinstance(table, dict) or not all(
            isinstance(t, dict) for t in table.values()
        ):
            raise UserError(f"{path}: added_tokens_decoder must hold objects by id")
        pairs = [
            (t.get("content"), int(i) if i.isdecimal() else i) for i, t in table.items()
        ]
    for token, i in pairs:
        if not isinstance(token, str) or type(i) is not int or not 0 <= i < 1 << 24:
            raise UserError(
                f"{path}: token {str(token)[:60]!r} has id {str(i)[:60]!r}, which is "
                "not an id"
            )
    return dict(pairs)


def _check_special(
    tokenizer, size: int, declared: dict[str, int], folder: Path
) -> None:
    """Refuse ids that transformers has changed, or made up for unknown tokens."""
    for token, i in declared.items():
        if (got := tokenizer.convert_tokens_to_ids(token)) != i:
            raise UserError(
                f"{folder}: token {token[:60]!r} should have id {i} and gets {got}"
            )
    for name in ("bos", "eos", "pad"):
        token, i = (
            getattr(tokenizer, f"{name}_token"),
            getattr(tokenizer, f"{name}_token_id"),
        )
        if token is not None and token not in declared and (i is None or i >= size):
            raise UserError(
                f"{folder}: its {name}_token {token[:60]!r} is not one of the {size} "
                "tokens"
            )


def write_tokenizer(folder: PathLike, tokenizer) -> None:
    """Write a tokenizer's files, which `load_tokenizer` and transformers read back.

    Args:
        folder: Path, also of a bucket.
        tokenizer: A transformers tokenizer.
    """
    with tempfile.TemporaryDirectory() as local:
        tokenizer.save_pretrained(local)
        for path in sorted(Path(local).iterdir()):
            write_whole(epath.Path(folder) / path.name, path.read_bytes())


def stop_ids(*given: object) -> tuple[int, ...]:
    """Sorted union of stop tokens.

    Args:
        *given: Ids, lists of ids, or None; -1 means none.

    Returns:
        Ids in ascending order.

    Raises:
        UserError: A value is not a whole number.
    """
    ids: set[int] = set()
    for one in given:
        for i in one if isinstance(one, list | tuple) else [one]:
            if i is None:
                continue
            if not isinstance(i, int) or isinstance(i, bool):
                raise UserError(
                    f"eos_token_id = {i!r} must be a whole number or a list of them"
                )
            ids |= {i} - {-1}
    return tuple(sorted(ids))
