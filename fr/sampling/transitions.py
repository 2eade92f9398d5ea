"""Changes of a decoding batch between chunks, as pure functions.

`prefill` reads prompts into a cache of their own, `insert` starts rows from it,
`apply_edit` releases paused rows.
"""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from fr.models.attention import TreeMask
from fr.models.kv_cache import KVCache
from fr.models.transformer import Transformer
from fr.sampling import steering
from fr.sampling.state import (
    DecodeState,
    Edit,
    Insertion,
    ModelParams,
    PromptCache,
    Reading,
)

_ALONE = 64  # tokens that are read together at least where prompts are read in turn
_SEEN = 2**15  # entries whose copies and scores may exist at one time elsewhere


def prefill(
    model: Transformer,
    ancestor: Transformer | None,
    together: bool,
    size: int,
    params: ModelParams,
    prompt_cache: PromptCache,
    reading: Reading,
) -> PromptCache:
    """Read a part of prompts into places of the prompt cache, after what is kept there.

    Args:
        model: The specialist.
        ancestor: The ancestor, or None.
        together: All prompts are in one product, unless they see many entries.
            Otherwise they are read in turn, by products of one shape: the bytes of an
            entry then depend on the tokens up to it alone, and not on the other prompts
            of a call.
        size: Entries that the part's last token may see; a function of its begin.
        params: Parameters of both.
        prompt_cache: The cache to write.
        reading: The parts.

    Returns:
        The cache with these parts in it.
    """

    # Read in turn elsewhere, what is kept is read only, and new entries are written
    # where they belong.
    rows = rows_in_turn(together, reading.tokens.shape[1], size)
    extends = together and rows < reading.begin.size

    def fill(m: Transformer, read: dict, kept: KVCache, r: Reading) -> KVCache:
        # Position -1 marks a pad: nothing attends to its entry of the cache.
        places = r.begin[:, None] + jnp.arange(r.tokens.shape[1])
        positions = jnp.where(r.tokens >= 0, places, -1)
        take = lambda layer: layer.take(r.source).first(size)
        before: Any = KVCache(tuple(map(take, kept.layers)))
        own, tree = jnp.arange(r.into.size), None
        if extends:
            prefix = jnp.broadcast_to(r.begin[:, None], places.shape)
            every = jnp.ones((*places.shape, places.shape[1]), bool)
            tree = TreeMask(own, prefix, every, gives=True)
        found: Any = m.apply(
            read, r.tokens, positions, before, tree=tree, method="hidden"
        )
        if extends:
            return _extended(kept, r, before, found[1])
        return _copy_rows(kept, r.into, found[1], own)

    def both(kept: PromptCache, r: Reading) -> PromptCache:
        own = params.variables(r.vector, r.strength)
        specialist = fill(model, own, kept.specialist, r)
        if ancestor is None:
            return PromptCache(specialist, None)
        others = {"params": cast(dict, params.ancestor)}
        second = fill(ancestor, others, cast(KVCache, kept.ancestor), r)
        return PromptCache(specialist, second)

    if together and not extends:
        return both(prompt_cache, reading)
    of_turn = lambda i: lambda x: jax.lax.dynamic_slice_in_dim(x, i * rows, rows)
    turn = lambda i, kept: both(kept, jax.tree.map(of_turn(i), reading))
    turns = -(-jnp.sum(reading.begin >= 0) // rows)
    return jax.lax.fori_loop(0, turns, turn, prompt_cache)


def rows_in_turn(together: bool, tokens: int, size: int) -> int:
    """Prompts of one product; a call with more of them reads in turn.

    Args:
        together: All prompts of a call may be in one product.
        tokens: Tokens of a part.
        size: Entries that the part may see.

    Returns:
        Rows. Products of few tokens would read the weights for little; rows that see
        many entries would copy much, and 256 tokens are enough for a product.
    """
    return max(1, _SEEN // size if together else _ALONE // tokens)


def insert(
    state: DecodeState, prompt_cache: PromptCache, insertion: Insertion
) -> DecodeState:
    """Reset the slots of new rows and copy the cache of its prompt into each.

    Args:
        state: The batch.
        prompt_cache: Caches of the prompts.
        insertion: The new rows.

    Returns:
        The batch with the rows in it.
    """
    zero = jnp.zeros_like(insertion.last_token)
    nothing: Any = None
    fresh = dataclasses.replace(
        state,
        last_token=insertion.last_token,
        length=insertion.length,
        generated=zero,
        done=zero.astype(bool),
        paused=zero.astype(bool),
        forced_index=zero,
        fired=zero.astype(bool),
        heat_left=zero,
        tokens_since_switch=zero,
        scores=jnp.zeros((zero.size, steering.RING)),
        memory=jnp.zeros((zero.size, 4)),
        key=insertion.key,
        rows=insertion.rows,
        cache=nothing,
        ancestor_cache=None,
    )
    # Insertions are padded to one size; a pad's slot lies beyond the last, unused.
    put = lambda old, new: old.at[insertion.slot].set(new, mode="drop")
    # Without the caches, whose rows begin with the prompt and not with zeros.
    old = dataclasses.replace(state, cache=nothing, ancestor_cache=None)
    fields = jax.tree.map(put, old, fresh)
    second = state.ancestor_cache
    copy = lambda cache, source: _copy_rows(
        cache, insertion.slot, source, insertion.prompt
    )
    return dataclasses.replace(
        fields,
        cache=copy(state.cache, prompt_cache.specialist),
        ancestor_cache=second and copy(second, prompt_cache.ancestor),
    )


def _copy_rows(
    into: KVCache, rows: Int[Array, "R"], source: KVCache, which: Int[Array, "R"]
) -> KVCache:
    """Copy rows `which` of `source` over the start of rows `rows` of `into`.

    Rows beyond the last, at the end, are not copied. Entries that do not fit are pads:
    a row is inserted only where its prompt fits. One row after the other: a scatter
    would write all rows to a buffer first, those that are not used, too.
    """
    size = min(into.size, source.size)

    def put(i, into: KVCache) -> KVCache:
        copy = lambda to, given: to.copy_row(rows[i], given, which[i], size)
        return KVCache(tuple(map(copy, into.layers, source.layers)))

    count = into.layers[0].rows
    return jax.lax.fori_loop(0, jnp.sum(rows < count), put, into)


def _extended(
    kept: KVCache, r: Reading, before: KVCache, new: tuple[tuple[Array, Array], ...]
) -> KVCache:
    """Prompts with the entries of parts, after those that they go on from.

    `new` has keys and values of each array of the cache. A loop that runs once or not
    at all leaves the cache where it lies; a branch would copy it.
    """
    count = kept.layers[0].rows
    axis = kept.layers[0].v.ndim - 4

    def put(i, kept: KVCache) -> KVCache:
        row = r.into[i]
        copy = lambda to, given: to.copy_row(row, given, i, before.size)
        whole = lambda _, kept: KVCache(tuple(map(copy, kept.layers, before.layers)))
        other = (r.source[i] != row).astype(jnp.int32)
        kept = jax.lax.fori_loop(0, other, whole, kept)
        one = lambda x: jax.lax.dynamic_slice_in_dim(x, i, 1, axis)
        write = lambda to, k, v: to.put(row, r.begin[i], one(k), one(v))
        pairs = zip(kept.layers, new)
        return KVCache(tuple(write(to, *given) for to, given in pairs))

    return jax.lax.fori_loop(0, jnp.sum(r.into < count), put, kept)


def apply_edit(state: DecodeState, edit: Edit) -> DecodeState:
    """Release paused rows with the values of an edit.

    A rewound row keeps cache entries [0, length). Its detectors start again from zero:
    scores from before the cut may have left the ring.

    Args:
        state: The batch.
        edit: New values of the rows in `edit.mask`.

    Returns:
        The batch; rows outside the mask are unchanged.
    """
    take = functools.partial(_take, edit.mask)
    rewound = (edit.mask & (edit.generated < state.generated))[:, None]
    return dataclasses.replace(
        state,
        last_token=take(edit.last_token, state.last_token),
        length=take(edit.length, state.length),
        generated=take(edit.generated, state.generated),
        done=take(edit.done, state.done),
        paused=state.paused & ~edit.mask,
        # The edit's forced tokens begin at their first.
        forced_index=take(jnp.zeros_like(state.forced_index), state.forced_index),
        fired=take(edit.fired, state.fired),
        heat_left=take(edit.heat_left, state.heat_left),
        tokens_since_switch=take(edit.tokens_since_switch, state.tokens_since_switch),
        key=take(edit.key, state.key),
        scores=jnp.where(rewound, 0.0, state.scores),
        memory=jnp.where(rewound, 0.0, state.memory),
        rows=dataclasses.replace(
            state.rows, forced=take(edit.forced, state.rows.forced)
        ),
    )


def _take(mask: Bool[Array, "B"], new: Array, old: Array) -> Array:
    """Whole rows of `new` where the mask is set, of `old` elsewhere."""
    return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)
