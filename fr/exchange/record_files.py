"""Files of records, read as a stream and checked: JSON lines, JSON lists, Parquet."""

import gzip
import io
import json
import lzma
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fr.errors import UserError, first_line
from fr.files import open_regular, parse_json, read_regular, utf8_text

MAX_FILE = 1 << 42  # bytes
MAX_LINE = 1 << 28  # bytes of a record
MAX_WHOLE = 1 << 30  # bytes of a file that is read at once
# Errors of libraries that unpack a damaged file.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    pa.ArrowException,
)
_BATCH = 64  # rows of a Parquet file that are Python objects at one time


def json_records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file with an object per line (`.jsonl`, `.jsonl.gz`) or a list (`.json`).

    Args:
        path: The file.

    Yields:
        (`file:line`, object) per record; in a list, the number of the object.

    Raises:
        UserError: The file cannot be read, is empty or is not such a file; the line
            is named.
    """
    if path.lower().endswith(".json"):
        yield from _listed(path)
        return
    count = 0
    with open_regular(path, MAX_FILE) as source:
        packed = path.lower().endswith(".gz")
        lines: Any = gzip.GzipFile(fileobj=source) if packed else source
        number = 0
        while line := _line(lines, path, number + 1):
            number += 1
            if line.strip():
                count += 1
                yield f"{path}:{number}", parsed(line, f"{path}:{number}")
    if not count:
        raise UserError(f"{path}: is empty; it must have an object on every line")


def _line(source: Any, path: str, number: int) -> bytes:
    try:
        line = source.readline(MAX_LINE + 1)
    except gzip.BadGzipFile as error:
        if number > 1:
            raise UserError(f"{path}:{number}: {first_line(error)}") from error
        raise UserError(f"{path}: is not a gzip file, and its name ends so") from error
    except DAMAGED as error:
        raise UserError(f"{path}:{number}: {first_line(error)}") from error
    if len(line) > MAX_LINE:
        raise UserError(
            f"{path}:{number}: is longer than {MAX_LINE} bytes; write a record per line"
        )
    return line


def _listed(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = parsed(whole(path), path, object)
    for count, record in enumerate(found if isinstance(found, list) else [found], 1):
        if not isinstance(record, dict):
            raise UserError(f"{path}: item {count} of its list is not an object")
        yield f"{path}:{count}", record
    if found == []:
        raise UserError(f"{path}: is an empty list")


def whole(path: str) -> bytes:
    """The bytes of a file that is read at once.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        UserError: It cannot be read or is too large.
    """
    return read_regular(path, MAX_WHOLE)


def parsed(data: bytes, where: str, kind: type = dict) -> Any:
    """The value of a JSON text; NaN and infinity are numbers here.

    Args:
        data: The text in UTF-8.
        where: `file:line`, for messages.
        kind: Type that the value must have.

    Returns:
        The value.

    Raises:
        UserError: It is not JSON, or a value of another type.
    """
    found = parse_json(utf8_text(data, where), where, parse_constant=float)
    if not isinstance(found, kind):
        raise UserError(f"{where}: is not a JSON object")
    return found


def parquet_records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a Parquet file.

    Args:
        path: The file.

    Yields:
        (`file:row`, row) per row, the first being 1.

    Raises:
        UserError: The file cannot be read, has no row, or a name twice.
    """
    count = 0
    with open_regular(path, MAX_FILE) as source:
        try:
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            if twice := next((n for n in names if names.count(n) > 1), None):
                raise UserError(f"{path}: two columns are called {twice!r}; rename one")
            for batch in file.iter_batches(_BATCH, use_threads=False):
                for row in batch.to_pylist():
                    count += 1
                    yield f"{path}:{count}", row
        except DAMAGED as error:
            raise UserError(
                f"{path}: is not a Parquet file, or is damaged "
                f"({first_line(error)[:100]})"
            ) from error
    if not count:
        raise UserError(f"{path}: has no rows")


def write_line(file: io.BufferedIOBase | Any, record: dict[str, Any]) -> None:
    """Write an object on a line of its own.

    Args:
        file: Open for writing in binary.
        record: The object.
    """
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    file.write(text.encode("utf-8", "surrogatepass") + b"\n")


def size(path: str | os.PathLike) -> int:
    """Bytes of a file.

    Args:
        path: The file.

    Returns:
        Their number.
    """
    with open_regular(path, MAX_FILE) as source:
        return source.seek(0, io.SEEK_END)
