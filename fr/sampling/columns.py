"""Reductions over the vocabulary by columns: entry w of every run of W tokens, so that neighbours stay in step.

XLA:CPU vectorises and threads a reduction over the runs, but not one along the vocabulary; what then is left of a row
is a few thousand numbers, and its likeliest tokens are all in the columns with the largest maxima.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

RUNS = 24  # about: 100 columns then have as many entries as 50,000 tokens have columns
SMALL = 4096  # a smaller vocabulary is one run
PAD = -1e30  # finite: its exponential is 0, and so is what that is multiplied with


def runs(size: int) -> int:
    """How many runs a vocabulary of `size` is cut into: a divisor of it near RUNS, where it has one."""
    near = [n for n in range(RUNS // 2, 2 * RUNS) if size % n == 0]
    return 1 if size < SMALL else min(near, key=lambda n: abs(n - RUNS), default=RUNS)


def columns(values: Float[Array, "B V"]) -> Float[Array, "B N W"]:
    """The same entries as N runs of W tokens: token n * W + w is entry n of column w. The last run may be padded."""
    batch, size = values.shape
    n = runs(size)
    return jnp.pad(values, ((0, 0), (0, -size % n)), constant_values=PAD).reshape(batch, n, -1)


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
    return jnp.sum(jax.lax.complex(first, second), axis=1)


def likeliest(values: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The `count` largest entries of each row (all, if there are fewer) and their ids, in descending order.

    Exact: an entry outside the `count` columns with the largest maxima is no larger than any of those maxima.
    """
    z = columns(values)
    batch, n, width = z.shape
    if n == 1 or width < 4 * count:
        return _top(values, min(count, values.shape[-1]))
    _, column = _top(jnp.max(z, axis=1), count)
    ids = (jnp.arange(n)[:, None] * width + column[:, None, :]).reshape(batch, -1)
    top, at = _top(jnp.take_along_axis(z.reshape(batch, -1), ids, axis=-1), count)
    return top, jnp.take_along_axis(ids, at, axis=-1)


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
    """The smallest id of an entry that equals `wanted`."""
    z = columns(values)
    ids = jnp.arange(z[0].size, dtype=jnp.int32).reshape(z.shape[1:])
    return jnp.min(jnp.where(z == wanted[:, None, None], ids, ids[-1, -1]), axis=(1, 2))
