"""The header of a safetensors file, checked before it is used, and our checksum."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from fr.errors import UserError
from fr.files import open_regular, parse_json

_LARGEST = 1 << 25  # bytes of a header; 100,000 tensors need 10 MB
_ANY_SIZE = 1 << 62
_KINDS = {
    64: "F64 I64 U64 C64",
    32: "F32 I32 U32",
    16: "F16 BF16 I16 U16",
    8: "BOOL I8 U8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
    6: "F6_E2M3 F6_E3M2",
    4: "F4",
}
_BITS = {kind: bits for bits, kinds in _KINDS.items() for kind in kinds.split()}
# Key in the metadata: SHA-256 of the whole file with zeros in place of these digits.
_SEAL = "fr_sha256"
_BLANK = "0" * 64


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor of a file; its checksum is checked if it has one.

    Args:
        path: Path of the file.

    Returns:
        (type, shape) by name.

    Raises:
        UserError: The file is not a regular one, its header is not JSON or longer than
            the file, or tensors have an unknown type, overlap, leave gaps or do not fit
            their shape.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path} is missing")
    broken = f"{path} is not a whole safetensors file"
    with open_regular(path, _ANY_SIZE, str(path)) as file:
        size = os.fstat(file.fileno()).st_size
        text = _header(file, size, broken)
        entries = parse_json(text.decode(), broken)
        if not isinstance(entries, dict):
            raise UserError(f"{broken}: its header is not an object")
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(
            isinstance(v, str) for v in metadata.values()
        ):
            raise UserError(f"{broken}: its __metadata__ must hold texts")
        found, spans = {}, []
        for name, entry in entries.items():
            kind, shape, span = _entry(entry, f"{broken}: tensor {name}")
            found[name] = kind, shape
            spans.append((*span, name))
        _check_spans(sorted(spans), size - 8 - len(text), broken)
        if _SEAL in metadata:
            _check_seal(file, text, metadata[_SEAL], path)
    return found


def write_sealed(
    file: BinaryIO, header: dict, pieces: Callable[[], Iterable[bytes]]
) -> None:
    """Write a file of tensors with its checksum.

    Args:
        file: The open file.
        header: Entries of the tensors by name.
        pieces: Gives the contents; called twice if `file` cannot be rewound.
    """
    text = _layout(header, _BLANK)
    digest = hashlib.sha256(_length(text) + text)
    if not file.seekable():
        for piece in pieces():
            digest.update(piece)
        text = _layout(header, digest.hexdigest())
    file.write(_length(text) + text)
    for piece in pieces():
        digest.update(piece)
        file.write(piece)
    if file.seekable():
        file.seek(0)
        text = _layout(header, digest.hexdigest())
        file.write(_length(text) + text)


def _layout(header: dict, digest: str) -> bytes:
    text = json.dumps(
        {"__metadata__": {"format": "pt", _SEAL: digest}} | header
    ).encode()
    return text + b" " * (-len(text) % 8)


def _length(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little")


def _header(file: BinaryIO, size: int, broken: str) -> bytes:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise UserError(
            f"{broken}: it has {size} bytes, and its header would have {length}"
        )
    if length > _LARGEST:
        raise UserError(
            f"{broken}: its header has {length} bytes; at most {_LARGEST} are read"
        )
    text = file.read(length)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{broken}: its header is not UTF-8 text (byte {error.start})"
        ) from error
    return text


def _entry(entry, what: str) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise UserError(
            f"{what} must have dtype, shape and data_offsets, and no other key"
        )
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _BITS:
        raise UserError(f"{what} has an unknown type {str(kind)[:60]!r}")
    for given, count in ((shape, None), (offsets, 2)):
        whole = isinstance(given, list) and all(
            type(n) is int and 0 <= n < 1 << 60 for n in given
        )
        if not whole or count not in (None, len(given)) or len(given) > 32:
            raise UserError(
                f"{what} has a shape or offsets that are not a list of sizes"
            )
    bits, (start, end) = _BITS[kind] * math.prod(shape), offsets
    if bits != 8 * (end - start):
        raise UserError(
            f"{what} has {end - start} bytes, and its shape and type want "
            f"{bits / 8:.16g}"
        )
    return kind, tuple(shape), (start, end)


def _check_spans(spans: list[tuple[int, int, str]], size: int, broken: str) -> None:
    """Check that spans (start, end, name) fill `size` bytes without gaps."""
    at = 0
    for start, end, name in spans:
        if start != at:
            how = "overlaps another" if start < at else "leaves a gap before it"
            raise UserError(f"{broken}: tensor {name} {how}")
        at = end
    if at != size:
        raise UserError(f"{broken}: its tensors have {at} bytes, and there are {size}")


def _check_seal(file: BinaryIO, text: bytes, seal: str, path: Path) -> None:
    """Compare the file with its checksum; the position is after the header."""
    digest = hashlib.sha256(
        _length(text) + text.replace(seal.encode(), _BLANK.encode(), 1)
    )
    while piece := file.read(1 << 22):
        digest.update(piece)
    if digest.hexdigest() != seal:
        raise UserError(
            f"{path} is damaged: its contents do not have its checksum ({_SEAL} in its "
            "metadata)"
        )
