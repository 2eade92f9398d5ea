"""One table between our stacked parameters and the tensors of safetensors and GGUF files, used both ways."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from fr import distributed
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.sharding import check_heads, host_buffer, make_array, on_host, sharding
from fr.models.transformer import init_params


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter: where it is with us, and what its tensor is called in files (`{}`: the layer).

    Files hold a matrix as [outputs, inputs]; with us inputs come first, and heads have an axis of their own.
    """

    path: str
    hf: str
    gguf: str
    inputs: int = (
        0  # leading axes of ours that are inputs; 0: no matrix, not transposed
    )

    def file_shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of a parameter whose shape (of one layer) is `ours`."""
        if self.inputs:
            return math.prod(ours[self.inputs :]), math.prod(ours[: self.inputs])
        return ours if self.path in _EMBEDDINGS else (math.prod(ours),)

    def file_index(
        self, ours: tuple[int, ...], index: tuple[slice, ...]
    ) -> tuple[slice, ...]:
        """Slice of the tensor in the file that holds slice `index` of a parameter of shape `ours`."""
        if self.inputs:
            cut = self.inputs
            return _span(ours[cut:], index[cut:]), _span(ours[:cut], index[:cut])
        return index if self.path in _EMBEDDINGS else (_span(ours, index),)

    @property
    def layered(self) -> bool:
        """Whether every layer has one."""
        return "{}" in self.hf


def _span(shape: tuple[int, ...], index: tuple[slice, ...]) -> slice:
    """What a slice of several axes is once they are one."""
    inner = math.prod(shape[1:])
    whole = all(s == slice(0, n) for s, n in zip(index[1:], shape[1:]))
    assert whole, (
        f"{index} of {shape} is not contiguous: only the first of several axes can be divided"
    )
    return slice(index[0].start * inner, index[0].stop * inner)


_EMBEDDINGS = ("embed/embedding", "head")
_LAYER, _BLK = "model.layers.{}.", "blk.{}."


def _linear(ours: str, hf: str, gguf: str, inputs: int = 1) -> Entry:
    return Entry(
        f"layers/{ours}/kernel", f"{_LAYER}{hf}.weight", f"{_BLK}{gguf}.weight", inputs
    )


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


@runtime_checkable
class Tensors(Protocol):
    """The tensors of one checkpoint, of which slices are read one at a time."""

    where: str  # names the checkpoint in errors
    kind: str  # hf or gguf: which names of the table it uses

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor, in any floating type; `index` has a slice for every axis."""


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of a decoder, stacked ones with their layer axis."""
    tree = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    return {
        path: leaf.shape
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }


def entries(config: ModelConfig) -> Iterator[tuple[Entry, tuple[int, ...]]]:
    """The rows of the table that a decoder has, each with its parameter's shape."""
    ours = shapes(config)
    for entry in TABLE + (_FOUR_NORMS if config.post_norms else _TWO_NORMS):
        if entry.path in ours:
            yield entry, ours.pop(entry.path)
    assert not ours, f"parameters that the table lacks: {sorted(ours)}"


def assemble(
    config: ModelConfig,
    tensors: Tensors,
    dtype: jnp.dtype,
    mesh: Mesh | None = None,
    stacked: bool = True,
) -> dict:
    """Parameters of a decoder from a checkpoint, on the default device or divided over a mesh (`sharding`).

    On the host no more exists at a time than one device's slice of one leaf, and one tensor's part of it. Layers
    are stacked, or a tuple of trees. Raises UserError that names the first missing, unused or misshapen tensor.
    """
    _check(config, tensors)
    if mesh is not None:
        bytes_each = (
            2
            * config.layers
            * config.kv_heads
            * config.head_dim
            * jnp.dtype(dtype).itemsize
        )
        heads = config.heads, config.kv_heads
        if said := check_heads(*heads, tensors.where, mesh.shape["model"], bytes_each):
            distributed.print0(said)
    flat, layers = {}, [{} for _ in range(config.layers)]
    for entry, shape in entries(config):
        leaf = functools.partial(_leaf, tensors, entry, dtype, mesh)
        name = getattr(entry, tensors.kind)
        if not entry.layered:
            flat[entry.path] = leaf(shape, name)
        elif stacked:
            flat[entry.path] = leaf(
                shape[1:], [name.format(i) for i in range(config.layers)]
            )
        else:
            for i, layer in enumerate(layers):
                layer[entry.path.removeprefix("layers/")] = leaf(
                    shape[1:], name.format(i)
                )
    params = traverse_util.unflatten_dict(flat, sep="/")
    if not stacked:
        params["layers"] = tuple(
            traverse_util.unflatten_dict(layer, sep="/") for layer in layers
        )
    return params


def _leaf(
    tensors: Tensors,
    entry: Entry,
    dtype,
    mesh: Mesh | None,
    shape: tuple[int, ...],
    names: str | list[str],
) -> jax.Array:
    """A parameter of `shape`, or a stack of those of several names."""
    stack = (len(names),) if isinstance(names, list) else ()
    each = names if stack else [names]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        index = index[len(stack) :]
        out = host_buffer((len(each), *(s.stop - s.start for s in index)), dtype)
        for name, into in zip(each, out):
            tensor = tensors.read(name, entry.file_index(shape, index))
            view = into.reshape(
                entry.file_shape(into.shape)[::-1] if entry.inputs else tensor.shape
            )
            view[...] = tensor.T if entry.inputs else tensor
            check_values(into, f"{tensors.where}: tensor {name}")
        return out if stack else out[0]

    whole = stack + shape
    return make_array(whole, sharding(entry.path, whole, mesh) if mesh else None, read)


def check_values(values: np.ndarray, what: str) -> None:
    """Raise UserError for a value that is infinite, no number, or 2^20 and more: no weight is as large.

    One pass over the bits, a piece at a time. A damaged exponent mostly ends in one of these.
    """
    wide = values.dtype.itemsize == 4
    bits = values.reshape(-1).view(np.uint32 if wide else np.uint16)
    # Without the sign, bits are ordered as magnitudes are; bfloat16 is the upper half of float32.
    sign, most, infinite = (
        bits.dtype.type(x >> (0 if wide else 16))
        for x in (1 << 31, 0x49800000, 0x7F800000)
    )
    for start in range(0, bits.size, 1 << 18):
        worst = (bits[start : start + (1 << 18)] & ~sign).max(initial=0)
        if worst >= infinite:
            raise UserError(f"{what} holds values that are infinite or no numbers")
        if worst >= most:
            raise UserError(
                f"{what} holds values beyond 2^20, which no weight has: the file is damaged"
            )


def disassemble(
    config: ModelConfig, params: dict
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """(name, shape, function that gives the float32 array) of every safetensors tensor of a decoder.

    Layers are stacked, or a tuple of trees. Raises ValueError if the parameters are not those of the config.
    """
    flat = _flatten(params)
    for entry, shape in entries(config):
        if entry.path not in flat or _shape(flat[entry.path]) != shape:
            raise ValueError(
                f"the config wants parameter {entry.path} of shape {shape}"
            )
        layers = range(shape[0]) if entry.layered else [None]
        for layer in layers:
            wanted = entry.file_shape(shape if layer is None else shape[1:])
            yield (
                entry.hf.format(layer),
                wanted,
                functools.partial(_to_file, flat[entry.path], entry, layer),
            )


def _flatten(params: dict) -> dict:
    """Leaves by path; of layers that are trees of their own a list, which has an item a layer as a stack has."""
    flat = traverse_util.flatten_dict(params, sep="/")
    for layer in flat.pop("layers", ()):
        for path, leaf in traverse_util.flatten_dict(
            {"layers": layer}, sep="/"
        ).items():
            flat.setdefault(path, []).append(leaf)
    return flat


def _shape(leaf) -> tuple[int, ...]:
    return (len(leaf), *leaf[0].shape) if isinstance(leaf, list) else leaf.shape


def _to_file(leaf, entry: Entry, layer: int | None) -> np.ndarray:
    array = on_host(leaf if layer is None else leaf[layer]).astype(
        np.float32, copy=False
    )
    wanted = entry.file_shape(array.shape)
    return np.ascontiguousarray(
        array.reshape(wanted[::-1]).T if entry.inputs else array.reshape(wanted)
    )


def _check(config: ModelConfig, tensors: Tensors) -> None:
    wanted = {}
    for entry, shape in entries(config):
        name = getattr(entry, tensors.kind)
        each = range(config.layers) if entry.layered else [None]
        wanted |= {
            name.format(i): entry.file_shape(shape if i is None else shape[1:])
            for i in each
        }
    there = tensors.names()
    for name, shape in wanted.items():
        if name not in there:
            raise UserError(
                f"{tensors.where}: tensor {name} is missing{_others(wanted.keys() - there)}"
            )
        if tensors.shape(name) != shape:
            raise UserError(
                f"{tensors.where}: tensor {name} has shape {tensors.shape(name)}, not {shape}"
            )
    if unused := sorted(there - wanted.keys()):
        raise UserError(
            f"{tensors.where}: tensor {unused[0]} has no place in this model{_others(unused)}"
        )


def _others(names) -> str:
    return f" ({len(names) - 1} more)" if len(names) > 1 else ""
