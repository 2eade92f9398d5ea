"""A batch in flight: its state, and what the host does to it between chunks (read, enter, edit, resize)."""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.models.transformer import KVCache, LayerCache, Transformer, init_cache
from fr.sampling import steering
from fr.sampling.structs import SamplingParams


@struct.dataclass
class DecodeState:
    """A batch in flight. Cache entries [0, length[b]) of row b are live; `last` is fed next, at entry length[b].

    A row is live unless `done` or `paused`; a free slot is done. A key is folded with `generated`, which counts
    forced tokens too, so a draw depends on the row alone.
    """

    last: Int[Array, "B"]
    length: Int[Array, "B"]
    generated: Int[Array, "B"]
    done: Bool[Array, "B"]
    paused: Bool[Array, "B"]
    forced_at: Int[Array, "B"]  # next entry of the row's forced queue
    fired: Bool[Array, "B"]
    hot: Int[Array, "B"]  # tokens that are still drawn at the local temperature
    thought: Int[Array, "B"]  # tokens since the last switch token
    scores: Float[Array, "B W"]  # ring of detector scores
    memory: Float[Array, "B 4"]  # of drawn tokens, as `steering.remember` has it
    key: UInt[Array, "B 2"]
    rows: SamplingParams
    cache: KVCache
    ancestor_cache: KVCache | None


@struct.dataclass
class Models:
    """Parameters of the specialist and, where one decodes beside it, of the ancestor."""

    specialist: dict
    ancestor: dict | None


@struct.dataclass
class Prefixes:
    """Prompts that have been read, less their last token: where the rows of a prompt get their cache from."""

    specialist: KVCache
    ancestor: KVCache | None


@struct.dataclass
class Entry:
    """Rows to enter: R of them, a slot of B marks one that is not there."""

    slot: Int[Array, "R"]
    prompt: Int[Array, "R"]  # which of the prefixes
    last: Int[Array, "R"]  # the prompt's last token
    length: Int[Array, "R"]  # its length less one
    key: UInt[Array, "R 2"]
    rows: SamplingParams


@struct.dataclass
class Edit:
    """What the work source wants of paused rows: a cut, tokens to push, an end."""

    mask: Bool[Array, "B"]
    done: Bool[Array, "B"]
    last: Int[Array, "B"]
    length: Int[Array, "B"]
    generated: Int[Array, "B"]
    fired: Bool[Array, "B"]
    hot: Int[Array, "B"]
    thought: Int[Array, "B"]
    key: UInt[Array, "B 2"]
    forced: Int[Array, "B Q"]


def cache_size(need: int) -> int:
    """Entries of a cache, or of a padded prompt, that holds `need`: few sizes, since each is a program of its own.

    Powers of two and, from 96 on, three quarters of them.
    """
    power = max(32, 1 << max(need - 1, 0).bit_length())
    return power * 3 // 4 if power >= 128 and need <= power * 3 // 4 else power


def cache_sizes(limit: int) -> tuple[int, ...]:
    """All sizes of caches that grow up to `limit` entries, the smallest first, `limit` the last."""
    sizes = [min(cache_size(1), limit)]
    while sizes[-1] < limit:
        sizes.append(min(cache_size(sizes[-1] + 1), limit))
    return tuple(sizes)


def init_state(
    model: Transformer, ancestor: Transformer | None, rows: SamplingParams, size: int
) -> DecodeState:
    """An empty batch: every slot free, caches of `size` entries. `rows` gives the widths."""
    b = rows.temperature.shape[0]
    zeros = jnp.zeros(b, jnp.int32)
    cache = lambda m: None if m is None else init_cache(m.config, b, size, m.dtype)
    return DecodeState(
        last=zeros,
        length=zeros,
        generated=zeros,
        done=jnp.ones(b, bool),
        paused=jnp.zeros(b, bool),
        forced_at=zeros,
        fired=jnp.zeros(b, bool),
        hot=zeros,
        thought=zeros,
        scores=jnp.zeros((b, steering.RING)),
        memory=jnp.zeros((b, 4)),
        key=jnp.zeros((b, 2), jnp.uint32),
        rows=rows,
        cache=cache(model),
        ancestor_cache=cache(ancestor),
    )


def init_prefixes(
    model: Transformer, ancestor: Transformer | None, count: int, size: int
) -> Prefixes:
    """Room for `count` prompts of up to `size` + 1 tokens."""
    cache = lambda m: None if m is None else init_cache(m.config, count, size, m.dtype)
    return Prefixes(cache(model), cache(ancestor))


def read(
    model: Transformer,
    ancestor: Transformer | None,
    params: Models,
    prefixes: Prefixes,
    prompts: Int[Array, "G P"],
    into: Int[Array, "G"],
) -> Prefixes:
    """Prefill prompts (-1 pads on the right) into the given places; a place beyond the last marks none."""

    def fill(m: Transformer | None, p: dict, kept: KVCache | None):
        if m is None:
            return None
        positions = jnp.where(prompts >= 0, jnp.arange(prompts.shape[1]), -1)
        fresh = init_cache(m.config, *prompts.shape, m.dtype)
        _, fresh = m.apply({"params": p}, prompts, positions, fresh, method="hidden")
        return _put(kept, into, fresh, jnp.arange(prompts.shape[0]))

    return Prefixes(
        fill(model, params.specialist, prefixes.specialist),
        fill(ancestor, params.ancestor, prefixes.ancestor),
    )


def enter(
    params: Models, state: DecodeState, prefixes: Prefixes, entry: Entry
) -> DecodeState:
    """Reset the slots of new rows and give each the cache of its prompt."""
    zero = jnp.zeros_like(entry.last)
    fresh = state.replace(
        last=entry.last,
        length=entry.length,
        generated=zero,
        done=zero.astype(bool),
        paused=zero.astype(bool),
        forced_at=zero,
        fired=zero.astype(bool),
        hot=zero,
        thought=zero,
        scores=jnp.zeros((zero.size, steering.RING)),
        memory=jnp.zeros((zero.size, 4)),
        key=entry.key,
        rows=entry.rows,
        cache=None,
        ancestor_cache=None,
    )
    put = lambda old, new: old.at[entry.slot].set(new, mode="drop")
    fields = jax.tree.map(put, state.replace(cache=None, ancestor_cache=None), fresh)
    second = state.ancestor_cache
    return fields.replace(
        cache=_put(state.cache, entry.slot, prefixes.specialist, entry.prompt),
        ancestor_cache=second
        and _put(second, entry.slot, prefixes.ancestor, entry.prompt),
    )


def _put(
    into: KVCache, rows: Int[Array, "R"], given: KVCache, which: Int[Array, "R"]
) -> KVCache:
    """Write rows `which` of one cache over the beginnings of rows of another; rows beyond the last are dropped.

    Entries that do not fit are pads: a row is let in only where its prompt fits.
    """
    size = min(into.size, given.size)

    def layer(to: LayerCache, source: LayerCache) -> LayerCache:
        k, v = source.k[which, :, :, :size], source.v[which, :, :size]
        return LayerCache(
            k=to.k.at[rows, :, :, :size].set(k, mode="drop"),
            v=to.v.at[rows, :, :size].set(v, mode="drop"),
        )

    return KVCache(tuple(map(layer, into.layers, given.layers)))


def resize(state: DecodeState, size: int) -> DecodeState:
    """The same batch with caches of `size` entries: longer ones, or what is left of too long ones."""

    def change(cache: KVCache) -> KVCache:
        more = size - cache.size
        fit = lambda x, axis: (
            jnp.pad(x, [(0, more * (i == axis)) for i in range(4)])
            if more > 0
            else jax.lax.slice_in_dim(x, 0, size, axis=axis)
        )
        return KVCache(
            tuple(LayerCache(fit(c.k, 3), fit(c.v, 2)) for c in cache.layers)
        )

    second = state.ancestor_cache
    return state.replace(
        cache=change(state.cache), ancestor_cache=second and change(second)
    )


def edit(state: DecodeState, change: Edit) -> DecodeState:
    """Release paused rows as the work source said; a rewound row keeps cache entries [0, length).

    Its detectors start anew: scores before the cut may have left the ring.
    """
    take = functools.partial(_take, change.mask)
    rewound = (change.mask & (change.generated < state.generated))[:, None]
    return state.replace(
        last=take(change.last, state.last),
        length=take(change.length, state.length),
        generated=take(change.generated, state.generated),
        done=take(change.done, state.done),
        paused=state.paused & ~change.mask,
        forced_at=take(jnp.zeros_like(state.forced_at), state.forced_at),
        fired=take(change.fired, state.fired),
        hot=take(change.hot, state.hot),
        thought=take(change.thought, state.thought),
        key=take(change.key, state.key),
        scores=jnp.where(rewound, 0.0, state.scores),
        memory=jnp.where(rewound, 0.0, state.memory),
        rows=state.rows.replace(forced=take(change.forced, state.rows.forced)),
    )


def _take(
    mask: Bool[Array, "B"], new: Float[Array, "B ..."], old: Float[Array, "B ..."]
):
    """Whole rows of `new` where the mask is set, of `old` elsewhere."""
    return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)
