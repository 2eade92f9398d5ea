"""Parameters from the tensors of a checkpoint, and back (names: `weight_table`)."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from fr import distributed
from fr.errors import UserError
from fr.models.config import ModelConfig
from fr.models.sharding import (
    check_heads,
    host_buffer,
    leaf_sharding,
    make_array,
    on_host,
)
from fr.models.weight_table import Entry, entries


@runtime_checkable
class Tensors(Protocol):
    """The tensors of one checkpoint, of which slices are read one at a time."""

    where: str  # name of the checkpoint, for errors
    kind: str  # hf or gguf: the column of the table with its names

    def names(self) -> set[str]:
        """Names of the tensors that are parameters."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it.

        Args:
            name: Name of the tensor.

        Returns:
            Sizes of its axes.
        """

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a slice of a tensor.

        Args:
            name: Name of the tensor.
            index: A slice per axis.

        Returns:
            The values, in any floating type.
        """


def assemble(
    config: ModelConfig,
    tensors: Tensors,
    dtype: jnp.dtype,
    mesh: Mesh | None = None,
    stacked: bool = True,
) -> dict:
    """Parameters of a decoder from a checkpoint.

    The host holds at most one device's slice of one leaf, and one tensor's part of it,
    at a time.

    Args:
        config: The decoder.
        tensors: The checkpoint.
        dtype: Type of the parameters.
        mesh: Mesh over which they are divided; None: the default device.
        stacked: Stack the layers; otherwise they are a tuple of trees.

    Returns:
        The parameters.

    Raises:
        UserError: A tensor is missing, unused or of another shape; the first is named.
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
    flat: dict = {}
    layers: list[dict] = [{} for _ in range(config.layers)]
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
    """A parameter of `shape`, or a stack of the parameters of several names."""
    each = names if isinstance(names, list) else [names]
    stack = (len(each),) if isinstance(names, list) else ()

    def read(index: tuple[slice, ...]) -> np.ndarray:
        index = index[len(stack) :]
        out = host_buffer((len(each), *(s.stop - s.start for s in index)), dtype)
        for name, into in zip(each, out):
            tensor = tensors.read(name, entry.file_index(shape, index))
            view = into.reshape(
                entry.file_shape(into.shape)[::-1] if entry.inputs else tensor.shape
            )
            view[...] = tensor.T if entry.inputs else tensor
            _check_values(into, f"{tensors.where}: tensor {name}")
        return out if stack else out[0]

    whole = stack + shape
    return make_array(
        whole, leaf_sharding(entry.path, whole, mesh) if mesh else None, read
    )


def _check_values(values: np.ndarray, what: str) -> None:
    """Raise UserError for values that are not finite, or 2^20 and more: no weight is as
    large.

    A damaged exponent mostly ends there. One pass over the bits, a piece at a time.
    """
    wide = values.dtype.itemsize == 4
    bits: Any = values.reshape(-1).view(np.uint32 if wide else np.uint16)
    # Without the sign, bits are ordered as magnitudes are; bfloat16 is the upper half
    # of float32.
    magnitude, most, infinite = (
        bits.dtype.type(x >> (0 if wide else 16))
        for x in (0x7FFFFFFF, 0x49800000, 0x7F800000)
    )
    for start in range(0, bits.size, 1 << 18):
        worst = (bits[start : start + (1 << 18)] & magnitude).max(initial=0)
        if worst >= infinite:
            raise UserError(f"{what} holds values that are infinite or NaN")
        if worst >= most:
            raise UserError(
                f"{what} holds values beyond 2^20, which no weight has: the file is "
                "damaged"
            )


def disassemble(
    config: ModelConfig, params: dict
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
    """The safetensors tensors of a decoder.

    Args:
        config: The decoder.
        params: Its parameters; layers are stacked, or a tuple of trees.

    Yields:
        Name, shape, and a function that gives the float32 array.

    Raises:
        ValueError: The parameters do not fit the config.
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
    """Leaves by path; layers that are trees become lists with an item per layer."""
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
    wanted: dict[str, tuple[int, ...]] = {}
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
                f"{tensors.where}: tensor {name} is missing"
                f"{_others(wanted.keys() - there)}"
            )
        if tensors.shape(name) != shape:
            raise UserError(
                f"{tensors.where}: tensor {name} has shape {tensors.shape(name)}, not "
                f"{shape}"
            )
    if unused := sorted(there - wanted.keys()):
        raise UserError(
            f"{tensors.where}: tensor {unused[0]} has no place in this model"
            f"{_others(unused)}"
        )


def _others(names) -> str:
    return f" ({len(names) - 1} more)" if len(names) > 1 else ""
