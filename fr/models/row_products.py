"""Products and norms that give a token the same bits in every batch.

A library chooses the order of a sum by the shape of its arrays. The last bits of a
token then differ between the token loop, which reads one token per row, and the scorer
and the updates, which read whole sequences. Here rows are taken in blocks of one shape,
by one loop body in all programs. A gradient is the ordinary function's, at the same
inputs.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fr.models.attention import RMSNorm, rms_normed
from fr.models.dense import head_product

_ROWS = 32  # of a block


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def by_rows(fn: Callable, shared, rows):
    """Compute `fn(shared, rows)`, a function of each row alone, block by block.

    Args:
        fn: (shared, [R, ...]) -> [R, ...]; it closes over no array.
        shared: Array that all rows read.
        rows: Array [M, ...].

    Returns:
        Array [M, ...].
    """
    count = len(rows)
    # A loop of one turn would be dissolved, and its body compiled with its neighbours.
    blocks = max(2, -(-count // _ROWS))
    pads = [(0, blocks * _ROWS - count)] + [(0, 0)] * (rows.ndim - 1)
    cut = jnp.pad(rows, pads).reshape(blocks, _ROWS, *rows.shape[1:])
    out = jax.lax.map(functools.partial(fn, shared), cut)
    return out.reshape(-1, *out.shape[2:])[:count]


def _forward(fn, shared, rows):
    return by_rows(fn, shared, rows), (shared, rows)


def _backward(fn, kept, above):
    return jax.vjp(fn, *kept)[1](above)


by_rows.defvjp(_forward, _backward)


def row_product(
    x: Float[Array, "..."],
    kernel: Float[Array, "..."],
    dimensions: tuple,
    precision=None,
) -> Float[Array, "..."]:
    """`dense_product` by rows.

    Args:
        x: Input.
        kernel: Kernel of the layer.
        dimensions: Dimension numbers of `dot_general`, without batch axes.
        precision: Precision of `dot_general`.

    Returns:
        The product.
    """
    inputs = len(dimensions[0][0])
    size = math.prod(kernel.shape[:inputs])
    product = functools.partial(_product, precision)
    found = by_rows(product, kernel.reshape(size, -1), x.reshape(-1, size))
    return found.reshape(*x.shape[: x.ndim - inputs], *kernel.shape[inputs:])


def _product(precision, kernel, x):
    return jnp.matmul(x, kernel, precision=precision)


def row_logits(
    x: Float[Array, "... D"], table: Float[Array, "V D"]
) -> Float[Array, "... V"]:
    """`head_product` by rows.

    Args:
        x: States after the final norm.
        table: The head.

    Returns:
        Logits.
    """
    found = by_rows(_logits, table, x.reshape(-1, x.shape[-1]))
    return found.reshape(*x.shape[:-1], -1)


def _logits(table, x):
    return head_product(x, table)


class RowNorm(RMSNorm):
    """`RMSNorm` by rows."""

    def _normed(self, scale, x):
        fn = functools.partial(rms_normed, self.eps)
        return by_rows(fn, scale, x.reshape(-1, x.shape[-1])).reshape(x.shape)
