"""Reading of others' files: regular files of a bounded size, strict JSON, numbers."""

import errno
import io
import json
import math
import os
import re
import stat
import typing
from typing import BinaryIO

from etils import epath

from fr.buckets import is_local
from fr.errors import UserError, first_line

_PIECE = 1 << 20  # bytes of one read
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
# What a file is by its first bytes, where text is wanted.
_FIRST_BYTES = {
    b"\x1f\x8b": "a gzip file",
    b"PAR1\x15": "a Parquet file",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xfd7zXZ\0": "an xz file",
    b"BZh91AY&SY": "a bzip2 file",
    b"ARROW1\0": "an Arrow file",
    b"SQLite format 3\0": "an SQLite file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half a pair, or a whole pair
_DIGITS = 308  # of a whole number that is a float64 for certain
_LONG_FIELD = re.compile(rf'"([^"\\]{{1,60}})"\s*:[\s\[]*-?\d{{{_DIGITS + 1},}}')
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def open_regular(path: str | os.PathLike, limit: int, name: str = "") -> BinaryIO:
    """Open a regular file of a bounded size for reading in binary.

    A pipe or a device is refused without waiting for it. Bucket paths work too. To read
    at most `limit` bytes of a file that grows, or of one under /proc whose size is
    given as 0, use `read_regular`.

    Args:
      path: of the file.
      limit: bytes.
      name: the file's name in an error; the path unless given.

    Returns:
      The open file.

    Raises:
      UserError: the path is not such a file.
    """
    name = name or os.fspath(path)
    try:
        if not is_local(path):
            return _open_remote(epath.Path(path), limit, name)
        # O_NONBLOCK: opening a pipe without a writer would wait for one.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {_reason(error)}") from error
    try:
        found = os.fstat(descriptor)
        kind = stat.S_IFMT(found.st_mode)
        if kind != stat.S_IFREG:
            raise UserError(
                f"{name}: is {_KINDS.get(kind, 'special')}; give a regular file"
            )
        _check_size(found.st_size, limit, name)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike, limit: int, name: str = "") -> bytes:
    """The bytes of a regular file.

    Args:
      path: of the file.
      limit: most bytes.
      name: the file's name in an error; the path unless given.

    Returns:
      Its content.

    Raises:
      UserError: the path is not a regular file of at most `limit` bytes.
    """
    name = name or os.fspath(path)
    with open_regular(path, limit, name) as file:
        try:
            # In pieces, because `read(n)` allocates n bytes before reading.
            pieces, size = [], 0
            while size <= limit and (piece := file.read(_PIECE)):
                pieces.append(piece)
                size += len(piece)
        except OSError as error:
            raise UserError(f"{name}: {_reason(error)}") from error
    _check_size(size, limit, name)
    return b"".join(pieces)


def read_json(path: str | os.PathLike, limit: int, name: str = ""):
    """The value of a JSON file, read strictly (see `parse_json`).

    Args:
      path: of the file.
      limit: most bytes.
      name: the file's name in an error; the path unless given.

    Returns:
      The value.

    Raises:
      UserError: the file cannot be read or is not strict JSON.
    """
    name = name or os.fspath(path)
    return parse_json(utf8_text(read_regular(path, limit, name), name), name)


def utf8_text(data: bytes, where: str) -> str:
    """The text of UTF-8 bytes, which may begin with a byte order mark.

    Args:
      data: content of a file, or a line of it.
      where: begins the error line.

    Returns:
      The text.

    Raises:
      UserError: it is not UTF-8 text; the line says what the first bytes are.
    """
    for first, kind in _FIRST_BYTES.items():
        if data.startswith(first):
            raise UserError(f"{where}: is {kind} by its first bytes, not UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 text (byte {error.start})") from error


def check_commas(header: str, where: str) -> None:
    """Refuse a table whose columns are not separated by commas.

    Args:
      header: its first line.
      where: begins the error line.

    Raises:
      UserError: another separator is more frequent.
    """
    for separator, name in _SEPARATORS.items():
        if header.count(separator) > header.count(","):
            raise UserError(
                f"{where}: its columns are separated by {name}; save it with commas"
            )


def parse_json(text: str, where: str, **numbers):
    """The value of a JSON text.

    Args:
      text: the text.
      where: begins the error line.
      **numbers: `parse_int`, `parse_float` or `parse_constant` of `json.loads`.

    Returns:
      The value.

    Raises:
      UserError: the text is not JSON, is nested too deeply, holds NaN or infinity, half
        a character (a lone surrogate) or a whole number beyond float64, or has a name
        twice in an object.
    """
    try:
        hooks = {
            "parse_constant": _no_constant,
            "parse_int": _within_float,
            "object_pairs_hook": _once_each,
            **numbers,
        }
        found = json.loads(text, **hooks)
        if _ESCAPED_HALF.search(text):
            _check_whole(found, where)
        return found
    except RecursionError as error:
        raise UserError(f"{where}: its JSON is nested too deeply") from error
    except ValueError as error:
        held = _LONG_FIELD.search(text) if isinstance(error, _TooLarge) else None
        field = f"field {held[1]!r}: " if held else ""
        why = f"{field}{first_line(error)}"
        raise UserError(f"{where}: is not JSON ({why})") from error


def _open_remote(path: epath.Path, limit: int, name: str) -> BinaryIO:
    if path.is_dir():
        raise UserError(f"{name}: is a folder; give a file")
    _check_size(path.stat().length, limit, name)
    # The library's own file reads no line of a bounded length.
    return io.BufferedReader(typing.cast(io.RawIOBase, path.open("rb")), _PIECE)


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise UserError(f"{name}: has {size} bytes or more; at most {limit} are read")


def _reason(error: OSError | ValueError) -> str:
    if getattr(error, "errno", None) == errno.ENXIO:
        return "is a socket or a device; give a regular file"
    if isinstance(error, FileNotFoundError):
        return os.strerror(errno.ENOENT)
    return getattr(error, "strerror", None) or first_line(error)


def _no_constant(text: str):
    raise ValueError(f"{text} is not a JSON number")


class _TooLarge(ValueError):
    """A whole number beyond float64."""


def _within_float(text: str) -> int:
    if len(text) > _DIGITS:
        digits = len(text.lstrip("-"))
        if digits > _DIGITS + 1 or math.isinf(float(text)):
            raise _TooLarge(f"a whole number of {digits} digits is too large")
    return int(text)


def _check_whole(found, where: str) -> None:
    """Refuse half a character, which no file can hold; names the field of an object."""
    parts = found.items() if isinstance(found, dict) else [("", found)]
    for name, value in parts:
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            field = f"field {name[:60]!r} " * isinstance(found, dict)
            raise UserError(
                f"{where}: {field}holds half a character ({half}); write the whole one "
                "or remove it"
            ) from error


def _once_each(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"{twice[:60]!r} occurs twice in an object")
    return found


def parse_number(text: str, where: str) -> float:
    """Read a field of a table.

    Args:
      text: of the field.
      where: file and column, for the error.

    Returns:
      The number.

    Raises:
      UserError: it is not a finite number.
    """
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise UserError(f"{where}: {text!r} is not finite")
    return value


_GAPS = ("", "na", "n/a", "null", "none")  # of the tables of R, pandas, SQL and Python
_BOOLEANS = {"true": 1.0, "false": 0.0}


def parse_signal(text: str, where: str) -> float:
    """Read a field of a signal, which a row may lack.

    Args:
      text: of the field; true and false are 1 and 0, in any case.
      where: file and column, for the error.

    Returns:
      The number; NaN for a gap: an empty field, NA, N/A, null, None, nan, an infinity.

    Raises:
      UserError: it is neither a number nor a gap.
    """
    word = text.strip().lower()
    if word in _GAPS:
        return math.nan
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    try:
        value = float(word)
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None
    return value if math.isfinite(value) else math.nan
