"""The compiled side of sampling: rows enter behind a prefill, decode in fixed chunks, and are edited while paused."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.models.transformer import KVCache, LayerCache, Transformer, init_cache
from fr.sampling import logits as lg
from fr.sampling import stats, steering
from fr.types import Emission, RowParams


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
    key: UInt[Array, "B 2"]
    rows: RowParams
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
    rows: RowParams


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


def init_state(model: Transformer, ancestor: Transformer | None, rows: RowParams, size: int) -> DecodeState:
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
        key=jnp.zeros((b, 2), jnp.uint32),
        rows=rows,
        cache=cache(model),
        ancestor_cache=cache(ancestor),
    )


def init_prefixes(model: Transformer, ancestor: Transformer | None, count: int, size: int) -> Prefixes:
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


def enter(params: Models, state: DecodeState, prefixes: Prefixes, entry: Entry) -> DecodeState:
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
        ancestor_cache=second and _put(second, entry.slot, prefixes.ancestor, entry.prompt),
    )


def _put(into: KVCache, rows: Int[Array, "R"], given: KVCache, which: Int[Array, "R"]) -> KVCache:
    """Write rows `which` of one cache over the beginnings of rows of another; rows beyond the last are dropped.

    Entries that do not fit are pads: a row is let in only where its prompt fits.
    """
    size = min(into.size, given.size)

    def layer(to: LayerCache, source: LayerCache) -> LayerCache:
        k, v = source.k[which, :, :, :size], source.v[which, :, :size]
        return LayerCache(
            k=to.k.at[rows, :, :, :size].set(k, mode="drop"), v=to.v.at[rows, :, :size].set(v, mode="drop")
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
        return KVCache(tuple(LayerCache(fit(c.k, 3), fit(c.v, 2)) for c in cache.layers))

    second = state.ancestor_cache
    return state.replace(cache=change(state.cache), ancestor_cache=second and change(second))


def edit(state: DecodeState, change: Edit) -> DecodeState:
    """Release paused rows as the work source said; a rewound row keeps cache entries [0, length).

    Its detector's window starts anew: scores before the cut may have left the ring.
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
        rows=state.rows.replace(forced=take(change.forced, state.rows.forced)),
    )


def _take(mask: Bool[Array, "B"], new: Float[Array, "B ..."], old: Float[Array, "B ..."]):
    """Whole rows of `new` where the mask is set, of `old` elsewhere."""
    return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)


def decode_chunk(
    model: Transformer,
    ancestor: Transformer | None,
    steps: int,
    statistics: bool,
    params: Models,
    state: DecodeState,
    tau: Float[Array, ""],
) -> tuple[DecodeState, Float[Array, "steps F B"]]:
    """`steps` tokens of every live row, and the fields of their emissions as one block, in the order of `Emission`.

    Without `statistics` rows are drawn and nothing else: no detector, no steering, no ancestor. The length
    is fixed: a loop until all rows are done would tie every device to the slowest row.
    """

    def step(state: DecodeState, _):
        specialist, cache = _logits(model, params.specialist, state, state.cache)
        second, ancestor_cache = None, None
        if ancestor is not None:
            second, ancestor_cache = _logits(ancestor, params.ancestor, state, state.ancestor_cache)
        state, emission = emit(state, specialist, second, tau) if statistics else draw_only(state, specialist)
        # One block: XLA copies a whole buffer for an update of a few hundred bytes, and the host fetches once.
        # float32 holds every token id below 2**24 exactly.
        block = jnp.stack([leaf.astype(jnp.float32) for leaf in jax.tree.leaves(emission)])
        return state.replace(cache=cache, ancestor_cache=ancestor_cache), block

    return jax.lax.scan(step, state, None, length=steps)


def _logits(model: Transformer, params: dict, state: DecodeState, cache: KVCache):
    live = ~(state.done | state.paused)
    positions = jnp.where(live, state.length, -1)
    logits, cache = model.apply({"params": params}, state.last[:, None], positions[:, None], cache)
    return logits[:, 0], cache


def emit(
    state: DecodeState,
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"] | None,
    tau: Float[Array, ""],
) -> tuple[DecodeState, Emission]:
    """One token a row from its logits: draw, detect, steer, force; and the row's bookkeeping."""
    rows, live = state.rows, ~(state.done | state.paused)
    uniform, second_uniform = lg.uniforms(state.key, state.generated).T
    waiting = _waiting(state)
    forced = waiting >= 0
    token, sample_logp, forced_logp = _first_draw(state, specialist, uniform, waiting)

    reading = stats.read(specialist, tau)
    moments = stats.token_stats(reading, token)
    if ancestor is None:
        theirs, lineage = None, None
    else:
        theirs = stats.read(ancestor, tau, stats.ANCESTOR_TOP)
        lineage = stats.lineage_stats(reading, theirs, token)
    # A forced token says nothing of the specialist: it adds nothing to the window, here and in calibration.
    score = jnp.where(forced, 0.0, steering.detector_score(rows, moments, lineage))
    ring = state.scores.at[jnp.arange(score.shape[0]), state.generated % steering.RING].set(score)
    total = steering.windowed(ring, state.generated, rows.detector_width)
    fired = steering.fires(rows, total, state.generated, state.fired) & live & ~forced

    replaced = steering.discards(rows, fired)
    token, sample_logp = jax.lax.cond(
        jnp.any(replaced & live),
        lambda: _choose(
            replaced,
            steering.second_draw(
                rows, fired, _penalise_switch(state, specialist), ancestor, lineage, second_uniform
            ),
            (token, sample_logp),
        ),
        lambda: (token, sample_logp),
    )
    # Forced tokens come last: nothing may overrule what was pushed.
    token = jnp.where(forced, waiting, token)
    sample_logp = jnp.where(forced, forced_logp, sample_logp)
    moments = moments.replace(logp=stats.log_prob(reading, token))
    if lineage is not None:
        lineage = stats.for_token(lineage, stats.delta_path(reading, theirs, token))
    emission = Emission(token, live, forced & live, fired, sample_logp, moments, lineage)
    return _advance(state, emission, ring), emission


def draw_only(state: DecodeState, logits: Float[Array, "B V"]) -> tuple[DecodeState, Emission]:
    """One token a row from its logits, drawn or forced, with its log-prob and nothing else."""
    live, waiting = ~(state.done | state.paused), _waiting(state)
    forced = waiting >= 0
    token, sample_logp, forced_logp = _first_draw(
        state, logits, lg.uniforms(state.key, state.generated)[:, 0], waiting
    )
    token, sample_logp = _choose(forced, (waiting, forced_logp), (token, sample_logp))
    emission = Emission(token, live, forced & live, jnp.zeros_like(live), sample_logp, None, None)
    return _advance(state, emission, state.scores), emission


def _waiting(state: DecodeState) -> Int[Array, "B"]:
    """The token at the head of each row's forced queue; -1 where it is empty."""
    at = state.forced_at[:, None]
    return jnp.take_along_axis(state.rows.forced, at, axis=-1, mode="fill", fill_value=-1)[:, 0]


def _first_draw(
    state: DecodeState, logits: Float[Array, "B V"], uniform: Float[Array, "B"], waiting: Int[Array, "B"]
) -> tuple[Int[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
    """The token that each row draws by its own rules, its log-prob, and that of the token that waits."""
    rows = state.rows
    temperature = jnp.where(state.hot > 0, rows.local_temperature, rows.temperature)
    greedy = temperature <= 0

    def drawn(z, t):
        token, logp = lg.draw(z, uniform, greedy, t)
        return token, logp, lg.other_log_prob(z, t, token, logp, waiting)

    def altered_draw():
        z = lg.temper(_penalise_switch(state, logits), temperature)
        return drawn(lg.restrict(z, rows.top_p, rows.top_k), jnp.ones_like(temperature))

    # Rows without a filter or a penalty take the same numbers whoever is beside them, and no copy of the logits.
    altered = (rows.top_p < 1) | (rows.top_k > 0) | _young(state)
    plain = drawn(logits, temperature)
    return jax.lax.cond(jnp.any(altered), lambda: _choose(altered, altered_draw(), plain), lambda: plain)


def _choose(replaced, second, first):
    return tuple(jnp.where(replaced, a, b) for a, b in zip(second, first))


def _young(state: DecodeState) -> Bool[Array, "B"]:
    return (state.rows.switch_penalty > 0) & (state.thought < state.rows.switch_window)


def _penalise_switch(state: DecodeState, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """Thought-switch penalty (TIP, arXiv 2501.18585), while the current thought is young."""
    rows, young = state.rows, _young(state)

    def penalise(z):
        at = jnp.where(rows.switch_tokens >= 0, rows.switch_tokens, z.shape[-1])
        amount = jnp.where(young, rows.switch_penalty, 0.0)[:, None]
        return z.at[jnp.arange(z.shape[0])[:, None], at].add(-amount, mode="drop")

    return jax.lax.cond(jnp.any(young), penalise, lambda z: z, logits)


def _advance(state: DecodeState, emission: Emission, ring: Float[Array, "B W"]) -> DecodeState:
    """Count the emitted token of live rows; leave the others as they are."""
    rows, live, token = state.rows, emission.valid, emission.token
    among: Callable = lambda wanted: jnp.any(token[:, None] == wanted, axis=-1) & live
    one = live.astype(jnp.int32)
    generated = state.generated + one
    heated = emission.fired & (rows.operator == steering.HEAT)
    done = state.done | among(rows.stop) | (live & (generated >= rows.budget))
    return state.replace(
        last=jnp.where(live, token, state.last),
        length=state.length + one,
        generated=generated,
        done=done,
        paused=state.paused | (among(rows.pause) & ~done),
        forced_at=state.forced_at + emission.forced,
        fired=state.fired | emission.fired,
        hot=jnp.where(heated, rows.local_span, jnp.maximum(state.hot - one, 0)),
        thought=jnp.where(among(rows.switch_tokens), 0, state.thought + one),
        scores=jnp.where(live[:, None], ring, state.scores),
    )
