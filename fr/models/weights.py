"""One table between our stacked parameters and the tensors of safetensors and GGUF files, used both ways."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.transformer import init_params


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter: where it is with us, and what its tensor is called in files (`{}`: the layer).

    Files hold a matrix as [outputs, inputs]; with us inputs come first, and heads have an axis of their own.
    """

    path: str
    hf: str
    gguf: str
    inputs: int = 0  # leading axes of ours that are inputs; 0: no matrix, not transposed

    def file_shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of a parameter whose shape (of one layer) is `ours`."""
        if self.inputs:
            return math.prod(ours[self.inputs :]), math.prod(ours[: self.inputs])
        return ours if self.path in _EMBEDDINGS else (math.prod(ours),)


_EMBEDDINGS = ("embed/embedding", "head")
_LAYER, _BLK = "model.layers.{}.", "blk.{}."


def _linear(ours: str, hf: str, gguf: str, inputs: int = 1) -> Entry:
    return Entry(f"layers/{ours}/kernel", f"{_LAYER}{hf}.weight", f"{_BLK}{gguf}.weight", inputs)


def _bias(ours: str, hf: str, gguf: str) -> Entry:
    return Entry(f"layers/{ours}/bias", f"{_LAYER}{hf}.bias", f"{_BLK}{gguf}.bias")


def _norm(ours: str, hf: str, gguf: str) -> Entry:
    return Entry(f"layers/{ours}/scale", f"{_LAYER}{hf}.weight", f"{_BLK}{gguf}.weight")


TABLE = (
    Entry("embed/embedding", "model.embed_tokens.weight", "token_embd.weight"),
    Entry("head", "lm_head.weight", "output.weight"),
    Entry("final_norm/scale", "model.norm.weight", "output_norm.weight"),
    _linear("attention/q", "self_attn.q_proj", "attn_q"),
    _linear("attention/k", "self_attn.k_proj", "attn_k"),
    _linear("attention/v", "self_attn.v_proj", "attn_v"),
    _linear("attention/o", "self_attn.o_proj", "attn_output", inputs=2),
    _bias("attention/q", "self_attn.q_proj", "attn_q"),
    _bias("attention/k", "self_attn.k_proj", "attn_k"),
    _bias("attention/v", "self_attn.v_proj", "attn_v"),
    _norm("attention/q_norm", "self_attn.q_norm", "attn_q_norm"),
    _norm("attention/k_norm", "self_attn.k_norm", "attn_k_norm"),
    _linear("gate", "mlp.gate_proj", "ffn_gate"),
    _linear("up", "mlp.up_proj", "ffn_up"),
    _linear("down", "mlp.down_proj", "ffn_down"),
    _norm("attention_norm", "input_layernorm", "attn_norm"),
)
# With norms behind attention and feed-forward too, `post_attention_layernorm` stops being the feed-forward's.
_TWO_NORMS = (_norm("ff_norm", "post_attention_layernorm", "ffn_norm"),)
_FOUR_NORMS = (
    _norm("attention_post_norm", "post_attention_layernorm", "post_attention_norm"),
    _norm("ff_norm", "pre_feedforward_layernorm", "ffn_norm"),
    _norm("ff_post_norm", "post_feedforward_layernorm", "post_ffw_norm"),
)


class Tensors(Protocol):
    """The tensors of one checkpoint, read one at a time."""

    where: str  # names the checkpoint in errors
    kind: str  # hf or gguf: which names of the table it uses

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""

    def read(self, name: str) -> np.ndarray:
        """A tensor's values, in any floating type."""


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of a decoder, stacked ones with their layer axis."""
    tree = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def entries(config: ModelConfig) -> Iterator[tuple[Entry, tuple[int, ...]]]:
    """The rows of the table that a decoder has, each with its parameter's shape."""
    ours = shapes(config)
    for entry in TABLE + (_FOUR_NORMS if config.post_norms else _TWO_NORMS):
        if entry.path in ours:
            yield entry, ours.pop(entry.path)
    assert not ours, f"parameters that the table lacks: {sorted(ours)}"


def assemble(config: ModelConfig, tensors: Tensors, dtype: jnp.dtype) -> dict:
    """Parameters of a decoder from a checkpoint; one stacked leaf and one tensor are in flight at a time.

    Raises UserError that names the first missing, unused or misshapen tensor.
    """
    _check(config, tensors)
    flat = {}
    for entry, shape in entries(config):
        stacked = np.empty(shape, dtype)
        for name, into in _targets(entry, tensors.kind, stacked):
            tensor = tensors.read(name)
            view = into.reshape(entry.file_shape(into.shape)[::-1] if entry.inputs else tensor.shape)
            view[...] = tensor.T if entry.inputs else tensor
        # device_put, because jnp.asarray would compile a copy for each shape.
        flat[entry.path] = jax.device_put(stacked)
    return traverse_util.unflatten_dict(flat, sep="/")


def disassemble(
    config: ModelConfig, params: dict
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """(name, shape, function that gives the float32 array) of every safetensors tensor of a decoder.

    Raises ValueError if the parameters are not those of the config.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for entry, shape in entries(config):
        if entry.path not in flat or flat[entry.path].shape != shape:
            raise ValueError(f"the config wants parameter {entry.path} of shape {shape}")
        layers = range(shape[0]) if "{}" in entry.hf else [None]
        for layer in layers:
            wanted = entry.file_shape(shape if layer is None else shape[1:])
            yield entry.hf.format(layer), wanted, functools.partial(_to_file, flat[entry.path], entry, layer)


def _to_file(leaf, entry: Entry, layer: int | None) -> np.ndarray:
    array = np.asarray(leaf if layer is None else leaf[layer], np.float32)
    wanted = entry.file_shape(array.shape)
    return np.ascontiguousarray(array.reshape(wanted[::-1]).T if entry.inputs else array.reshape(wanted))


def _targets(entry: Entry, kind: str, stacked: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(tensor name, our array of one layer) of one row of the table."""
    name = getattr(entry, kind)
    if "{}" not in name:
        yield name, stacked
        return
    for layer in range(stacked.shape[0]):
        yield name.format(layer), stacked[layer]


def _check(config: ModelConfig, tensors: Tensors) -> None:
    wanted = {}
    for entry, shape in entries(config):
        name = getattr(entry, tensors.kind)
        each = range(config.layers) if "{}" in name else [None]
        wanted |= {name.format(i): entry.file_shape(shape if i is None else shape[1:]) for i in each}
    there = tensors.names()
    for name, shape in wanted.items():
        if name not in there:
            raise UserError(f"{tensors.where}: tensor {name} is missing{_others(wanted.keys() - there)}")
        if tensors.shape(name) != shape:
            raise UserError(f"{tensors.where}: tensor {name} has shape {tensors.shape(name)}, not {shape}")
    if unused := sorted(there - wanted.keys()):
        raise UserError(f"{tensors.where}: tensor {unused[0]} has no place in this model{_others(unused)}")


def _others(names) -> str:
    return f" ({len(names) - 1} more)" if len(names) > 1 else ""
