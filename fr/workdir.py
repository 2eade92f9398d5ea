"""Files of a run, each written whole or not at all; buckets work too (etils.epath)."""

import contextlib
import hashlib
import json
import os
import tempfile
import typing
from collections.abc import Collection, Iterator
from pathlib import Path

from etils import epath

from fr import buckets
from fr.buckets import is_local
from fr.errors import UserError, cannot_write
from fr.files import read_json

PathLike: typing.TypeAlias = str | epath.Path
_LARGEST = 1 << 28  # bytes of a JSON file of a run


def cache_folder() -> Path:
    """The folder for what all runs share.

    Returns:
      `$FR_CACHE`, or `~/.cache/fr`.
    """
    return Path(os.environ.get("FR_CACHE") or Path.home() / ".cache" / "fr")


def write_whole(path: PathLike, data: bytes, mark: str = "") -> None:
    """Write a file under a temporary name, flush it, then rename it.

    Readers see the old file or the new one; an object of a bucket is written at once.
    The temporary name is a function of `path`, so a killed run's file is replaced by
    the next write.

    Args:
      path: of the file; its folder is made.
      data: the content.
      mark: of the temporary name, different in processes that may write at a time.

    Raises:
      UserError: the disk is full or cannot be written; the temporary file is removed.
    """
    if is_local(path):
        with replacing(path, mark) as file:
            file.write(data)
        return
    try:
        buckets.write(path, data)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def replacing(path: PathLike, mark: str = "") -> Iterator[typing.BinaryIO]:
    """A file that takes the place of `path` when the block ends without an error.

    A bucket's file is on the local disk until then.

    Args:
      path: of the file; its folder is made.
      mark: of the temporary name.

    Yields:
      The open file.

    Raises:
      UserError: the disk is full or cannot be written; the temporary file is removed.
    """
    path = epath.Path(path)
    if not is_local(path):
        try:
            with tempfile.NamedTemporaryFile() as file:
                yield typing.cast(typing.BinaryIO, file)
                file.flush()
                buckets.upload(path, file.name)
        except OSError as error:
            raise cannot_write(path, error) from error
        return
    temporary = temporary_path(path, mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield typing.cast(typing.BinaryIO, file)
            sync(file)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def temporary_path(path: PathLike, mark: str = "") -> epath.Path:
    """The name that a local file has while it is written.

    Args:
      path: of the file.
      mark: of the name.

    Returns:
      Its path, beside the file.
    """
    path = epath.Path(path)
    return path.parent / f".{path.name}{mark}.tmp"


def sync(file) -> None:
    """Flush an open file to the disk; a bucket's file is only flushed.

    Args:
      file: open for writing.
    """
    file.flush()
    with contextlib.suppress(AttributeError, ValueError, OSError):
        number = file.fileno()
        os.fsync(number)


def _sync_folder(folder: epath.Path) -> None:
    """Flush a folder's list of names; a power cut may lose a rename without it."""
    if not is_local(folder):
        return
    # Some network file systems cannot flush a folder; the rename itself is done.
    with contextlib.suppress(OSError):
        number = os.open(os.fspath(folder), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def absolute(path: PathLike) -> epath.Path:
    """The path from the root; a URL is one already.

    Args:
      path: a path or URL.

    Returns:
      The path.
    """
    return epath.Path(path).resolve() if is_local(path) else epath.Path(path)


def write_json(path: PathLike, value) -> None:
    """Write strict, sorted, indented JSON, whole or not at all.

    Args:
      path: of the file.
      value: JSON-able; numpy scalars and arrays too.
    """
    write_whole(path, to_json(value).encode())


def to_json(value) -> str:
    """JSON text with a fixed layout.

    Args:
      value: JSON-able; numpy scalars and arrays too.

    Returns:
      The text with a final line end.

    Raises:
      ValueError: a number is NaN or infinite (write None).
    """
    text = json.dumps(
        value,
        indent=2,
        sort_keys=True,
        allow_nan=False,
        ensure_ascii=False,
        default=_plain,
    )
    return f"{text}\n"


def _plain(value):
    # numpy scalars and arrays have it.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def claim_workdir(
    workdir: PathLike,
    config: dict,
    usual: dict | None = None,
    unread: Collection[str] = (),
) -> None:
    """Make a folder this run's own by its `config.json`.

    A second call with the same config changes nothing. With several processes the first
    one must call before the others.

    Args:
      workdir: the folder.
      config: a plain dict.
      usual: values of settings that an older folder does not hold.
      unread: groups of settings that may change.

    Raises:
      UserError: the folder holds another run's config, or cannot be written.
    """
    path = epath.Path(workdir) / "config.json"
    config = json.loads(to_json(config))
    try:
        there = path.exists()
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be used ({error.strerror or error})"
        ) from error
    if there and _compare(path, config, json.loads(to_json(usual or {})), unread):
        return
    write_json(path, config)


def _compare(
    path: epath.Path, config: dict, usual: dict, unread: Collection[str]
) -> bool:
    """True if the file holds this config; raises UserError for another run's config."""
    try:
        found = read_json(path, _LARGEST)
    except UserError as error:
        raise UserError(f"{error}; use another --workdir") from error
    read = lambda c: (
        {k: v for k, v in c.items() if k not in unread} if isinstance(c, dict) else c
    )
    difference = _first_difference(read(_filled(found, usual)), read(config), "config")
    if difference:
        name, there, here = difference
        raise UserError(
            f"{path.parent} holds another run: {name} is {there} there and {here} "
            "here; "
            "use another --workdir"
        )
    return found == config


def _filled(found, usual):
    """`found`, completed by `usual` within the groups of both."""
    if not (isinstance(found, dict) and isinstance(usual, dict)):
        return found
    return usual | {
        name: _filled(value, usual.get(name)) for name, value in found.items()
    }


def _first_difference(there, here, name: str) -> tuple[str, str, str] | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}"
            if key not in there or key not in here:
                return inner, _shown(there, key), _shown(here, key)
            if difference := _first_difference(there[key], here[key], inner):
                return difference
        return None
    if there != here:
        return name, json.dumps(there), json.dumps(here)
    return None


def _shown(group: dict, key: str) -> str:
    return json.dumps(group[key]) if key in group else "absent"


def read_object(path: PathLike) -> dict:
    """The object of a JSON file of a run.

    Args:
      path: of the file.

    Returns:
      A dict.

    Raises:
      UserError: the file is damaged.
    """
    found = read_json(path, _LARGEST)
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: is not a JSON object; remove it, or use another --workdir"
        )
    return found


def seal(path: PathLike, version: int, content: dict) -> None:
    """Write a JSON object with its version and a checksum over all of it.

    Args:
      path: of the file.
      version: of the file's form.
      content: JSON-able.
    """
    held = {"version": version, **json.loads(to_json(content))}
    write_json(path, held | {"checksum": _checksum(held)})


def unseal(path: PathLike, version: int, remedy: str = "use another --workdir") -> dict:
    """Read a file that `seal` wrote.

    Args:
      path: of the file.
      version: of the form that the caller reads.
      remedy: ends the error line.

    Returns:
      The content.

    Raises:
      UserError: the file has another version, or a changed, lost or added byte.
    """
    found = read_object(path)
    given = found.pop("checksum", None)
    if given != _checksum(found):
        raise UserError(
            f"{path}: is damaged (its checksum does not fit its content); {remedy}"
        )
    if found.pop("version", None) != version:
        raise UserError(f"{path}: is of another version of this code; {remedy}")
    # Equal values have several JSON texts; only the text that `to_json` makes is whole.
    if read_text(path) != to_json({**found, "version": version, "checksum": given}):
        raise UserError(f"{path}: is damaged (its layout has changed); {remedy}")
    return found


def read_text(path: PathLike) -> str:
    """The text of a small file that `read_object` has accepted.

    Args:
      path: of the file.

    Returns:
      Its text.
    """
    return epath.Path(path).read_bytes().decode("utf-8-sig")


def _checksum(content: dict) -> str:
    # surrogatepass, because a damaged file may hold half of a surrogate pair.
    return hashlib.sha256(to_json(content).encode("utf-8", "surrogatepass")).hexdigest()
