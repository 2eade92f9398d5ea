"""The likeliest first tokens of a completion, for CoT-decoding (arXiv 2402.10200)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fr.models.model import Model
from fr.models.transformer import Transformer

ROWS = 16  # prompts per forward pass
BUCKET = 32  # lengths are rounded up to a multiple


def first_tokens(
    model: Transformer, params: dict, prompts: Sequence[Sequence[int]], count: int
) -> Int[np.ndarray, "N count"]:
    """The likeliest first tokens after each prompt.

    Args:
        model: The model.
        params: Its parameters; they stay where they are.
        prompts: Token ids of each prompt.
        count: Number of tokens.

    Returns:
        Token ids, likeliest first.
    """
    longest = max(map(len, prompts))
    tokens = np.full(
        (-(-len(prompts) // ROWS) * ROWS, -(-longest // BUCKET) * BUCKET), -1, np.int32
    )
    for row, prompt in zip(tokens, prompts):
        row[: len(prompt)] = prompt
    found = [
        _read(model, count, params, part)
        for part in np.split(tokens, len(tokens) // ROWS)
    ]
    return np.concatenate(jax.device_get(found))[: len(prompts)]


def branch_params(
    model: Model, prompts: Sequence[Sequence[int]], count: int
) -> list[list[dict]]:
    """Sampling parameters of CoT-decoding: greedy after each likeliest first token.

    Args:
        model: The model, on the devices that it is sampled on.
        prompts: Token ids of each prompt.
        count: Branches of a prompt.

    Returns:
        Fields of `SamplingParams` by prompt and branch, the likeliest token first.
    """
    module = Transformer(model.config, model.dtype)
    found = first_tokens(module, model.params, prompts, count)
    return [
        [{"temperature": 0.0, "forced": (token,)} for token in row]
        for row in found.tolist()
    ]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(
    model: Transformer, count: int, params: dict, tokens: Int[Array, "B T"]
) -> Int[Array, "B count"]:
    live = tokens >= 0
    positions = jnp.where(live, jnp.arange(tokens.shape[1]), -1)
    hidden, _ = model.apply({"params": params}, tokens, positions, method="hidden")
    last = jnp.maximum(live.sum(axis=1) - 1, 0)
    states = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    logits: Any = model.apply({"params": params}, states, method="head")
    return jax.lax.top_k(logits, count)[1]
