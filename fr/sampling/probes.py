"""Confidence in forced answers, scored behind prefixes of rows that are still in the cache."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from fr.models.transformer import Branches, KVCache, Transformer
from fr.sampling import stats

PIECE = 128  # log-probs whose logits exist at one time; products of fewer rows are far from their peak


@struct.dataclass
class Trees:
    """R sequences of T new tokens, each behind one cached row: trees in depth-first order, one after the other.

    A tree continues one prefix of its row; its paths are answers. -1 marks pads, which follow all others.
    """

    rows: Int[Array, "R"]
    tokens: Int[Array, "R T"]
    positions: Int[Array, "R T"]
    prefix: Int[Array, "R T"]  # cache entries that the token's tree continues
    ends: Int[Array, "R T"]  # where the token's subtree ends: those in it see the token
    at: Int[Array, "E"]  # r * T + t of the token that a target follows
    targets: Int[Array, "E"]


def score(
    model: Transformer, params: dict, cache: KVCache, trees: Trees
) -> Float[Array, "E"]:
    """Log-prob of each target after the path that leads to it, raw policy at temperature 1; 0 for pads.

    The cache is read, not written. E is a multiple of PIECE; logits exist for the targets alone.

    One row, two trees of a first token and a cue, the first with the answers `a b` and `a c d`, which share `a`:
                       ends  0 1 2 3 4 5
                  first  4   1 0 0 0 0 0
                    cue  4   1 1 0 0 0 0
                      a  4   1 1 1 0 0 0
                      c  4   1 1 1 1 0 0
                  first  6   0 0 0 0 1 0
                    cue  6   0 0 0 0 1 1
    """
    index = jnp.arange(trees.tokens.shape[1])
    sees = (index <= index[:, None]) & (index[:, None] < trees.ends[:, None])
    hidden, _ = model.apply(
        {"params": params},
        trees.tokens,
        trees.positions,
        cache,
        branches=Branches(trees.rows, trees.prefix, sees),
        method="hidden",
    )
    states = hidden.reshape(-1, hidden.shape[-1])

    def piece(i, logp):
        at, target = (
            jax.lax.dynamic_slice(x, (i * PIECE,), (PIECE,))
            for x in (trees.at, trees.targets)
        )
        logits = model.apply({"params": params}, states[at], method="head")
        # A log-prob alone asks nothing of the diagnosis temperature.
        value = stats.log_prob(
            stats.read(logits, jnp.float32(1.0)), jnp.maximum(target, 0)
        )
        value = jnp.where(target >= 0, value, 0.0)
        return jax.lax.dynamic_update_slice(logp, value, (i * PIECE,))

    # As many pieces as there are targets for: a head costs as much as several layers.
    pieces = -(-jnp.sum(trees.targets >= 0) // PIECE)
    return jax.lax.fori_loop(0, pieces, piece, jnp.zeros(trees.at.shape, jnp.float32))
