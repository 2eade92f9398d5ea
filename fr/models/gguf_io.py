"""GGUF files: metadata as a `config.json` would say it, and tensors dequantised one at a time."""

from pathlib import Path

import gguf
import numpy as np

from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.families import model_config

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
_KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
}
# The two models that scale queries by width / heads instead of head_dim; a GGUF file does not say so.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
_ROPE_FACTORS = "rope_freqs.weight"


class GGUFFile:
    """An open GGUF file; see `weights.Tensors`. Raises UserError for a broken one or another kind."""

    kind = "gguf"

    def __init__(self, path: Path):
        self.where = str(path)
        try:
            reader = gguf.GGUFReader(path)
            self.meta = dict(reader.fields)
            self._tensors = {t.name: t for t in reader.tensors}
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing") from error
        # What the reader raises depends on where a file ends.
        except (OSError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{path} is no whole GGUF file: {error}") from error
        self.architecture = self.get("general.architecture")
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise UserError(
                f"{path}: architecture {self.architecture!r} is not supported; there are: {known}"
            )
        self.config = self._config()

    def get(self, key: str, default=None):
        """A metadata value, `default` if it is absent."""
        return self.meta[key].contents() if key in self.meta else default

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""
        # The factors of the rotary frequencies: `_config` has read them.
        return self._tensors.keys() - {_ROPE_FACTORS}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, slowest axis first as in numpy."""
        return tuple(int(n) for n in reversed(self._tensors[name].shape))

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Float32 values of a slice of a tensor in the order that transformers uses; of q and k, whole heads."""
        tensor = self._tensors[name]
        *rows, columns = index
        try:
            # A plain view: slicing a memmap, thousands of times here, costs more than the arithmetic. Blocks of
            # quantised values lie along a row, so that rows can be left out before they are dequantised.
            stored = tensor.data.view(np.ndarray)[tuple(rows)]
            values = gguf.dequantize(stored, tensor.tensor_type)[..., columns]
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise UserError(f"{self.where}: tensor {name} has type {kind}, which cannot be read") from error
        # Only the conversion of this architecture reorders, for ggml's rotation of neighbouring pairs.
        if self.architecture == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            values = unpermute(values, self.config.head_dim)
        # The conversion has added the 1 of Gemma's 1 + scale.
        if self.config.unit_offset and name.endswith("norm.weight"):
            values = values - 1.0
        return values

    def _config(self) -> ModelConfig:
        arch = self.architecture
        get = lambda key, default=None: self.get(f"{arch}.{key}", default)
        raw = {name: get(key) for key, name in _KEYS.items() if get(key) is not None}
        heads, width = raw.get("num_attention_heads"), raw.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(width, int):
            raise UserError(
                f"{self.where}: {arch}.attention.head_count or {arch}.embedding_length is no number"
            )
        head_dim = get("attention.key_length") or get("rope.dimension_count") or width // heads
        scaled_by_width = (arch, raw.get("num_hidden_layers")) in _SCALED_BY_WIDTH
        embedding = "token_embd.weight"
        if embedding not in self._tensors:
            raise UserError(f"{self.where}: tensor {embedding} is missing")
        raw |= {
            "model_type": ARCHITECTURES[arch],
            "head_dim": head_dim,
            "vocab_size": self.shape(embedding)[0],
            "query_pre_attn_scalar": width // heads if scaled_by_width else head_dim,
            "tie_word_embeddings": "output.weight" not in self._tensors,
            "use_sliding_window": "sliding_window" in raw and not arch.startswith("gemma"),
            "rope_scaling": self._rope_scaling(head_dim, raw.get("rope_theta", 10000.0)),
        }
        return model_config(raw, self.where)

    def _rope_scaling(self, head_dim: int, theta: float) -> dict | None:
        if _ROPE_FACTORS in self._tensors:
            factors = np.asarray(self._tensors[_ROPE_FACTORS].data, np.float64).ravel()
            return self._llama3(factors, head_dim, theta)
        kind = self.get(f"{self.architecture}.rope.scaling.type", "none")
        if kind == "none":
            return None
        factor = self.get(f"{self.architecture}.rope.scaling.factor")
        return {"rope_type": kind} | ({} if factor is None else {"factor": factor})

    def _llama3(self, factors: np.ndarray, head_dim: int, theta: float) -> dict:
        """The Llama-3 scaling that a file states only by its result, checked against that result."""
        low, high, original = 1.0, 4.0, 8192  # of every Llama 3.1, 3.2 and 3.3
        turns = original * theta ** (-np.arange(0, head_dim, 2) / head_dim) / (2 * np.pi)
        smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
        factor = float(factors.max())
        expected = 1 / ((1 - smooth) / factor + smooth)
        if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
            raise UserError(
                f"{self.where}: tensor {_ROPE_FACTORS} is no Llama-3 scaling of the rotary frequencies"
            )
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }


def unpermute(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of each head from ggml's order (pairs side by side) to the order of rotated halves; [N·H, D]."""
    outputs, inputs = weight.shape
    pairs = weight.reshape(outputs // head_dim, head_dim // 2, 2, inputs)
    return pairs.swapaxes(1, 2).reshape(outputs, inputs)
