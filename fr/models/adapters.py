"""Low-rank adapters (arXiv 2106.09685) become a part of the parameters that they stand beside."""

import jax.numpy as jnp
from flax import traverse_util

from fr.config import LoraConfig


def merge(params: dict, adapters: dict, config: LoraConfig) -> dict:
    """Parameters (layers stacked) with the adapters' products added to their kernels, in the parameters' types."""
    flat = traverse_util.flatten_dict(params, sep="/")
    low = traverse_util.flatten_dict(adapters, sep="/")
    for path in (path for path in low if path.endswith("/a")):
        a, b, name = low[path], low[path[:-1] + "b"], path[:-1] + "kernel"
        kernel, layers, rank = flat[name], a.shape[0], a.shape[-1]
        a, b = a.reshape(layers, -1, rank), b.reshape(layers, rank, -1)
        # Accelerators multiply with fewer digits unless told otherwise.
        product = jnp.matmul(a, b, precision="highest").reshape(kernel.shape)
        flat[name] = (
            kernel.astype(jnp.float32) + config.alpha / rank * product
        ).astype(kernel.dtype)
    return traverse_util.unflatten_dict(flat, sep="/")
