"""Files of records: JSON lines, Parquet or CSV; what is wrong with one is said by its line and its field."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.errors import UserError


def read_records(path: str | epath.Path) -> Iterator[tuple[str, int, dict]]:
    """(`file:line`, number, record) of every record of a file that `config.task.path` names or the hub gave.

    Numbers arrive as they are written. Raises UserError for a file that cannot be read or holds nothing.
    """
    file = epath.Path(path)
    if file.suffix not in _READERS:
        raise UserError(f"config.task.path = {str(path)!r} must end in {', '.join(_READERS)}")
    try:
        records = list(_READERS[file.suffix](file))
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise UserError(f"config.task.path = {str(path)!r}: {why}") from error
    if not records:
        raise UserError(f"{path} is empty; it must have a question on every line")
    for number, record in records:
        yield f"{path}:{number}", number, record


def texts(where: str, record: dict, names: Sequence[str]) -> list[str]:
    """The fields `names` of a record, stripped; raises UserError for one that is missing, empty or no text."""
    return [_text(where, record, name, names) for name in names]


def _text(where: str, record: dict, name: str, names: Sequence[str]) -> str:
    value = record.get(name)
    # a table tool writes a missing number as NaN, which differs from itself
    if value is None or value != value:
        wanted = " and ".join(map(repr, names))
        raise UserError(f"{where}: field {name!r} is missing; every line needs {wanted}")
    if isinstance(value, (bool, dict, list)) or not str(value).strip():
        raise UserError(f"{where}: field {name!r} = {str(value)[:60]!r} must be a text or a number")
    return str(value).strip()


def _utf8(file: epath.Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from error


def _json_lines(file: epath.Path) -> Iterator[tuple[int, dict]]:
    # only \n ends a line: JSON texts may hold other separators as they are
    for number, line in enumerate(_utf8(file).split("\n"), 1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=str, parse_float=str)
        except ValueError as error:
            raise UserError(f"{where}: is not JSON ({error}); every line must be one object") from error
        if not isinstance(record, dict):
            raise UserError(f'{where}: is not a JSON object; write {{"question": ..., "answer": ...}}')
        yield number, record


def _parquet(file: epath.Path) -> Iterator[tuple[int, dict]]:
    try:
        with file.open("rb") as source:
            table = pq.read_table(source)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file} is no Parquet file") from error
    yield from enumerate(table.to_pylist(), 1)


def _comma_separated(file: epath.Path) -> Iterator[tuple[int, dict]]:
    # strict: an open quote is an error, not a field that swallows the rest of the file
    reader = csv.DictReader(io.StringIO(_utf8(file), newline=""), strict=True)
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: is not CSV ({error})") from error


_READERS = {".jsonl": _json_lines, ".parquet": _parquet, ".csv": _comma_separated}
