"""Gradients of a batch taken some rows at a time, short rows in narrow microbatches."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from fr.models import sharding


@struct.dataclass
class Measured:
    """What a loss says of some rows: shares add up over the rows of a batch, of peaks the largest counts."""

    shares: dict[str, Float[Array, ""]]
    peaks: dict[str, Float[Array, ""]]


def widths(columns: int, count: int) -> tuple[int, ...]:
    """At most `count` widths up to `columns`, evenly spaced multiples of 8, but the last one, which is `columns`."""
    return tuple(
        sorted(
            {
                min(-(-columns * k // count // 8) * 8, columns)
                for k in range(1, count + 1)
            }
        )
    )


def in_order(need: Int[np.ndarray, "B"], unit: int = 1) -> Int[np.ndarray, "B"]:
    """Rows by what they need, least first, in a stable sort; each `unit` rows in turn stay together."""
    units = np.argsort(need.reshape(-1, unit).max(axis=1), kind="stable")
    return (units[:, None] * unit + np.arange(unit)).reshape(-1)


def by_need(
    need: Int[np.ndarray, "B"], microbatch: int, mesh: Mesh, unit: int = 1
) -> Int[np.ndarray, "B"]:
    """An order of rows in which `over_parts` finds like needs in a microbatch, the smallest in the first.

    `in_order`; then, as a microbatch has as many rows of each data shard, dealt out to these.
    """
    shards, part = mesh.shape["data"], microbatch or len(need)
    return (
        in_order(need, unit)
        .reshape(-1, shards, part // shards)
        .swapaxes(0, 1)
        .reshape(-1)
    )


def pinned(tree, mesh: Mesh | None):
    """Every leaf where `sharding.place` puts it: a state that came back elsewhere would compile the update again."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, sharding.places(tree, mesh))


def over_parts(
    gradient: Callable, batch, microbatch: int, mesh: Mesh | None, count: int = 1
):
    """`gradient` of the whole batch, taken `microbatch` rows at a time; a part has as many rows of each device.

    With a `count` above 1 one of several parts has the least of so many widths that holds its rows and those of the
    parts before it (see `by_need`). The batch then says what its rows need, `needs()` [B], how wide it is, `width`,
    and what is left of it, `narrow(columns)`.
    """
    rows = len(jax.tree.leaves(batch)[0])
    shards, parts = mesh.shape["data"] if mesh else 1, rows // (microbatch or rows)
    if parts == 1:
        # One width: a loop of one turn has nothing that varies, so XLA would compute every width, and before it.
        return gradient(batch)
    sizes = widths(batch.width, count) if count > 1 else (0,)

    def cut(x):
        x = x.reshape(shards, parts, -1, *x.shape[1:])
        x = jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])
        return (
            jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(None, "data")))
            if mesh
            else x
        )

    def add(width, index, total):
        part = jax.tree.map(lambda x: x[index], batch)
        (value, measured), grads = gradient(part.narrow(width) if width else part)
        (old_value, old), old_grads = total
        peaks = jax.tree.map(jnp.maximum, old.peaks, measured.peaks)
        value, shares, grads = jax.tree.map(
            jnp.add, (old_value, old.shares, old_grads), (value, measured.shares, grads)
        )
        return (value, Measured(shares, peaks)), pinned(grads, mesh)

    batch = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], batch))
    (value, measured), grads = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), shapes
    )
    lowest = jax.tree.map(lambda x: jnp.full_like(x, -jnp.inf), measured.peaks)
    total = ((value, measured.replace(peaks=lowest)), pinned(grads, mesh))
    ends = [parts]
    if len(sizes) > 1:
        reach = jax.lax.cummax(
            jnp.max(jax.vmap(lambda part: part.needs())(batch), axis=1)
        )
        ends = [
            *(jnp.sum(reach <= width, dtype=jnp.int32) for width in sizes[:-1]),
            parts,
        ]
    # A loop for each width, whose shapes are fixed: how often it runs is all that the rows decide.
    for width, begin, end in zip(sizes, [0, *ends], ends):
        total = jax.lax.fori_loop(begin, end, functools.partial(add, width), total)
    return total
