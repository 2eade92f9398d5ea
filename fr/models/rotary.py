"""Rotary positions: every head turned by an angle that grows with its token's position (arXiv 2104.09864)."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int


@struct.dataclass
class Rotation:
    """Sines and cosines of every position, by kind of rotary frequency: once a pass, for all layers and heads."""

    sin: Float[Array, "R B T H/2"]
    cos: Float[Array, "R B T H/2"]


def rotation(
    positions: Int[Array, "B T"],
    inv_freq: Float[Array, "R H/2"],
    gain: Float[np.ndarray, "R"],
) -> Rotation:
    """The rotations of tokens at these positions, sines and cosines times `gain` (arXiv 2104.09864)."""
    # float32: bfloat16 has no odd integers above 256, so neighbouring positions would be rotated alike.
    angles = positions[..., None].astype(jnp.float32) * inv_freq[:, None, None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    if (gain != 1).any():
        sin, cos = (x * gain[:, None, None, None] for x in (sin, cos))
    return Rotation(sin, cos)


def rope(
    x: Float[Array, "B T N H"],
    sin: Float[Array, "B T H/2"],
    cos: Float[Array, "B T H/2"],
) -> Array:
    """Rotate the two halves of each head."""
    sin, cos = sin[:, :, None], cos[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    ).astype(x.dtype)
