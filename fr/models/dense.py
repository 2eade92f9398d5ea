"""Dense products with a fast gradient on CPUs, and the merging of adapters."""

import functools

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from fr.config import LoraConfig


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def dense_product(
    x: Float[Array, "..."],
    kernel: Float[Array, "..."],
    dimensions: tuple,
    precision=None,
) -> Float[Array, "..."]:
    """`jax.lax.dot_general` of the last axes of `x` with the first axes of `kernel`.

    [rows..., in...] with [in..., out...] gives [rows..., out...]. JAX's own gradient of
    the kernel is the transposed product; on a CPU XLA then writes the incoming gradient
    in transposed order before it multiplies, a quarter of an update's time.

    Args:
        x: Input.
        kernel: Kernel of the layer.
        dimensions: Dimension numbers of `dot_general`, without batch axes.
        precision: Precision of `dot_general`.

    Returns:
        The product.
    """
    return jax.lax.dot_general(x, kernel, dimensions, precision=precision)


def _forward(x, kernel, dimensions, precision):
    return dense_product(x, kernel, dimensions, precision), (x, kernel)


def _backward(dimensions, precision, kept, above):
    x, kernel = kept
    inputs = len(dimensions[0][0])
    rows, outputs = range(x.ndim - inputs), range(kernel.ndim - inputs)
    product = functools.partial(jax.lax.dot_general, precision=precision)
    last = lambda axes, of: tuple(of.ndim - len(axes) + i for i in axes)
    below = product(
        above, kernel, ((last(outputs, above), last(outputs, kernel)), ((), ()))
    )
    return below, product(x, above, ((tuple(rows), tuple(rows)), ((), ())))


dense_product.defvjp(_forward, _backward)


def head_product(
    x: Float[Array, "... D"], table: Float[Array, "V D"]
) -> Float[Array, "... V"]:
    """Product of states with the head, accumulated in float32.

    Args:
        x: States after the final norm.
        table: The head.

    Returns:
        Logits.
    """
    return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)


def merge(params: dict, adapters: dict, config: LoraConfig) -> dict:
    """Parameters with their adapters added.

    Products: W + alpha / rank * A B (arXiv 2106.09685). Vectors: u + v, where u is the
    vector that a layer has, if any (arXiv 2509.06608).

    Args:
        params: Parameters, layers stacked.
        adapters: Adapters `a` and `b` beside the paths of kernels, or `offset`.
        config: Kind of adapters, rank and alpha.

    Returns:
        Parameters in their own types.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    low = traverse_util.flatten_dict(adapters, sep="/")
    if config.vectors:
        vector = low["layers/offset"]
        before = flat.get("layers/offset", jnp.zeros_like(vector))
        flat["layers/offset"] = (before + vector).astype(before.dtype)
    for path in (path for path in low if path.endswith("/a")):
        a, b, name = low[path], low[path[:-1] + "b"], path[:-1] + "kernel"
        kernel, layers, rank = flat[name], a.shape[0], a.shape[-1]
        a, b = a.reshape(layers, -1, rank), b.reshape(layers, rank, -1)
        # The default precision of accelerators has fewer digits.
        product = jnp.matmul(a, b, precision="highest").reshape(kernel.shape)
        flat[name] = (
            kernel.astype(jnp.float32) + config.alpha / rank * product
        ).astype(kernel.dtype)
    return traverse_util.unflatten_dict(flat, sep="/")
