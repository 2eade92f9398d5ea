"""Files of records: JSON lines, Parquet or CSV.

Errors name the line and the field. Files are read as a stream and every length is
bounded, so that no file costs much more memory than the texts that are taken from it.
"""

import csv
import decimal
import io
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from fr.errors import UserError, first_line
from fr.files import open_regular, parse_json

MAX_FILE = 4 << 30  # bytes
MAX_LINE = 8 << 20  # bytes of a line of JSON or CSV
MAX_TEXT = 1_000_000  # characters of a field: above what any model reads
MAX_RECORDS = 10_000_000
# Characters of the used fields per byte of the file: compression gives no more, ...
_EXPANSION = 20
_SMALL = 16 << 20  # ... unless there are fewer characters than this
_BATCH = 256  # rows of a Parquet file that are Python objects at one time
# A field that is not used may hold NaN.
_AS_WRITTEN = {"parse_int": str, "parse_float": str, "parse_constant": float}

Record = dict[str, object]


def read_records(
    path: str | epath.Path, wanted: Sequence[str], setting: str = "config.task.path"
) -> Iterator[tuple[str, int, Record]]:
    """Read the records of a file of questions or of examples.

    Numbers become texts: as written in JSON and CSV, and for Parquet as the shortest
    decimal that gives the same number of the column's type.

    Args:
        path: A file that ends in .jsonl, .parquet or .csv.
        wanted: Fields to read; the first two must be there, other ones may be missing
            from the records.
        setting: Name of the setting that holds the path, for messages.

    Yields:
        (`file:line`, line number, record) per record.

    Raises:
        UserError: The file cannot be read or is empty; the line is named.
    """
    file, name = epath.Path(path), f"{setting} = {str(path)!r}"
    if file.suffix.lower() not in _READERS:
        raise UserError(f"{name} must end in {', '.join(_READERS)}")
    number, total = 0, 0
    with open_regular(path, MAX_FILE, name) as source:
        most = max(_SMALL, _EXPANSION * source.seek(0, io.SEEK_END))
        source.seek(0)
        reader = _READERS[file.suffix.lower()](source, str(path), wanted)
        for count, (number, record) in enumerate(reader, 1):
            used = (record.get(field) for field in wanted)
            total += sum(len(value) for value in used if isinstance(value, str))
            if count > MAX_RECORDS or total > most:
                raise UserError(
                    f"{path}:{number}: at most {MAX_RECORDS} records with {most} "
                    "characters are read from a file of its size; split it"
                )
            yield f"{path}:{number}", number, record
    if not number:
        raise UserError(f"{path} is empty; it must have a {wanted[0]} on every line")


def text_fields(where: str, record: Record, names: Sequence[str]) -> list[str]:
    """Texts of some fields of a record.

    A field that is missing, empty, too long, not a text or not valid in UTF-8 raises
    UserError.

    Args:
        where: `file:line`, for messages.
        record: The record.
        names: Names of the fields.

    Returns:
        One text per name, without spaces around it.
    """
    return [_text(where, record, name, names) for name in names]


def check_id(where: str, name: str) -> str:
    """Check that tables and file names can hold an id.

    Args:
        where: `file:line`, for messages.
        name: The id.

    Returns:
        The id.

    Raises:
        UserError: The id is empty, above 300 characters or not a single line.
    """
    bad = next(
        (c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), ""
    )
    if bad or not 0 < len(name) <= 300:
        what = f"holds {bad!r}" if bad else f"has {len(name)} characters"
        raise UserError(
            f"{where}: id {name[:60]!r} {what}; an id is one line of 1 to 300 "
            "characters"
        )
    return name


def _text(where: str, record: Record, name: str, names: Sequence[str]) -> str:
    value = record.get(name)
    if value is None:
        wanted = " and ".join(map(repr, names))
        here = ", ".join(map(repr, list(record)[:8])) or "none"
        raise UserError(
            f"{where}: field {name!r} is missing; every line needs {wanted} "
            f"(it has: {here[:200]})"
        )
    if isinstance(value, float):
        raise UserError(f"{where}: field {name!r} = {value} is not a finite number")
    if not isinstance(value, str) or not _visible(value):
        raise UserError(
            f"{where}: field {name!r} = {str(value)[:60]!r} must be a text or a number"
        )
    if len(value) > MAX_TEXT:
        raise UserError(
            f"{where}: field {name!r} has {len(value)} characters; at most {MAX_TEXT} "
            "are read"
        )
    if "\0" in value:
        raise UserError(f"{where}: field {name!r} holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ascii(value[error.start])
        raise UserError(
            f"{where}: field {name!r} holds half a character ({half}); write the "
            "whole one or remove it"
        ) from error
    return value.strip()


def _visible(text: str) -> bool:
    return any(
        unicodedata.category(c)[0] not in "ZC" or c in "\0" or "\ud800" <= c < "\ue000"
        for c in text
    )


def _lines(source, path: str) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines of a UTF-8 file with their ends, which are \\n."""
    number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise UserError(
                f"{path}:{number}: is longer than {MAX_LINE} bytes; give a record a "
                "line of its own"
            )
        if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{path} is UTF-16, not UTF-8 text; save it as UTF-8")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not UTF-8 text (line {number}, byte {error.start + 1}); "
                "save it as UTF-8"
            ) from error
        if "\0" in text:
            raise UserError(
                f"{path}:{number}: holds a NUL character; save the file as UTF-8 text"
            )
        yield number, text


def _json_lines(
    source, path: str, wanted: Sequence[str]
) -> Iterator[tuple[int, Record]]:
    for number, line in _lines(source, path):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            record = parse_json(line.strip(), where, **_AS_WRITTEN)
        except UserError as error:
            if "is not JSON" not in str(error):
                raise
            raise UserError(f"{error}; every line must be one object") from error
        if not isinstance(record, dict):
            form = ", ".join(f'"{name}": ...' for name in wanted[:2])
            raise UserError(f"{where}: is not a JSON object; write {{{form}}}")
        yield number, record


def _comma_separated(
    source, path: str, wanted: Sequence[str]
) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(MAX_TEXT)
    # strict: an open quote is an error, not a field that swallows the rest of the file
    reader = csv.reader((text for _, text in _lines(source, path)), strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := next((name for name in wanted if header.count(name) > 1), None):
            raise UserError(f"{path}:1: two columns are called {twice!r}; rename one")
        line = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise UserError(
                    f"{path}:{line}: has {len(fields)} fields, the header has "
                    f"{len(header)}; a text with a comma in it must stand in double "
                    'quotes: "a, b"'
                )
            if fields:
                # tools write a missing value as an empty field
                yield line, {n: v if v != "" else None for n, v in zip(header, fields)}
            # a record of several lines is named by its first
            line = reader.line_num + 1
    except csv.Error as error:
        why = first_line(error)
        if "new-line" in why:
            why = "a carriage return stands alone; end lines with \\n"
        raise UserError(f"{path}:{line}: is not CSV ({why})") from error


def _parquet(source, path: str, wanted: Sequence[str]) -> Iterator[tuple[int, Record]]:
    try:
        schema = pq.read_schema(source)
        for name in wanted:
            if schema.names.count(name) > 1:
                raise UserError(f"{path}: two columns are called {name!r}; rename one")
            if name in schema.names and not _readable(schema.field(name).type):
                raise UserError(
                    f"{path}: column {name!r} is of type "
                    f"{str(schema.field(name).type)[:60]}; it must hold texts or "
                    "numbers"
                )
        here = [name for name in wanted if name in schema.names]
        if not here:
            names = ", ".join(map(repr, schema.names[:8]))
            raise UserError(
                f"{path}: has no column {wanted[0]!r}; it has: {names[:200]}"
            )
        # A text that many rows share is kept once until its row is read.
        shared = [name for name in here if _is_text(schema.field(name).type)]
        file, number = pq.ParquetFile(source, read_dictionary=shared), 0
        for batch in file.iter_batches(_BATCH, columns=here, use_threads=False):
            columns = [_values(path, number, name, batch.column(name)) for name in here]
            for values in zip(*columns):
                number += 1
                yield number, dict(zip(here, values))
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        raise UserError(
            f"{path} is not a Parquet file, or is damaged ({first_line(error)[:100]})"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _readable(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    asked = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    return any(is_kind(kind) for is_kind in asked)


def _values(
    path: str, before: int, name: str, column: pa.Array
) -> Iterator[str | None]:
    """The values of a column as texts; `before`: number of earlier rows of the file."""
    kind = column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    single: type | None = np.float32 if pa.types.is_float32(kind) else None
    single = np.float16 if pa.types.is_float16(kind) else single
    for number, cell in enumerate(column, before + 1):
        try:
            value = cell.as_py()
            value = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}:{number}: column {name!r} holds bytes that are not UTF-8 "
                "text; write it as text"
            ) from error
        yield _number(value, single, f"{path}:{number}", name)


def _number(value, single: type | None, where: str, name: str) -> str | None:
    """A cell as text, numbers as the shortest decimal; None for a missing value."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, int):
        return str(value)
    # tools write a missing number as NaN
    if np.isnan(value):
        return None
    if np.isinf(value):
        raise UserError(f"{where}: field {name!r} = {value} is not a finite number")
    exact = value if single is None else single(value)
    if 1e-7 < abs(value) < 1e21 or value == 0:
        return np.format_float_positional(exact, trim="-")
    return str(exact)


_READERS = {".jsonl": _json_lines, ".parquet": _parquet, ".csv": _comma_separated}
