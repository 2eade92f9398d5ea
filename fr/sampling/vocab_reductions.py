"""Reductions over the vocabulary by columns: entry w of every run of W tokens, so that neighbours stay in step.

XLA:CPU vectorises and threads a reduction over the runs, but not one along the vocabulary; what then is left of a row
is a few thousand numbers, and its likeliest tokens are all in the columns with the largest maxima.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

RUNS = 24  # about: 49,152 tokens are 2,048 columns, a step's worth for two cores and few enough for what follows
SMALL = 4096  # a smaller vocabulary is summed as one run
PAD = -1e30  # finite: its exponential is 0, and so is what that is multiplied with


def columns(
    values: Float[Array, "B V"], near: int = RUNS, pad: float = PAD
) -> Float[Array, "B N W"]:
    """The same entries as N runs of W tokens: token n * W + w is entry n of column w.

    N divides V and is near `near`, where there is such a number; otherwise it is `near`, and the last run is padded.
    """
    batch, size = values.shape
    divisors = [n for n in range(near // 2 + 1, 2 * near) if size % n == 0]
    n = min(divisors, key=lambda n: abs(n - near), default=near)
    return jnp.pad(values, ((0, 0), (0, -size % n)), constant_values=pad).reshape(
        batch, n, -1
    )


def summable(values: Float[Array, "B V"]) -> Float[Array, "B N W"]:
    """The columns of a row that is summed: one entry each in a small vocabulary."""
    return columns(values, 1 if values.shape[-1] < SMALL else RUNS)


def two_sums(
    first: Float[Array, "B N W"], second: Float[Array, "B N W"]
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Row totals of two arrays that share what is dear to compute, in one pass over it."""
    total = jnp.sum(jax.lax.optimization_barrier(_sums(first, second)), axis=-1)
    return total.real, total.imag


def column_sums(values: Float[Array, "B N W"]) -> Float[Array, "B W"]:
    """The sum of each column."""
    return jax.lax.optimization_barrier(_sums(values, jnp.zeros_like(values))).real


def _sums(first, second):
    # Complex, because a complex sum is one loop that XLA:CPU vectorises, with all that leads up to it. Real ones
    # go to a library which has what they share, or merely an exponential, written out first: 3 times slower.
    # Time what you change here: a select or a second product among the terms has cost five times as much.
    return jnp.sum(jax.lax.complex(first, second), axis=1)


def likeliest(
    values: Float[Array, "B V"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The `count` largest entries of each row (all, if there are fewer) and their ids, in descending order.

    Exact: no entry outside the `count` columns with the largest maxima is larger than one of these maxima.
    """
    size = values.shape[-1]
    near = math.isqrt(size // count)  # as many columns as entries in `count` of them
    if near < 4:
        return _top(values, min(count, size))
    z = columns(values, near, -jnp.inf)
    peaks, column = likeliest(jnp.max(z, axis=1), count)
    inside = jnp.take_along_axis(z, column[:, None], axis=2)
    run = jnp.arange(z.shape[1], dtype=jnp.int32)[:, None]
    first = jnp.min(jnp.where(inside == peaks[:, None], run, z.shape[1]), axis=1)
    # The maxima stand first and in order: hardly an entry behind them then enters the top-k, and entries are cheap
    # where they do not.
    rest = jnp.where(run == first[:, None], -jnp.inf, inside)
    ids = (
        jnp.concatenate([first[:, None], jnp.broadcast_to(run, inside.shape)], axis=1)
        * z.shape[2]
        + column[:, None]
    )
    top, at = _top(
        jnp.concatenate([peaks[:, None], rest], axis=1).reshape(len(values), -1), count
    )
    return top, jnp.take_along_axis(ids.reshape(len(values), -1), at, axis=-1)


def _top(values, count):
    # Behind barriers: XLA merges a slice of the result into its top-k, and is left with a full sort (590 ms
    # instead of 4 for 32 rows of 49,152 on two cores). One each: around the pair, XLA aborts under pmap.
    top, ids = jax.lax.top_k(values, count)
    return jax.lax.optimization_barrier(top), jax.lax.optimization_barrier(ids)


def pick(values: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The entry of each row that `token` names; ids beyond the vocabulary take its last entry."""
    index = jnp.clip(token, 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]


def first_of(values: Float[Array, "B V"], wanted: Float[Array, "B"]) -> Int[Array, "B"]:
    """The smallest id of an entry that equals `wanted`, one of the row's."""
    z = summable(values)
    ids = jnp.arange(z[0].size, dtype=jnp.int32).reshape(z.shape[1:])
    return jnp.min(jnp.where(z == wanted[:, None, None], ids, ids[-1, -1]), axis=(1, 2))
