"""The layout of GGUF files; counts, lengths and offsets are checked against the file.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
little-endian.
"""

import dataclasses
import math
import mmap
import os
import struct
from pathlib import Path

import gguf
import numpy as np

from fr.errors import UserError
from fr.files import open_regular

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_BOOL, _TEXT, _ARRAY = 7, 8, 9
# Values of an array: the largest vocabulary has 262,144 tokens and 580,000 merges.
_MOST_VALUES = 1 << 21
_MOST_KEYS, _MOST_TENSORS = 1 << 16, 1 << 20
_MOST_AXES = 4
_ALIGNMENT = "general.alignment"
_PLAIN = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GGUFTensor:
    """A tensor of a file, mapped and not read.

    Attributes:
        shape: Sizes of its axes, slowest first as in numpy.
        tensor_type: Type of its values.
        data: Numbers, or rows of bytes of quantised values.
    """

    shape: tuple[int, ...]
    tensor_type: gguf.GGMLQuantizationType
    data: np.ndarray


def read_gguf(path: Path) -> tuple[dict[str, object], dict[str, GGUFTensor]]:
    """Metadata and tensors of one file.

    Nothing is allocated by a size that the file claims.

    Args:
        path: Path of the file.

    Returns:
        Metadata (numbers, booleans, texts, lists) by key, and tensors by name.

    Raises:
        UserError: The file is not a regular one, is cut, of another version, or
            contradicts itself.
    """
    broken = f"{path} is not a whole GGUF file"
    if not os.path.lexists(path):
        raise UserError(f"{path} is missing")
    with open_regular(path, 1 << 62, str(path)) as file:
        if not os.fstat(file.fileno()).st_size:
            raise UserError(f"{broken}: it is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(data, broken)
    tensor_count, key_count = _begin(cursor)
    values = {}
    for _ in range(key_count):
        key = cursor.text("the name of a key")
        if key in values:
            raise UserError(f"{broken}: the key {key} is there twice")
        values[key] = cursor.value(key)
    described = [_describe(cursor) for _ in range(tensor_count)]
    alignment = values.get(_ALIGNMENT, 32)
    if (
        type(alignment) is not int
        or not 0 < alignment <= 1 << 20
        or alignment & (alignment - 1)
    ):
        raise UserError(f"{broken}: {_ALIGNMENT} must be a power of two up to 2^20")
    start = _aligned(cursor.at, alignment)
    tensors, at = {}, 0
    for name, shape, kind, offset in sorted(described, key=lambda found: found[3]):
        if name in tensors:
            raise UserError(f"{broken}: the tensor {name} is there twice")
        if offset != at:
            raise UserError(
                f"{broken}: tensor {name} begins at byte {offset} of the tensors, not "
                f"at {at}"
            )
        tensors[name] = _tensor(
            data, shape, kind, start + offset, f"{broken}: tensor {name}"
        )
        at = _aligned(offset + tensors[name].data.nbytes, alignment)
    if len(data) > max(start + at, cursor.at + alignment):
        raise UserError(
            f"{broken}: its tensors end at byte {start + at}, and the file has "
            f"{len(data)}"
        )
    return values, tensors


def _begin(cursor: "_Cursor") -> tuple[int, int]:
    """Numbers of tensors and of keys."""
    if cursor.take(4) != b"GGUF":
        raise UserError(f"{cursor.broken}: it does not begin with GGUF")
    version = cursor.count("<I")
    if version not in (2, 3):
        order = ": of the other byte order" if not version & 0xFFFF else ""
        raise UserError(f"{cursor.broken}: version {version} is not 2 or 3{order}")
    tensors, keys = cursor.count(), cursor.count()
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
        raise UserError(
            f"{cursor.broken}: it says that it has {tensors} tensors and {keys} keys"
        )
    return tensors, keys


def _describe(
    cursor: "_Cursor",
) -> tuple[str, tuple[int, ...], gguf.GGMLQuantizationType, int]:
    name = cursor.text("the name of a tensor")
    axes = cursor.count("<I")
    if not 1 <= axes <= _MOST_AXES:
        raise UserError(f"{cursor.broken}: tensor {name} has {axes} axes")
    shape = tuple(cursor.count() for _ in range(axes))[::-1]
    kind, offset = cursor.count("<I"), cursor.count()
    try:
        return name, shape, gguf.GGMLQuantizationType(kind), offset
    except ValueError as error:
        raise UserError(
            f"{cursor.broken}: tensor {name} has an unknown type {kind}"
        ) from error


def _tensor(
    data: mmap.mmap, shape: tuple[int, ...], kind, start: int, what: str
) -> GGUFTensor:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block or not all(shape):
        raise UserError(
            f"{what} has rows of {shape[-1]} values, which {kind.name} does not store"
        )
    wanted = math.prod(shape) // block * size
    if start + wanted > len(data):
        raise UserError(
            f"{what} ends at byte {start + wanted}, and the file has {len(data)}"
        )
    plain = _PLAIN.get(kind.name)
    count = wanted // (np.dtype(plain).itemsize if plain else 1)
    values = np.frombuffer(data, plain or np.uint8, count, start)
    stored = shape if plain else (*shape[:-1], shape[-1] // block * size)
    return GGUFTensor(shape, kind, values.reshape(stored))


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment


class _Cursor:
    """A position in a file; no read goes beyond the file's end."""

    def __init__(self, data: mmap.mmap, broken: str):
        self.data, self.size, self.at, self.broken = data, len(data), 0, broken

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._need(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int | float:
        """The next number, of a type code of `struct`."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def count(self, code: str = "<Q") -> int:
        """The next unsigned integer."""
        return int(self.number(code))

    def text(self, what: str) -> str:
        """The next text, by its length."""
        length = self.count()
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.broken}: {what} is not UTF-8 text") from error

    def value(self, key: str):
        """The next value of a key, by its type."""
        kind = self.count("<I")
        if kind != _ARRAY:
            return self._one(kind, key)
        kind, count = self.count("<I"), self.count()
        if count > _MOST_VALUES:
            raise UserError(
                f"{self.broken}: {key} has {count} values; at most {_MOST_VALUES} are "
                "read"
            )
        if kind == _TEXT:
            # The shortest text is the eight bytes of its length.
            self._need(8 * count)
            return [self.text(key) for _ in range(count)]
        if kind in _SCALARS:
            code = np.dtype(_SCALARS[kind])
            return np.frombuffer(self.take(code.itemsize * count), code).tolist()
        self._need(count)
        return [self._one(kind, key) for _ in range(count)]

    def _one(self, kind: int, key: str):
        if kind == _TEXT:
            return self.text(key)
        if kind == _BOOL:
            value = self.number("<B")
            if value > 1:
                raise UserError(
                    f"{self.broken}: {key} is {value}, neither true nor false"
                )
            return bool(value)
        if kind not in _SCALARS:
            raise UserError(f"{self.broken}: {key} has a value of unknown type {kind}")
        return self.number(_SCALARS[kind])

    def _need(self, count: int) -> None:
        if count > self.size - self.at:
            raise UserError(
                f"{self.broken}: {count} bytes are wanted at byte {self.at}, and it "
                f"has {self.size}"
            )
