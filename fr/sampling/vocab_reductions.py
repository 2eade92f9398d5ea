"""Reductions over the vocabulary by columns.

A row is laid out as runs of W tokens; column w holds entry w of every run, so
neighbours stay together. XLA:CPU vectorises and threads a reduction over the runs, but
not one along the vocabulary. After it a row is a few thousand numbers, and its largest
logits are all in the columns with the largest maxima.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

# Approximate number of runs: 49,152 tokens become 2,048 columns, enough work for two
# cores and few enough for the steps after.
RUNS = 24
SMALL = 4096  # a smaller vocabulary is summed as one run
PAD = -1e30  # finite: its exponential is 0, and so are products with that


def columns(
    values: Shaped[Array, "B V"], near: int = RUNS, pad: float = PAD
) -> Shaped[Array, "B N W"]:
    """The same entries as N runs of W tokens: token n * W + w is entry n of column w.

    Args:
        values: Values over the vocabulary.
        near: Wanted number of runs. N is the divisor of V closest to it; without one, N
            is `near` and the last run is padded.
        pad: Value of padding.

    Returns:
        The columns.
    """
    batch, size = values.shape
    divisors = [n for n in range(near // 2 + 1, 2 * near) if size % n == 0]
    n = min(divisors, key=lambda n: abs(n - near), default=near)
    return jnp.pad(values, ((0, 0), (0, -size % n)), constant_values=pad).reshape(
        batch, n, -1
    )


def summable(values: Shaped[Array, "B V"]) -> Shaped[Array, "B N W"]:
    """The columns of a row that is summed: one entry per column in a small vocabulary.

    Args:
        values: Values over the vocabulary.

    Returns:
        The columns.
    """
    return columns(values, 1 if values.shape[-1] < SMALL else RUNS)


def two_sums(
    first: Float[Array, "B N W"], second: Float[Array, "B N W"]
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Row totals of two arrays that share costly terms, in one pass.

    Args:
        first: Values by column.
        second: Values by column.

    Returns:
        Both totals.
    """
    total = jnp.sum(jax.lax.optimization_barrier(_sums(first, second)), axis=-1)
    return total.real, total.imag


def column_sums(values: Float[Array, "B N W"]) -> Float[Array, "B W"]:
    """The sum of each column.

    Args:
        values: Values by column.

    Returns:
        The sums.
    """
    return jax.lax.optimization_barrier(_sums(values, jnp.zeros_like(values))).real


def _sums(first, second):
    # A complex sum is one loop that XLA:CPU vectorises together with its terms. Real
    # sums go to a library, for which shared terms, or an exponential alone, are written
    # to memory first: 3 times slower. Time every change here: a select or a second
    # product among the terms has cost a factor of five.
    return jnp.sum(jax.lax.complex(first, second), axis=1)


def top_k(
    values: Float[Array, "B V"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The largest entries of each row, exactly.

    No entry outside the `count` columns with the largest maxima exceeds one of these
    maxima, so only those columns are searched.

    Args:
        values: Values over the vocabulary.
        count: Number of entries, C; a smaller row gives all it has.

    Returns:
        The entries in descending order, and their ids.
    """
    size = values.shape[-1]
    near = math.isqrt(size // count)  # then W equals the entries of `count` columns
    if near < 4:
        return _top(values, min(count, size))
    z = columns(values, near, -jnp.inf)
    peaks, column = top_k(jnp.max(z, axis=1), count)
    inside = jnp.take_along_axis(z, column[:, None], axis=2)
    run = jnp.arange(z.shape[1], dtype=jnp.int32)[:, None]
    first = jnp.min(jnp.where(inside == peaks[:, None], run, z.shape[1]), axis=1)
    # The maxima stand first and in order: few later entries then enter the top-k, and
    # an entry that does not enter is cheap.
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
    # The barriers keep XLA from merging a slice of the result into its top-k, which
    # turns it into a full sort (590 ms instead of 4 for 32 rows of 49,152 on two
    # cores). One barrier each: around the pair, XLA aborts under pmap.
    top, ids = jax.lax.top_k(values, count)
    return jax.lax.optimization_barrier(top), jax.lax.optimization_barrier(ids)


def gather_token(
    values: Float[Array, "B V"], token: Int[Array, "B"]
) -> Float[Array, "B"]:
    """The entry of each row at a token id.

    Args:
        values: Values over the vocabulary.
        token: Token ids; those beyond the vocabulary take its last entry.

    Returns:
        The entries.
    """
    index = jnp.clip(token, 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]


def first_of(values: Float[Array, "B V"], wanted: Float[Array, "B"]) -> Int[Array, "B"]:
    """The smallest id of an entry that equals a value of the row.

    Args:
        values: Values over the vocabulary.
        wanted: A value of each row.

    Returns:
        Token ids.
    """
    z = summable(values)
    ids = jnp.arange(z[0].size, dtype=jnp.int32).reshape(z.shape[1:])
    return jnp.min(jnp.where(z == wanted[:, None, None], ids, ids[-1, -1]), axis=(1, 2))
