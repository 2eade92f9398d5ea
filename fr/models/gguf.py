"""GGUF files: metadata as a `config.json`, and tensors dequantised one at a time."""

import re
from pathlib import Path

import gguf
import numpy as np

from fr.errors import UserError
from fr.models.bounds import shown, whole_number
from fr.models.config import ModelConfig
from fr.models.families import model_config
from fr.models.gguf_keys import ARCHITECTURES, check_tokenizer_keys, config_of
from fr.models.gguf_read import read_gguf

_ROPE_FACTORS = "rope_freqs.weight"


class GGUFFile:
    """An open GGUF file; implements `weights.Tensors`.

    Attributes:
        kind: Column of the weight table, gguf.
        where: Path, for errors.
        paths: All parts of a split file.
        architecture: `general.architecture` of the file.
        config: Shape and traits of the decoder.
    """

    kind = "gguf"

    def __init__(self, path: Path):
        """Open a file and check its metadata.

        Args:
            path: Path of the file, or of a part of a split one.

        Raises:
            UserError: The file is broken, split parts are missing, or the kind is not
                supported.
        """
        self.where = str(path)
        self._values, self._tensors = read_gguf(path)
        self.paths = _parts(path, self._values)
        if self.paths[0] != path:
            self._values, self._tensors = read_gguf(self.paths[0])
        for part in self.paths[1:]:
            for name, tensor in read_gguf(part)[1].items():
                if name in self._tensors:
                    raise UserError(f"{part}: tensor {name} is in another part, too")
                self._tensors[name] = tensor
        total = self.get("split.tensors.count")
        if len(self.paths) > 1 and total not in (None, len(self._tensors)):
            raise UserError(
                f"{path}: its parts hold {len(self._tensors)} tensors, not {total}"
            )
        self.architecture = self.get("general.architecture")
        if (
            not isinstance(self.architecture, str)
            or self.architecture not in ARCHITECTURES
        ):
            known = ", ".join(ARCHITECTURES)
            raise UserError(
                f"{path}: architecture {shown(self.architecture)} is not supported; "
                f"there are: {known}"
            )
        if self.get("general.type", "model") != "model":
            raise UserError(
                f"{path} holds a {shown(self.get('general.type'))}, not a whole model"
            )
        check_tokenizer_keys(self._values, self.where)
        self.config = self._config()

    def get(self, key: str, default=None):
        """A metadata value.

        Args:
            key: Name of the value.
            default: Value to return if it is absent.

        Returns:
            The value.
        """
        return self._values.get(key, default)

    def keys(self) -> list[str]:
        """Names of all metadata values."""
        return list(self._values)

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""
        # `_config` has read the factors of the rotary frequencies.
        return self._tensors.keys() - {_ROPE_FACTORS}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, slowest axis first as in numpy.

        Args:
            name: Name of the tensor.

        Returns:
            Sizes of its axes.
        """
        return self._tensors[name].shape

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Float32 values of a slice of a tensor, in the order that transformers uses.

        Args:
            name: Name of the tensor.
            index: A slice per axis; for q and k along whole heads.

        Returns:
            The values.

        Raises:
            UserError: The tensor's type cannot be dequantised.
        """
        tensor = self._tensors[name]
        *rows, columns = index
        try:
            # Blocks of quantised values lie along a row, so rows can be left out before
            # the others are dequantised.
            stored = tensor.data[tuple(rows)]
            values = gguf.dequantize(stored, tensor.tensor_type)[..., columns]
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise UserError(
                f"{self.where}: tensor {name} has type {kind}, which cannot be read"
            ) from error
        # Only the conversion of this architecture reorders, since ggml rotates
        # neighbouring pairs.
        if self.architecture == "llama" and name.endswith(
            ("attn_q.weight", "attn_k.weight")
        ):
            values = unpermute(values, self.config.head_dim)
        # The conversion has added the 1 of Gemma's 1 + scale.
        if self.config.unit_offset and name.endswith("norm.weight"):
            values = values - 1.0
        return values

    def _config(self) -> ModelConfig:
        embedding = "token_embd.weight"
        if embedding not in self._tensors:
            raise UserError(f"{self.where}: tensor {embedding} is missing")
        tied = "output.weight" not in self._tensors
        raw = config_of(
            self.architecture, self._values, self.shape(embedding)[0], tied, self.where
        )
        if _ROPE_FACTORS in self._tensors:
            factors = np.asarray(self._tensors[_ROPE_FACTORS].data, np.float64).ravel()
            raw["rope_scaling"] = self._llama3(
                factors, raw["head_dim"], raw.get("rope_theta", 10000.0)
            )
        return model_config(raw, self.where)

    def _llama3(self, factors: np.ndarray, head_dim: int, theta: float) -> dict:
        """The Llama-3 scaling that gives a file's factors, which are checked."""
        low, high, original = 1.0, 4.0, 8192  # in every Llama 3.1, 3.2 and 3.3
        turns = (
            original * theta ** (-np.arange(0, head_dim, 2) / head_dim) / (2 * np.pi)
        )
        smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
        factor = float(factors.max())
        expected = 1 / ((1 - smooth) / factor + smooth)
        if factors.shape != expected.shape or not np.allclose(
            factors, expected, rtol=1e-4
        ):
            raise UserError(
                f"{self.where}: tensor {_ROPE_FACTORS} is not a Llama-3 scaling of the "
                "rotary frequencies"
            )
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }


def _parts(path: Path, values: dict) -> list[Path]:
    """All files of a split model, the one with the metadata first; else the file
    itself.
    """
    count = whole_number(values.get("split.count", 1), 0, 99999, f"{path}: split.count")
    if count <= 1:
        return [path]
    found = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.gguf", path.name)
    if not found or int(found[2]) != count:
        raise UserError(
            f"{path} is one part of {count}; all must lie in one folder as "
            f"NAME-00001-of-{count:05d}.gguf"
        )
    parts = [
        path.with_name(f"{found[1]}-{i:05d}-of-{count:05d}.gguf")
        for i in range(1, count + 1)
    ]
    for part in parts:
        if not part.exists():
            raise UserError(f"{path} is one part of {count}, and {part} is missing")
    return parts


def unpermute(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of each head from ggml's order (pairs together) to the order of rotated
    halves.

    Args:
        weight: Matrix [N * H, D].
        head_dim: Size of a head, H.

    Returns:
        The matrix.
    """
    outputs, inputs = weight.shape
    pairs = weight.reshape(outputs // head_dim, head_dim // 2, 2, inputs)
    return pairs.swapaxes(1, 2).reshape(outputs, inputs)
