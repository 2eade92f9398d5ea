"""Batches on devices: meshes, microbatches, and rows sorted by length."""

import functools
from collections.abc import Callable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from fr.errors import UserError
from fr.models import sharding

AnyArray = Array | np.ndarray  # jax in programs, numpy on the host


@struct.dataclass
class LossMetrics:
    """Measurements of a loss on some rows.

    Attributes:
        sums: Scalars that add up over the rows of a batch.
        maxima: Scalars of which a batch has the largest.
    """

    sums: dict[str, Float[Array, ""]]
    maxima: dict[str, Float[Array, ""]]


class PaddedBatch:
    """Base of batches whose rows may be read at a smaller width, see `truncate`.

    Attributes:
        tokens: Prompts and completions [B, T]; -1 pads on the right.
        start: Index of the first token of each completion [B].
        mask: Tokens that count [B, W]; columns count from `start` on.
    """

    tokens: Int[AnyArray, "B T"]
    start: Int[AnyArray, "B"]
    mask: Bool[AnyArray, "B W"]

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.mask.shape[1]

    def columns_used(self) -> Int[AnyArray, "B"]:
        """Columns that each row needs; on the host a numpy array."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(
            max=self.tokens.shape[1] - self.width
        )

    def truncate(self, columns: int) -> Self:
        """Keep the first `columns` of W in all arrays [B, W]; T loses as many as W.

        Args:
            columns: Columns to keep.

        Returns:
            The narrower batch.
        """
        less = self.width - columns
        return jax.tree.map(
            lambda x: x[:, : x.shape[1] - less] if x.ndim == 2 else x, self
        )


def length_buckets(columns: int, count: int) -> tuple[int, ...]:
    """Widths that microbatches may have.

    Args:
        columns: Width of the batch, W.
        count: Number of widths at most.

    Returns:
        Evenly spaced multiples of 8, ascending; the last is `columns`.
    """
    return tuple(
        sorted(
            {
                min(-(-columns * k // count // 8) * 8, columns)
                for k in range(1, count + 1)
            }
        )
    )


def length_order(lengths: Int[AnyArray, "B"], unit: int = 1) -> Int[np.ndarray, "B"]:
    """Order of rows by length, shortest first, stable.

    Args:
        lengths: Columns that each row uses.
        unit: Consecutive rows that stay together.

    Returns:
        Row indices.
    """
    units = np.argsort(lengths.reshape(-1, unit).max(axis=1), kind="stable")
    return (units[:, None] * unit + np.arange(unit)).reshape(-1)


def sort_by_length(
    lengths: Int[AnyArray, "B"], microbatch: int, mesh: Mesh, unit: int = 1
) -> Int[np.ndarray, "B"]:
    """Order of rows in which `accumulate_gradients` finds like lengths together.

    This is `length_order`, dealt out to data shards: a microbatch has equally many rows
    of each. The first microbatch has the shortest rows.

    Args:
        lengths: Columns that each row uses.
        microbatch: Rows per gradient; 0: all rows.
        mesh: Devices as (data, model).
        unit: Consecutive rows that stay together.

    Returns:
        Row indices.
    """
    shards, part = mesh.shape["data"], microbatch or len(lengths)
    return (
        length_order(lengths, unit)
        .reshape(-1, shards, part // shards)
        .swapaxes(0, 1)
        .reshape(-1)
    )


def keep_sharding(tree, mesh: Mesh | None):
    """Constrain every leaf to the place where `sharding.shard_tree` puts it.

    A state that came back in another layout would compile the update again.

    Args:
        tree: Arrays of a compiled function.
        mesh: Devices as (data, model); None: no constraint.

    Returns:
        The same tree.
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, sharding.shardings(tree, mesh))


def accumulate_gradients(
    gradient: Callable, batch, microbatch: int, mesh: Mesh | None, count: int = 1
):
    """Gradient of a whole batch, computed `microbatch` rows at a time.

    Each microbatch has equally many rows of each device. With several length buckets
    its width is the smallest that holds the rows of this and all earlier microbatches.

    Args:
        gradient: batch -> ((value, LossMetrics), gradients), a sum over rows.
        batch: Arrays with B rows. With `count` > 1 it also has `width` (W),
            `columns_used()` [B] and `truncate(columns)`.
        microbatch: Rows per gradient; 0: all rows.
        mesh: Devices as (data, model); None: one device.
        count: Number of length buckets.

    Returns:
        ((value, LossMetrics), gradients) of the whole batch.
    """
    rows = len(jax.tree.leaves(batch)[0])
    shards, parts = mesh.shape["data"] if mesh else 1, rows // (microbatch or rows)
    if parts == 1:
        # One microbatch has one width: XLA would unroll loops of one iteration and
        # compute the gradient at every width.
        return gradient(batch)
    sizes = length_buckets(batch.width, count) if count > 1 else (0,)

    def cut(x):
        # Rows lie device by device; a microbatch takes some of each, so none moves.
        x = x.reshape(shards, parts, -1, *x.shape[1:])
        x = jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])
        return (
            jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(None, "data")))
            if mesh
            else x
        )

    def add(width, index, total):
        part = jax.tree.map(lambda x: x[index], batch)
        (value, measured), grads = gradient(part.truncate(width) if width else part)
        (old_value, old), old_grads = total
        peaks = jax.tree.map(jnp.maximum, old.maxima, measured.maxima)
        value, shares, grads = jax.tree.map(
            jnp.add, (old_value, old.sums, old_grads), (value, measured.sums, grads)
        )
        return (value, LossMetrics(shares, peaks)), keep_sharding(grads, mesh)

    batch = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], batch))
    (value, measured), grads = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), shapes
    )
    # Sums begin at 0, maxima below every value.
    lowest = jax.tree.map(lambda x: jnp.full_like(x, -jnp.inf), measured.maxima)
    total = ((value, measured.replace(maxima=lowest)), keep_sharding(grads, mesh))
    ends: list[int | Array] = [parts]
    if len(sizes) > 1:
        reach = jax.lax.cummax(
            jnp.max(jax.vmap(lambda part: part.columns_used())(batch), axis=1)
        )
        ends = [
            *(jnp.sum(reach <= width, dtype=jnp.int32) for width in sizes[:-1]),
            parts,
        ]
    # One loop per width, with fixed shapes: the rows decide only how often each runs.
    for width, begin, end in zip(sizes, [0, *ends], ends):
        total = jax.lax.fori_loop(begin, end, functools.partial(add, width), total)
    return total


def training_mesh(model_axis: int = 1, devices: list | None = None) -> Mesh:
    """A mesh (data, model) of devices.

    Args:
        model_axis: Devices that share one copy of the parameters.
        devices: Devices to use; None: all devices of all processes.

    Returns:
        The mesh.

    Raises:
        UserError: `model_axis` does not divide the devices.
    """
    devices = devices or jax.devices()
    if len(devices) % model_axis:
        raise UserError(
            f"model_axis = {model_axis} does not divide {len(devices)} devices"
        )
    return Mesh(np.array(devices).reshape(-1, model_axis), sharding.AXES)


def check_rows(
    rows: int, microbatch: int, mesh: Mesh, what: str, unit: int = 1
) -> None:
    """Check that an update's rows divide into microbatches, and those over the mesh.

    Args:
        rows: Rows of an update.
        microbatch: Rows per gradient; 0: all rows.
        mesh: Devices as (data, model).
        what: Names the settings that give the rows, for the message.
        unit: Consecutive rows that must stay on one device.

    Raises:
        UserError: They do not divide; the message gives the numbers.
    """
    shards, part = mesh.shape["data"], microbatch or rows
    if rows % part:
        raise UserError(
            f"{what} = {rows} rows do not divide into microbatches of {part}"
        )
    if part % (shards * unit):
        where = (
            f"{what} = {rows} rows" if part == rows else f"a microbatch of {part} rows"
        )
        raise UserError(
            f"{where} does not divide among {shards} data shards ({mesh.size} devices, "
            f"model_axis {mesh.shape['model']}); use a multiple of {shards * unit}"
        )


def place_batch(batch, mesh: Mesh):
    """Put a batch on the mesh, its rows spread over the data axis.

    Args:
        batch: Arrays with B rows; every process has all of them.
        mesh: Devices as (data, model).

    Returns:
        The same tree on devices.
    """
    return sharding.device_put_global(batch, NamedSharding(mesh, P("data")))


def score_rows(
    read: Callable,
    tokens: Int[AnyArray, "B T"],
    start: Int[AnyArray, "B"],
    width: int,
    order: Int[np.ndarray, "R"],
    size: int,
    count: int,
    mesh: Mesh,
) -> Float[np.ndarray, "B W"]:
    """Log-probs of rows, scored as many at a time as an update takes.

    Args:
        read: (tokens, start, columns) -> log-probs [size, columns], as `make_logps`
            makes it, with its parameters bound.
        tokens: Prompts and completions; -1 pads on the right.
        start: Index of the first token of each completion.
        width: Columns of the result, W.
        order: Row indices to score, like lengths together.
        size: Rows per call; the last call repeats a row, to keep one shape.
        count: Number of length buckets; a call takes the smallest that holds its rows.
        mesh: Devices as (data, model).

    Returns:
        Log-probs in nats, float32; 0 for rows that are not in `order`.
    """
    out, some = np.zeros((len(tokens), width), np.float32), []
    need = (tokens >= 0).sum(axis=1) - start.clip(max=tokens.shape[1] - width)
    for first in range(0, len(order), size):
        part = order[np.minimum(np.arange(first, first + size), len(order) - 1)]
        columns = next(w for w in length_buckets(width, count) if w >= need[part].max())
        placed = place_batch(
            (tokens[part][:, : tokens.shape[1] - width + columns], start[part]), mesh
        )
        some.append((part, read(*placed, columns)))
    for part, logp in some:
        logp = sharding.on_host(logp)
        out[part, : logp.shape[1]] = logp
    return out
