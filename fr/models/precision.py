"""The precision policy: which type parameters and compute have, decided here and nowhere else."""

import jax
import jax.numpy as jnp

from fr.errors import UserError

KNOWN = ("float32", "bfloat16")


def choose_dtype(dtype=None) -> jnp.dtype:
    """Type of parameters and compute: bfloat16 on accelerators, float32 on CPU, or the one that is given.

    Norms, rotary angles, softmax, the head's accumulation and all statistics are float32 whatever this says.
    On an accelerator, float32 products are exact only under `jax.default_matmul_precision("highest")`.
    """
    if dtype is None:
        # A CPU without bfloat16 units is slower in it than in float32.
        return jnp.dtype(
            jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        )
    name = jnp.dtype(dtype).name
    if name not in KNOWN:
        raise UserError(
            f"dtype {name!r} is not supported; there are: {', '.join(KNOWN)}"
        )
    return jnp.dtype(dtype)
