"""Rows on the host: their defaults, their keys, and how a batch of them becomes arrays."""

import dataclasses
import hashlib

import numpy as np

from fr.sampling import steering
from fr.sampling.structs import SamplingParams
from fr.types import Request

# Fixed widths of the token lists of a row; a longer list is refused, since widening one compiles anew.
WIDTHS = {"switch_tokens": 16, "forced": 64, "pause": 8, "stop": 8, "avoid": 16}

_DEFAULTS = {
    "temperature": np.float32(1.0),
    "top_p": np.float32(1.0),
    "top_k": np.int32(0),
    "min_p": np.float32(0.0),
    "operator": np.int32(steering.PLAIN),
    "alpha": np.float32(0.7),
    "plausible": np.float32(0.0),
    "geodesic": np.int32(steering.CHOSEN),
    "detector": np.int32(steering.DEMOTION),
    "detector_width": np.int32(1),
    "drift": np.float32(-1.0),
    "threshold": np.float32(np.inf),
    "warmup": np.int32(20),
    "fire_position": np.int32(-1),
    "cov_mean": np.float32(0.0),
    "cov_sd": np.float32(0.0),
    "local_temperature": np.float32(1.0),
    "local_span": np.int32(16),
    "switch_penalty": np.float32(0.0),
    "switch_window": np.int32(0),
    "floor": np.float32(-np.inf),
    "floor_window": np.int32(1),
    "budget": np.int32(64),
}


def row_key(seed: int, *names) -> np.ndarray:
    """The key of a row, [2] uint32: a hash of the run's seed and of what the row is, the same on any machine."""
    digest = hashlib.sha256("\x1f".join(map(str, (seed, *names))).encode()).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)


def defaults(rows: int) -> SamplingParams:
    """Parameters of `rows` plain rows at temperature 1."""
    values = {name: np.full(rows, value) for name, value in _DEFAULTS.items()}
    lists = {
        name: np.full((rows, width), -1, np.int32) for name, width in WIDTHS.items()
    }
    return SamplingParams(**values, **lists)


def value(row: Request, name: str):
    """A number that the row sets, or its default."""
    return row.params.get(name, _DEFAULTS[name])


def fill(params: SamplingParams, slot: int, row: Request) -> None:
    """Write one row's own values (the rest: defaults) into its slot of a batch; raises ValueError on a misfit."""
    known = {f.name for f in dataclasses.fields(SamplingParams)}
    if extra := set(row.params) - known:
        raise ValueError(f"row {row.id}: {sorted(extra)} are no fields of SamplingParams")
    for name in _DEFAULTS:
        getattr(params, name)[slot] = value(row, name)
    for name in WIDTHS:
        getattr(params, name)[slot] = padded(row.params.get(name, ()), name, row.id)


def padded(tokens, name: str, row: str) -> np.ndarray:
    """A token list at its fixed width, padded with -1; raises ValueError if it is too long."""
    width = WIDTHS[name]
    if len(tokens) > width:
        raise ValueError(f"row {row}: {len(tokens)} {name} tokens, at most {width} fit")
    return np.array([*tokens, *[-1] * (width - len(tokens))], np.int32)
