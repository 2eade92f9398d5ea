"""Scores of queries and keys: what each token sees, and products in float32."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

UNSEEN = -1e30  # score; finite: a pad sees no key, and its row must be finite, not NaN


class Sight(NamedTuple):
    """Data of a mask: positions, segments and the window.

    Attributes:
        positions: Position of each token; -1 marks a pad.
        segments: A token sees its own segment and negative ones; None: one segment.
        window: Tokens in sight, the own one included; None: all.
    """

    positions: Int[Array, "B T"]
    segments: Int[Array, "B T"] | None
    window: Int[Array, ""] | int | None

    def mask(self, begin: int, end: int) -> Bool[Array, "B Q E"]:
        """Keys before `end` that the queries from `begin` to `end` see.

        Args:
            begin: Index of the first query.
            end: Index after the last query, and after the last key.

        Returns:
            True where a query sees a key.
        """
        both = lambda x: (x[:, begin:end], x[:, :end])
        return self.between(both)

    def between(self, both: Callable[[Array], tuple[Array, Array]]) -> Array:
        """Keys that some queries see.

        Args:
            both: Gives the queries' and the keys' part of an array [B, T].

        Returns:
            True where a query sees a key, [B, Q, E].
        """
        seen = attention_mask(*both(self.positions), self.window)
        if self.segments is None:
            return seen
        of_query, of_key = both(self.segments)
        of_query, of_key = of_query[:, :, None], of_key[:, None]
        return seen & ((of_query == of_key) | (of_key < 0))


def attention_mask(
    query: Int[Array, "B T"],
    key: Int[Array, "B S"],
    window: Int[Array, ""] | int | None,
) -> Bool[Array, "B T S"]:
    """Keys that a query sees: not the future, not beyond the window, not pads.

    Four tokens after one pad, window 3:   key  -1 0 1 2 3
                                     query -1   0 0 0 0 0
                                            0   0 1 0 0 0
                                            1   0 1 1 0 0
                                            2   0 1 1 1 0
                                            3   0 0 1 1 1

    Args:
        query: Positions of the queries; -1 marks a pad.
        key: Positions of the keys; -1 marks a pad.
        window: Tokens in sight, the own one included; None: all.

    Returns:
        True where a query sees a key.
    """
    query, key = query[:, :, None], key[:, None, :]
    seen = (key >= 0) & (key <= query)
    return seen if window is None else seen & (key > query - window)


def product(
    x: Float[Array, "B K X A"], y: Float[Array, "B K Y C"], of_x: int, of_y: int
) -> Float[Array, "B K _ _"]:
    """Sum over one axis of [B, K, X, H] or [B, K, X, S] by [B, K, S, H].

    Args:
        x: Queries or weights.
        y: Keys or values.
        of_x: Axis of `x` that is summed over.
        of_y: Axis of `y` that is summed over.

    Returns:
        The product, in float32.
    """
    return jax.lax.dot_general(
        x, y, (((of_x,), (of_y,)), ((0, 1), (0, 1))), preferred_element_type=jnp.float32
    )


def flat(x: Float[Array, "B K G T X"]) -> Float[Array, "B K M X"]:
    """Put the queries of a key's head in one axis.

    Args:
        x: [B, K, G, T, ...].

    Returns:
        [B, K, G * T, ...].
    """
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def by_group(q: Float[Array, "B T N H"], groups: int) -> Float[Array, "B K G T H"]:
    """Put the queries of a key's head together.

    Args:
        q: Queries.
        groups: Heads of keys, K, which divides N.

    Returns:
        The queries by head of keys, G = N / K.
    """
    b, t, n, h = q.shape
    return q.reshape(b, t, groups, n // groups, h).transpose(0, 2, 3, 1, 4)


def by_token(out: Float[Array, "B K G T H"]) -> Float[Array, "B T N H"]:
    """Undo `by_group`.

    Args:
        out: Values by head of keys.

    Returns:
        Values by token.
    """
    b, _, _, t, h = out.shape
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, -1, h)


def capped(scores: Float[Array, "..."], softcap: float) -> Float[Array, "..."]:
    """Scores s with their soft cap c: c * tanh(s / c).

    Args:
        scores: Scores.
        softcap: The cap; 0: scores stay.

    Returns:
        Scores between -c and c.
    """
    return softcap * jnp.tanh(scores / softcap) if softcap else scores


def scores_of(
    q: Float[Array, "B K G T H"], k: Float[Array, "B K S H"], softcap: float
) -> Float[Array, "B K G T S"]:
    """Scores of queries and keys.

    Args:
        q: Scaled queries.
        k: Keys.
        softcap: As in `attend_blockwise`.

    Returns:
        Scores, in float32.
    """
    raw = product(flat(q), k, 3, 3).reshape(*q.shape[:4], k.shape[2])
    return capped(raw, softcap)
