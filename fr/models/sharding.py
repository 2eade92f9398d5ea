"""Where parameters and caches lie on a mesh of (data, model): one table, and arrays made a slice at a time."""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fr.errors import UserError

AXES = ("data", "model")

# End of a path, and the axis, counted from the right, that the model axis divides: stacked and single layers have
# the same rule. A layer's heads and its ff neurons stay together, so that one sum behind `o` and one behind `down`
# is all that its devices exchange. What has no rule here (norms), or does not divide, is whole on every device.
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
    """What to say of key-value heads that every device keeps whole, "" for nothing.

    `cache_bytes`: keys and values of a position. Raises UserError where the heads of queries do not divide:
    attention would then be computed whole on every device.
    """
    if heads % parts:
        fit = [n for n in range(1, heads + 1) if heads % n == 0 and kv_heads % n == 0]
        near = min(fit, key=lambda n: (abs(n - parts), n))
        raise UserError(
            f"{name}: its {heads} heads do not divide over a model axis of {parts}, so that attention would lie "
            f"whole on every device; the nearest axis that divides is {near}"
        )
    if kv_heads % parts:
        return (
            f"{name}: its {kv_heads} key-value heads do not divide over a model axis of {parts}: every device "
            f"keeps all of them, {cache_bytes:,} bytes of cache for each position"
        )
    return ""


def spec(path: str, shape: tuple[int, ...], parts: int) -> P:
    """How an array is divided over a model axis of `parts` devices, by the names that lead to it (`a/b/c`)."""
    names = "/" + "/".join(name for name in path.split("/") if not name.isdigit())
    axis = next(
        (axis for end, axis in _DIVIDED.items() if names.endswith("/" + end)), None
    )
    if parts == 1 or axis is None or shape[axis] % parts:
        return P()
    return P(*[None] * (len(shape) + axis), "model")


def sharding(path: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """The place of one array on a mesh of `AXES`; every data shard has a copy."""
    return NamedSharding(mesh, spec(path, shape, mesh.shape["model"]))


def places(tree, mesh: Mesh):
    """The place of every leaf of a tree of arrays, or of their shapes, by its path."""
    at = lambda path, leaf: sharding(_name(path), np.shape(leaf), mesh)
    return jax.tree_util.tree_map_with_path(at, tree)


def place(tree, mesh: Mesh):
    """Put every leaf of a tree where its path says; what is there already stays as it is.

    Where the mesh is that of several processes all must call it: see `put`.
    """
    return put(tree, places(tree, mesh))


def put(tree, places):
    """`jax.device_put` to a place, or to a tree of them, that may belong to several processes.

    Every process then has the same whole values and puts its devices' parts of them: `device_put` would first send
    all values around to see whether they are the same.
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
    """The same for what a program computes under `shard_map` with the model axis left to the compiler.

    Without it the compiler chooses, a cache of zeros would lie whole on every device, and a state that comes back
    with another layout than it left with would compile the program again.
    """
    at = lambda path, leaf: spec(_name(path), leaf.shape, mesh.shape["model"])
    return jax.lax.with_sharding_constraint(
        tree, jax.tree_util.tree_map_with_path(at, tree)
    )


def whole(x: jax.Array) -> jax.Array:
    """The array on every device of the model axis; itself where a program has no such axis.

    For logits. Behind them the rows of a data shard decide what is computed, and a collective in a branch that
    another data shard does not take can wait for it for ever; one gather also costs less than those of every sort,
    sum and maximum over a divided vocabulary.
    """
    axes = jax.sharding.get_abstract_mesh().axis_names
    return jax.lax.with_sharding_constraint(x, P()) if "model" in axes else x


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def on_host(x) -> np.ndarray:
    """The whole array on the host of every process; where several hold its parts, all must call it."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(jax.device_put(x, NamedSharding(x.sharding.mesh, P())))


def make_array(
    shape: tuple[int, ...],
    place: NamedSharding | None,
    read: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
    """An array of which this process holds its devices' slices; `read` is asked once for each, with full slices.

    One slice is in flight at a time, and devices that hold the same one share a reading. `place` None: the
    default device.
    """
    if place is None:
        return jax.device_put(read(tuple(slice(0, n) for n in shape)))
    holders = {}
    for device, index in place.addressable_devices_indices_map(shape).items():
        holders.setdefault(
            tuple(s.indices(n)[:2] for s, n in zip(index, shape)), []
        ).append(device)
    arrays = []
    for bounds, devices in holders.items():
        values = read(tuple(slice(*ends) for ends in bounds))
        # Waited for, because a transfer keeps its source alive.
        arrays += jax.block_until_ready(
            [jax.device_put(values, device) for device in devices]
        )
    return jax.make_array_from_single_device_arrays(shape, place, arrays)


def host_buffer(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An empty host array that a CPU device can adopt: XLA copies one that is not aligned to 64 bytes."""
    size, align = math.prod(shape) * np.dtype(dtype).itemsize, 64
    memory = np.empty(size + align, np.uint8)
    start = -memory.ctypes.data % align
    return memory[start : start + size].view(dtype).reshape(shape)
