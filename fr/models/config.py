"""What tells one decoder from another: numbers, booleans, per-layer data; never a family's name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.errors import UserError
from fr.models.rope import RopeScaling, inv_freq


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and family of a decoder; hashable, so that it is static under `jit`."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ff: int
    max_positions: int = 2048
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tied: bool = True  # the head is the embedding
    qkv_bias: bool = False  # Qwen 2, 2.5
    qk_norm: bool = False  # Qwen 3, Gemma 3
    gelu: bool = False  # Gemma: tanh-approximated GELU instead of SiLU
    scaled_embedding: bool = False  # Gemma: embeddings times sqrt(width)
    unit_offset: bool = False  # Gemma: a norm multiplies by 1 + scale
    post_norms: bool = False  # Gemma 2, 3: norms behind attention and feed-forward too
    attention_softcap: float = 0.0  # Gemma 2; 0: off
    logit_softcap: float = 0.0
    query_scale: float = 0.0  # 0: head_dim ** -0.5
    window: int = 0  # sliding layers see this many tokens; 0: none slides
    full_every: int = 0  # every n-th layer is full; the others slide
    local_rope_theta: float = 0.0  # Gemma 3: of sliding layers; 0: as the others
    rope_scaling: RopeScaling | None = None
    local_rope_scaling: RopeScaling | None = (
        None  # of sliding layers, where they have a theta of their own
    )
    masked: tuple[
        int, ...
    ] = ()  # an ancestor's ids that are other tokens for the specialist beside it

    @property
    def context(self) -> int:
        """Positions up to which the rotary frequencies are known to work; `max_positions` without scaling."""
        s = self.rope_scaling
        if s is None or s.kind == "dynamic":
            return self.max_positions
        return max(
            self.max_positions, int(s.factor * (s.original or self.max_positions))
        )

    @property
    def scale(self) -> float:
        """Factor on queries before the product with keys."""
        return self.query_scale or self.head_dim**-0.5

    def slides(self, layer: int) -> bool:
        """Whether a layer attends to a sliding window only."""
        return bool(self.window) and (
            not self.full_every or (layer + 1) % self.full_every != 0
        )


@struct.dataclass
class LayerData:
    """What differs from layer to layer beside the parameters."""

    window: Int[Array, "L"]  # tokens in sight, own one included
    rope: Int[Array, "L"]  # which of the decoder's rotary frequencies


def layer_data(config: ModelConfig) -> LayerData:
    """Per-layer constants of a decoder."""
    slides = np.array([config.slides(i) for i in range(config.layers)])
    window = np.where(slides, config.window, np.iinfo(np.int32).max)
    return LayerData(
        window.astype(np.int32), slides.astype(np.int32) * (len(rotary(config)) - 1)
    )


def rotary(config: ModelConfig) -> Float[np.ndarray, "R half"]:
    """Rotary frequencies: those of full layers and, where they have their own, of sliding ones."""
    kinds = [
        inv_freq(theta, config.head_dim, scaling) for theta, scaling in _ropes(config)
    ]
    return np.stack(kinds).astype(np.float32)


def rotary_gain(config: ModelConfig) -> Float[np.ndarray, "R"]:
    """Factors on the sines and cosines of each kind of rotary frequency; 1 but for yarn."""
    return np.array([s.attention if s else 1.0 for _, s in _ropes(config)], np.float32)


def _ropes(config: ModelConfig) -> list[tuple[float, RopeScaling | None]]:
    kinds = [(config.rope_theta, config.rope_scaling)]
    if config.window and config.local_rope_theta:
        kinds.append((config.local_rope_theta, config.local_rope_scaling))
    return kinds


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
