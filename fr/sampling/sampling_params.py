"""Sampling parameters on the host: defaults, random keys, and requests as arrays."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from fr.errors import UserError
from fr.models.model import check_ids
from fr.sampling import steering
from fr.sampling.structs import SamplingParams
from fr.types import Request

# Fixed widths of a row's token lists. A longer list is refused: another width would
# compile every program again.
WIDTHS = {
    "switch_tokens": 16,
    "penalised": 16,
    "forced": 64,
    "pause": 8,
    "stop": 8,
    "avoid": 16,
}

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
# Only in engines with a table of steering vectors.
VECTOR = {"vector": np.int32(0), "vector_strength": np.float32(1.0)}
_SCALARS = _DEFAULTS | VECTOR


def row_key(seed: int, *names: object) -> UInt[np.ndarray, "2"]:
    """The random key of a row: a hash, so that it is the same on every machine.

    Args:
        seed: Seed of the run.
        names: What identifies the row within the run; compared as text.

    Returns:
        Raw threefry key data: the first 8 bytes of a SHA-256.
    """
    digest = hashlib.sha256("\x1f".join(map(str, (seed, *names))).encode()).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)


def default_params(rows: int, steered: bool = False) -> SamplingParams:
    """Parameters of plain rows at temperature 1.

    Args:
        rows: Number of rows, B.
        steered: Add the parameters that only an engine with a table of vectors reads.

    Returns:
        Numpy arrays [B] and [B, width].
    """
    values: dict[str, Any] = {
        name: np.full(rows, value)
        for name, value in (_SCALARS if steered else _DEFAULTS).items()
    }
    lists: dict[str, Any] = {
        name: np.full((rows, width), -1, np.int32) for name, width in WIDTHS.items()
    }
    return SamplingParams(**values, **lists)


def param(request: Request, name: str) -> Any:
    """A scalar parameter of a request.

    Args:
        request: The request.
        name: Field of `SamplingParams` that is not a token list.

    Returns:
        The request's own value, or the default.
    """
    return request.params.get(name, _SCALARS[name])


def vector_of(request: Request) -> tuple[int, float]:
    """Index and strength of a request's steering vectors.

    Args:
        request: The request.

    Returns:
        (index in the engine's table, factor); (0, 0) for a row that is not steered.
    """
    index = int(param(request, "vector"))
    return (index, float(param(request, "vector_strength"))) if index else (0, 0.0)


def write_params(params: SamplingParams, slot: int, request: Request) -> None:
    """Write one request's parameters, defaults included, into a slot of a batch.

    Args:
        params: Numpy arrays [B] and [B, width]; changed in place.
        slot: Index of the row in [0, B).
        request: The request.

    Raises:
        ValueError: A parameter is unknown, or a token list is too long.
    """
    known = {f.name for f in dataclasses.fields(SamplingParams)}
    if extra := set(request.params) - known:
        raise ValueError(
            f"row {request.id}: {sorted(extra)} are not fields of SamplingParams"
        )
    for name in _DEFAULTS:
        getattr(params, name)[slot] = param(request, name)
    if params.vector is not None and params.vector_strength is not None:
        params.vector[slot], params.vector_strength[slot] = vector_of(request)
    for name in WIDTHS:
        tokens = request.params.get(name, ())
        getattr(params, name)[slot] = pad_tokens(tokens, name, request.id)


def pad_tokens(tokens: Sequence[int], name: str, row: str) -> Int[np.ndarray, "W"]:
    """A token list at its fixed width.

    Args:
        tokens: Token ids.
        name: Name of the list, a key of `WIDTHS`.
        row: Id of the row, for the error.

    Returns:
        The ids, padded on the right with -1.

    Raises:
        ValueError: The list is longer than its width.
    """
    width = WIDTHS[name]
    if len(tokens) > width:
        raise ValueError(f"row {row}: {len(tokens)} {name} tokens, at most {width} fit")
    return np.array([*tokens, *[-1] * (width - len(tokens))], np.int32)


def check_request(
    request: Request,
    *,
    vocab: int,
    context: int,
    limit: int,
    statistics: bool,
    ancestor: bool,
    vectors: int = 1,
) -> None:
    """Check that an engine can decode a request; errors name the row.

    Args:
        request: The request.
        vocab: Rows of the model's embedding.
        context: Positions that all models have.
        limit: Entries of the longest cache.
        statistics: The engine keeps statistics.
        ancestor: The engine has an ancestor.
        vectors: Entries of the engine's table of vectors; the first one is none.

    Raises:
        ValueError: There is no prompt or no budget, the cache is too short, or the
            operator needs statistics, an ancestor or a vector that the engine does not
            have.
        UserError: A token id has no embedding, or the models have too few positions.
    """
    row, budget = f"row {request.id}", param(request, "budget")
    operator = param(request, "operator")
    if not request.prompt:
        raise ValueError(f"{row}: its prompt is empty")
    if budget < 1:
        raise ValueError(f"{row}: a budget of {budget} leaves nothing to emit")
    reads = operator != steering.PLAIN or param(request, "floor") > -np.inf
    if reads and not statistics:
        raise ValueError(
            f"{row}: its operator reads statistics, and this engine keeps none"
        )
    if operator in steering.NEEDS_ANCESTOR and not ancestor:
        raise ValueError(
            f"{row}: its operator mixes with an ancestor, and this engine has none"
        )
    if not 0 <= param(request, "vector") < vectors:
        raise ValueError(
            f"{row}: it is steered by vector {param(request, 'vector')}, and the "
            f"engine has {vectors - 1}"
        )
    lists = (request.params.get(name, ()) for name in ("forced", "stop"))
    given = (i for ids in (request.prompt, request.rest, *lists) for i in ids)
    check_ids((i for i in given if i != -1), vocab, row)
    need = len(request.prompt) - 1 + int(budget)
    if need >= context:
        raise UserError(
            f"{row}: prompt and new tokens need {need + 1} positions, the model has "
            f"{context}; lower max_new_tokens"
        )
    if need > limit:
        raise ValueError(
            f"{row}: prompt and budget need {need} cache entries, the cache has {limit}"
        )
