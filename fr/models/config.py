"""What tells one decoder from another: numbers, booleans, per-layer data; never a family's name."""

import dataclasses
import math

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama-3 scaling of rotary frequencies: low ones divided by `factor`, high ones kept, a ramp between."""

    factor: float
    low: float
    high: float
    original: int  # context length of pretraining


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
    rope_linear: float = 1.0  # Gemma 3: positions of full layers are divided by this
    rope_scaling: RopeScaling | None = None

    @property
    def scale(self) -> float:
        """Factor on queries before the product with keys."""
        return self.query_scale or self.head_dim**-0.5

    def slides(self, layer: int) -> bool:
        """Whether a layer attends to a sliding window only."""
        return bool(self.window) and (not self.full_every or (layer + 1) % self.full_every != 0)


@struct.dataclass
class LayerData:
    """What differs from layer to layer beside the parameters."""

    window: Int[Array, "L"]  # tokens in sight, own one included
    rope: Int[Array, "L"]  # which of the decoder's rotary frequencies


def layer_data(config: ModelConfig) -> LayerData:
    """Per-layer constants of a decoder."""
    slides = np.array([config.slides(i) for i in range(config.layers)])
    window = np.where(slides, config.window, np.iinfo(np.int32).max)
    return LayerData(window.astype(np.int32), slides.astype(np.int32) * (len(rotary(config)) - 1))


def rotary(config: ModelConfig) -> Float[np.ndarray, "R H/2"]:
    """Rotary frequencies: those of full layers and, where they have their own, of sliding ones."""
    kinds = [_inv_freq(config, sliding=False)]
    if config.window and config.local_rope_theta:
        kinds.append(_inv_freq(config, sliding=True))
    return np.stack(kinds).astype(np.float32)


def _inv_freq(config: ModelConfig, sliding: bool) -> Float[np.ndarray, "H/2"]:
    local = sliding and config.local_rope_theta > 0
    theta = config.local_rope_theta if local else config.rope_theta
    freq = theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    if local:
        return freq
    freq = freq / config.rope_linear
    if config.rope_scaling is None:
        return freq
    s = config.rope_scaling
    # How many turns a frequency makes in the pretraining context decides how much it is slowed.
    turns = s.original * freq / (2 * math.pi)
    smooth = np.clip((turns - s.low) / (s.high - s.low), 0.0, 1.0)
    return (1 - smooth) * freq / s.factor + smooth * freq
