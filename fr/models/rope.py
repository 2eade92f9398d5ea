"""Rotary embeddings, and their scaling beyond the pretraining context."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fr.errors import UserError
from fr.models.bounds import shown

KINDS = ("default", "linear", "dynamic", "llama3", "yarn")
# Settings of each kind beside its name and `rope_theta`; settings of no kind are
# refused.
_SETTINGS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
    )
    + ("mscale", "mscale_all_dim", "truncate"),
}
_HARMLESS = (
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "finetuned",
    "max_position_embeddings",
)


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Scaling of the rotary frequencies of a kind of layer.

    linear: all frequencies / factor (arXiv 2306.15595). llama3: frequencies below `low`
    turns in the pretraining context are divided by the factor, those above `high` turns
    kept, with a ramp between. yarn: the same with a ramp over the index of a frequency,
    and sines and cosines times `attention` (arXiv 2309.00071). dynamic: unchanged
    within the pretraining context; longer texts are refused.

    Attributes:
        factor: Ratio of the new context to the pretraining context.
        low: Turns in the pretraining context (yarn: beta_slow).
        high: Turns in the pretraining context (yarn: beta_fast).
        original: Positions of the pretraining context.
        kind: One of KINDS except default.
        attention: Factor of sines and cosines.
        truncate: yarn: round the ends of the ramp to whole numbers.
    """

    factor: float
    low: float = 1.0
    high: float = 4.0
    original: int = 0
    kind: str = "llama3"
    attention: float = 1.0
    truncate: bool = True


def inv_freq(
    theta: float, head_dim: int, scaling: RopeScaling | None
) -> Float[np.ndarray, "half"]:
    """Angle per position by which each pair of a head is turned: theta^(-2i / H),
    scaled.

    Args:
        theta: Base of the frequencies.
        head_dim: Size of a head, H; even.
        scaling: Scaling, or None.

    Returns:
        Radians per position, float64.
    """
    freq = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None or scaling.kind == "dynamic":
        return freq
    if scaling.kind == "linear":
        return freq / scaling.factor
    ramp = _llama3_ramp if scaling.kind == "llama3" else _yarn_ramp
    keep = ramp(scaling, freq, theta, head_dim)
    return (1 - keep) * freq / scaling.factor + keep * freq


def _llama3_ramp(
    s: RopeScaling, freq: np.ndarray, theta: float, head_dim: int
) -> np.ndarray:
    # The turns of a frequency in the pretraining context decide how much it is slowed.
    turns = s.original * freq / (2 * math.pi)
    return np.clip((turns - s.low) / (s.high - s.low), 0.0, 1.0)


def _yarn_ramp(
    s: RopeScaling, freq: np.ndarray, theta: float, head_dim: int
) -> np.ndarray:
    # Index, in pairs, of the frequency that makes `turns` in the pretraining context.
    at = lambda turns: (
        head_dim * math.log(s.original / (turns * 2 * math.pi)) / (2 * math.log(theta))
    )
    first, last = at(s.high), at(s.low)
    if s.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    last += 0.001 * (first == last)
    return 1 - np.clip((np.arange(head_dim // 2) - first) / (last - first), 0.0, 1.0)


def read_scaling(rope: dict, max_positions: int, where: str) -> RopeScaling | None:
    """The scaling of one kind of layer from `rope_scaling` or `rope_parameters`.

    Args:
        rope: The parsed setting.
        max_positions: `max_position_embeddings`, the default of the original context.
        where: Name of the file in errors.

    Returns:
        The scaling; None: no scaling.

    Raises:
        UserError: The kind or a setting is unknown, missing or out of range.
    """
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in KINDS:
        raise UserError(
            f"{where}: rope type {shown(kind)} is not supported; there are: "
            f"{', '.join(KINDS)}"
        )
    if rope.get("partial_rotary_factor", 1.0) not in (None, 1, 1.0):
        raise UserError(
            f"{where}: partial_rotary_factor = {rope['partial_rotary_factor']!r} is "
            "not supported"
        )
    given = {
        name: value
        for name, value in rope.items()
        if value is not None and name not in _HARMLESS
    }
    for name in given:
        # Settings of other kinds are ignored, as transformers does.
        if not any(name in settings for settings in _SETTINGS.values()):
            raise UserError(
                f"{where}: rope of type {kind!r} has an unknown setting {name} = "
                f"{shown(given[name])}"
            )
    if kind == "default":
        return None
    original = int(given.get("original_max_position_embeddings", max_positions))
    if kind == "yarn" and rope.get("factor", 0) is None:
        given["factor"] = max_positions / original
    for name in _SETTINGS[kind][: 3 if kind == "llama3" else 1]:
        if name not in given:
            raise UserError(f"{where}: rope of type {kind!r} has no {name!r}")
    factor = float(given["factor"])
    if not math.isfinite(factor) or factor <= 0:
        raise UserError(
            f"{where}: rope factor = {given['factor']!r} must be a positive number"
        )
    if kind == "llama3":
        low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
        if not low < high:
            raise UserError(
                f"{where}: low_freq_factor = {low} must be below high_freq_factor = "
                f"{high}"
            )
        return RopeScaling(factor, low, high, original)
    if kind == "yarn":
        fast = float(given.get("beta_fast") or 32)
        slow = float(given.get("beta_slow") or 1)
        truncate = bool(given.get("truncate", True))
        return RopeScaling(
            factor, slow, fast, original, kind, _attention(given, factor), truncate
        )
    return RopeScaling(factor, kind=kind)


def _attention(given: dict, factor: float) -> float:
    if "attention_factor" in given:
        return float(given["attention_factor"])
    scale = lambda m: 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0
    m, whole = given.get("mscale"), given.get("mscale_all_dim")
    return scale(m) / scale(whole) if m and whole else scale(1.0)


def write_scaling(scaling: RopeScaling | None) -> dict:
    """The `rope_scaling` that `read_scaling` reads back.

    Args:
        scaling: The scaling, or None.

    Returns:
        A JSON object.
    """
    if scaling is None:
        return {"rope_type": "default"}
    out = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        out |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    if scaling.kind == "yarn":
        out |= {
            "beta_slow": scaling.low,
            "beta_fast": scaling.high,
            "truncate": scaling.truncate,
        }
        out |= {"attention_factor": scaling.attention}
    return out | (
        {"original_max_position_embeddings": scaling.original}
        if scaling.original
        else {}
    )


@struct.dataclass
class Rotation:
    """Sines and cosines of every position by kind of rotary frequency.

    They are computed once per pass for all layers and heads.

    Attributes:
        sin: Sines.
        cos: Cosines.
    """

    sin: Float[Array, "R B T half"]
    cos: Float[Array, "R B T half"]


def rotation(
    positions: Int[Array, "B T"],
    inv_freq: Float[Array | np.ndarray, "R half"],
    gain: Float[np.ndarray, "R"],
) -> Rotation:
    """Rotations of tokens at their positions: sines and cosines times the gain.

    Rotary position embedding (arXiv 2104.09864).

    Args:
        positions: Position of each token.
        inv_freq: Radians per position, by kind of frequency.
        gain: Factor by kind of frequency.

    Returns:
        The rotations, float32.
    """
    # float32: bfloat16 has no odd integers above 256, so neighbouring positions would
    # be rotated alike.
    angles = positions[..., None].astype(jnp.float32) * inv_freq[:, None, None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    if (gain != 1).any():
        sin, cos = (x * gain[:, None, None, None] for x in (sin, cos))
    return Rotation(sin, cos)


def apply_rope(
    x: Float[Array, "B T N H"],
    sin: Float[Array, "B T half"],
    cos: Float[Array, "B T half"],
) -> Array:
    """Rotate the two halves of each head: (a cos - b sin, b cos + a sin).

    Args:
        x: Queries or keys.
        sin: Sines.
        cos: Cosines.

    Returns:
        The rotated heads, in the type of `x`.
    """
    sin, cos = sin[:, :, None], cos[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    ).astype(x.dtype)
