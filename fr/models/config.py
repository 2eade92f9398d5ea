"""The shape and traits of a decoder: numbers and booleans, never a family's name."""

import contextvars
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.errors import UserError
from fr.models.rope import RopeScaling, inv_freq


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and traits of a decoder; hashable, so that it is static under `jit`.

    Attributes:
        vocab: Token ids, V.
        width: Size of a state, D.
        layers: Number of layers, L.
        heads: Query heads per layer, N.
        kv_heads: Key-value heads per layer, K; divides `heads`.
        head_dim: Size of a head, H; even.
        ff: Neurons of the feed-forward, F.
        max_positions: Positions that the model is declared for.
        norm_eps: Added to the mean square in norms.
        rope_theta: Base of the rotary frequencies of full layers.
        tied: The head is the embedding.
        qkv_bias: Biases in queries, keys and values (Qwen 2, 2.5).
        qk_norm: Norms of queries and keys (Qwen 3, Gemma 3).
        gelu: Tanh-approximated GELU instead of SiLU (Gemma).
        scaled_embedding: Embeddings times sqrt(width) (Gemma).
        unit_offset: A norm multiplies by 1 + scale (Gemma).
        post_norms: Norms also after attention and feed-forward (Gemma 2, 3).
        attention_softcap: Soft cap of attention scores (Gemma 2); 0: off.
        logit_softcap: Soft cap of logits (Gemma 2); 0: off.
        query_scale: Factor on queries; 0: head_dim ** -0.5.
        window: Tokens that sliding layers see; 0: no layer slides.
        full_every: Every n-th layer is full, the others slide; 0: all slide.
        local_rope_theta: Base of the frequencies of sliding layers (Gemma 3); 0: as
            full layers.
        rope_scaling: Scaling of the frequencies, or None.
        local_rope_scaling: Scaling for sliding layers with a base of their own, or
            None.
        masked: Ids of an ancestor that are other tokens for the specialist.
        residual_bias: A vector is added to the residual stream after every layer, as
            in an exported steered model.
        by_rows: A token's numbers do not depend on its batch (`row_products`).
    """

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
    tied: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    gelu: bool = False
    scaled_embedding: bool = False
    unit_offset: bool = False
    post_norms: bool = False
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    query_scale: float = 0.0
    window: int = 0
    full_every: int = 0
    local_rope_theta: float = 0.0
    rope_scaling: RopeScaling | None = None
    local_rope_scaling: RopeScaling | None = None
    masked: tuple[int, ...] = ()
    residual_bias: bool = False
    by_rows: bool = False

    @property
    def context(self) -> int:
        """Positions for which the rotary frequencies are made."""
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
        """True if a layer attends to a sliding window only.

        Args:
            layer: Index of the layer.

        Returns:
            Whether it slides.
        """
        return bool(self.window) and (
            not self.full_every or (layer + 1) % self.full_every != 0
        )


@struct.dataclass
class LayerData:
    """Constants that differ from layer to layer.

    Attributes:
        window: Tokens in sight, the own one included.
        rope: Index of the layer's rotary frequencies in `rotary`.
    """

    window: Int[Array, "L"]
    rope: Int[Array, "L"]


def layer_data(config: ModelConfig) -> LayerData:
    """Per-layer constants of a decoder.

    Args:
        config: The decoder.

    Returns:
        Arrays [L].
    """
    slides = np.array([config.slides(i) for i in range(config.layers)])
    window: Any = np.where(slides, config.window, np.iinfo(np.int32).max)
    rope: Any = slides.astype(np.int32) * (len(rotary(config)) - 1)
    return LayerData(window.astype(np.int32), rope)


def rotary(config: ModelConfig) -> Float[np.ndarray, "R half"]:
    """Rotary frequencies of full layers and, if they differ, of sliding layers.

    Args:
        config: The decoder.

    Returns:
        Radians per position, float32, for R kinds of layer.
    """
    kinds = [
        inv_freq(theta, config.head_dim, scaling) for theta, scaling in _ropes(config)
    ]
    return np.stack(kinds).astype(np.float32)


def rotary_gain(config: ModelConfig) -> Float[np.ndarray, "R"]:
    """Factors on the sines and cosines of each kind of layer; 1 except for yarn.

    Args:
        config: The decoder.

    Returns:
        Factors.
    """
    return np.array([s.attention if s else 1.0 for _, s in _ropes(config)], np.float32)


def _ropes(config: ModelConfig) -> list[tuple[float, RopeScaling | None]]:
    kinds = [(config.rope_theta, config.rope_scaling)]
    if config.window and config.local_rope_theta:
        kinds.append((config.local_rope_theta, config.local_rope_scaling))
    return kinds


KNOWN = ("float32", "bfloat16")
# Platform that programs are compiled for; "": this machine's.
PLATFORM = contextvars.ContextVar("platform", default="")


def choose_dtype(dtype=None) -> jnp.dtype:
    """Type of parameters and compute: bfloat16 on accelerators, float32 on CPU.

    Norms, rotary angles, softmax, the head's accumulation and all statistics are
    float32 for every type. On an accelerator, float32 products are exact only under
    `jax.default_matmul_precision("highest")`.

    Args:
        dtype: The type to use instead; a name or a numpy type.

    Returns:
        The type.

    Raises:
        UserError: The type is not supported.
    """
    if dtype is None:
        # A CPU without bfloat16 units is slower in it than in float32.
        platform = PLATFORM.get() or jax.default_backend()
        return jnp.dtype(jnp.float32 if platform == "cpu" else jnp.bfloat16)
    name = jnp.dtype(dtype).name
    if name not in KNOWN:
        raise UserError(
            f"dtype {name!r} is not supported; there are: {', '.join(KNOWN)}"
        )
    return jnp.dtype(dtype)
