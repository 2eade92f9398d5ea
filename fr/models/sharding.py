"""Placement of parameters and caches on a mesh of (data, model): one table."""

import math
from collections.abc import Callable
from typing import cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.errors import UserError

AXES = ("data", "model")

# End of a path -> axis, counted from the right, that the model axis divides; stacked
# and single layers follow the same rule. Heads and feed-forward neurons stay together,
# so the devices of a layer exchange one sum after `o` and one after `down`. Arrays
# without a rule (norms), and those that do not divide, are whole on every device.
_DIVIDED = {
    "attention/q/kernel": -2,  # [D, N, H]
    "attention/k/kernel": -2,
    "attention/v/kernel": -2,
    "attention/q/bias": -2,
    "attention/k/bias": -2,
    "attention/v/bias": -2,
    "attention/o/kernel": -3,  # [N, H, D]
    "gate/kernel": -1,  # [D, F]
    "up/kernel": -1,
    "down/kernel": -2,  # [F, D]
    "embed/embedding": -2,  # [V, D]
    "head": -2,
    "layers/k": -3,  # [B, K, H, S], of a cache
    "layers/v": -3,  # [B, K, S, H]
}


def check_heads(
    heads: int, kv_heads: int, name: str, parts: int, cache_bytes: int
) -> str:
    """Check that the heads divide over a model axis.

    Args:
        heads: Query heads.
        kv_heads: Key-value heads.
        name: The model, for messages.
        parts: Devices of the model axis.
        cache_bytes: Keys and values of one position, in bytes.

    Returns:
        A warning if every device keeps all key-value heads, else "".

    Raises:
        UserError: Query heads do not divide; every device would compute all of
            attention.
    """
    if heads % parts:
        fit = [n for n in range(1, heads + 1) if heads % n == 0 and kv_heads % n == 0]
        near = min(fit, key=lambda n: (abs(n - parts), n))
        raise UserError(
            f"{name}: its {heads} heads do not divide over a model axis of {parts}, so "
            "that attention would lie whole on every device; the nearest axis that "
            f"divides is {near}"
        )
    if kv_heads % parts:
        return (
            f"{name}: its {kv_heads} key-value heads do not divide over a model axis "
            f"of {parts}: every device keeps all of them, {cache_bytes:,} bytes of "
            "cache for each position"
        )
    return ""


def spec(path: str, shape: tuple[int, ...], parts: int) -> P:
    """Division of an array over a model axis, from the names on its path.

    Args:
        path: Path in the tree, `a/b/c`.
        shape: Shape of the array.
        parts: Devices of the model axis.

    Returns:
        The partition spec; empty if the array is whole on every device.
    """
    names = "/" + "/".join(name for name in path.split("/") if not name.isdigit())
    axis = next(
        (axis for end, axis in _DIVIDED.items() if names.endswith("/" + end)), None
    )
    if parts == 1 or axis is None or shape[axis] % parts:
        return P()
    return P(*[None] * (len(shape) + axis), "model")


def leaf_sharding(path: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Sharding of one array on a mesh of `AXES`; every data shard has a copy.

    Args:
        path: Path in the tree, `a/b/c`.
        shape: Shape of the array.
        mesh: The mesh.

    Returns:
        The sharding.
    """
    return NamedSharding(mesh, spec(path, shape, mesh.shape["model"]))


def shardings(tree, mesh: Mesh):
    """Sharding of every leaf of a tree, by its path.

    Args:
        tree: Tree of arrays, or of their shapes.
        mesh: A mesh of `AXES`.

    Returns:
        Tree of shardings.
    """
    at = lambda path, leaf: leaf_sharding(_name(path), np.shape(leaf), mesh)
    return jax.tree_util.tree_map_with_path(at, tree)


def shard_tree(tree, mesh: Mesh):
    """Put every leaf of a tree where its path says; leaves in place are not moved.

    Args:
        tree: Tree of arrays.
        mesh: A mesh of `AXES`. If it spans several processes, all must call this.

    Returns:
        The tree in place.
    """
    return device_put_global(tree, shardings(tree, mesh))


def device_put_global(tree, places):
    """`jax.device_put` to shardings that may span several processes.

    Every process has the same whole values and puts the parts of its own devices;
    `device_put` would first send all values around to compare them.

    Args:
        tree: Tree of arrays.
        places: One sharding, or a tree of them.

    Returns:
        The tree in place.
    """
    if isinstance(places, NamedSharding):
        places = jax.tree.map(lambda _: places, tree)
    return jax.tree.map(_put, tree, places)


def _put(leaf, place: NamedSharding) -> jax.Array:
    if place.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, place)
    host = np.asarray(leaf)
    return make_array(host.shape, place, lambda index: host[index])


def constrain(tree, mesh: Mesh):
    """Constrain a tree to the shardings of its paths, inside `shard_map`.

    Without it the compiler chooses: a cache of zeros would be whole on every device,
    and a state that returns with another layout would compile the program again.

    Args:
        tree: Tree that a program computes.
        mesh: A mesh of `AXES`; its model axis is left to the compiler.

    Returns:
        The tree.
    """
    at = lambda path, leaf: spec(_name(path), leaf.shape, mesh.shape["model"])
    return jax.lax.with_sharding_constraint(
        tree, jax.tree_util.tree_map_with_path(at, tree)
    )


def replicate_model_axis(x: jax.Array) -> jax.Array:
    """Give an array to every device of the model axis; a no-op without such an axis.

    For logits. After them the rows of a data shard decide what is computed, and a
    collective in a branch that another data shard does not take can wait forever. One
    gather also costs less than one for every sort, sum and maximum over a divided
    vocabulary.

    Args:
        x: Array inside a program.

    Returns:
        The array.
    """
    axes = jax.sharding.get_abstract_mesh().axis_names
    return jax.lax.with_sharding_constraint(x, P()) if "model" in axes else x


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def on_host(x) -> np.ndarray:
    """The whole array on the host of every process.

    Args:
        x: Array; if several processes hold its parts, all must call this.

    Returns:
        A numpy array.
    """
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    mesh = cast(NamedSharding, x.sharding).mesh
    return np.asarray(jax.device_put(x, NamedSharding(mesh, P())))


def make_array(
    shape: tuple[int, ...],
    place: NamedSharding | None,
    read: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
    """Make an array of which this process holds the slices of its own devices.

    One slice is in flight at a time, and devices with the same slice share one reading.

    Args:
        shape: Shape of the whole array.
        place: Its sharding; None: the default device.
        read: Gives the values of a slice; every axis has a slice with both ends.

    Returns:
        The array.
    """
    if place is None:
        return jax.device_put(read(tuple(slice(0, n) for n in shape)))
    holders: dict[tuple, list] = {}
    for device, index in place.addressable_devices_indices_map(shape).items():
        ends = tuple(s.indices(n)[:2] for s, n in zip(index or (), shape))
        holders.setdefault(ends, []).append(device)
    arrays = []
    for bounds, devices in holders.items():
        values = read(tuple(slice(*ends) for ends in bounds))
        # Wait, because a transfer keeps its source alive.
        arrays += jax.block_until_ready(
            [jax.device_put(values, device) for device in devices]
        )
    return jax.make_array_from_single_device_arrays(shape, place, arrays)


def host_buffer(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An empty host array that a CPU device can adopt without a copy.

    XLA copies arrays that are not aligned to 64 bytes.

    Args:
        shape: Shape of the array.
        dtype: Its type.

    Returns:
        The array.
    """
    size, align = math.prod(shape) * np.dtype(dtype).itemsize, 64
    memory = np.empty(size + align, np.uint8)
    start = -memory.ctypes.data % align
    return memory[start : start + size].view(dtype).reshape(shape)
