"""The compiled side of sampling: rows enter behind a prefill, decode in fixed chunks, and are edited while paused."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt

from fr.models.transformer import KVCache, Transformer, init_cache
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
class Entry:
    """Rows to enter: prompts less their last token, read once each, and the slots that continue them."""

    prompts: Int[Array, "G P"]  # -1 pads on the right
    mask: Bool[Array, "B"]  # slots that are entered
    prompt: Int[Array, "B"]  # which of the G prompts
    last: Int[Array, "B"]  # the prompt's last token
    length: Int[Array, "B"]  # its length less one
    key: UInt[Array, "B 2"]
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


def enter(
    model: Transformer, ancestor: Transformer | None, params: Models, state: DecodeState, entry: Entry
) -> DecodeState:
    """Prefill each prompt once, expand it to its rows' slots, and reset those slots."""
    take = functools.partial(_take, entry.mask)
    zero = jnp.zeros_like(state.last)
    fresh = state.replace(
        last=entry.last,
        length=entry.length,
        generated=zero,
        done=jnp.zeros_like(state.done),
        paused=jnp.zeros_like(state.paused),
        forced_at=zero,
        fired=jnp.zeros_like(state.fired),
        hot=zero,
        thought=zero,
        scores=jnp.zeros_like(state.scores),
        key=entry.key,
        rows=entry.rows,
        cache=None,
        ancestor_cache=None,
    )
    fields = jax.tree.map(take, fresh, state.replace(cache=None, ancestor_cache=None))
    cache = _fill(model, params.specialist, state.cache, entry)
    second = None if ancestor is None else _fill(ancestor, params.ancestor, state.ancestor_cache, entry)
    return fields.replace(cache=cache, ancestor_cache=second)


def _take(mask: Bool[Array, "B"], new: Float[Array, "B ..."], old: Float[Array, "B ..."]):
    """Whole rows of `new` where the mask is set, of `old` elsewhere."""
    return jnp.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)


def _fill(model: Transformer, params: dict, cache: KVCache, entry: Entry) -> KVCache:
    groups, size = entry.prompts.shape
    positions = jnp.where(entry.prompts >= 0, jnp.arange(size), -1)
    prefix = init_cache(model.config, groups, size, model.dtype)
    _, prefix = model.apply({"params": params}, entry.prompts, positions, prefix, method="hidden")
    into = min(size, cache.size)

    def put(full: Float[Array, "L B S K H"], new: Float[Array, "L G P K H"]):
        rows = new[:, entry.prompt, :into]
        return full.at[:, :, :into].set(jnp.where(entry.mask[:, None, None, None], rows, full[:, :, :into]))

    return KVCache(k=put(cache.k, prefix.k), v=put(cache.v, prefix.v))


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


def decode_chunk(
    model: Transformer,
    ancestor: Transformer | None,
    steps: int,
    params: Models,
    state: DecodeState,
    tau: Float[Array, ""],
) -> tuple[DecodeState, Emission]:
    """`steps` tokens of every live row; emissions come stacked as [steps, B].

    The length is fixed: a loop until all rows are done would tie every device to the slowest row.
    """

    def step(state: DecodeState, _):
        specialist, cache = _logits(model, params.specialist, state, state.cache)
        second, ancestor_cache = None, None
        if ancestor is not None:
            second, ancestor_cache = _logits(ancestor, params.ancestor, state, state.ancestor_cache)
        state, emission = emit(state, specialist, second, tau)
        return state.replace(cache=cache, ancestor_cache=ancestor_cache), emission

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
    allowed = _penalise_switch(state, specialist)
    temperature = jnp.where(state.hot > 0, rows.local_temperature, rows.temperature)
    ready = lg.restrict(lg.temper(allowed, temperature), rows.top_p, rows.top_k)
    token, sample_logp = lg.draw(ready, uniform, temperature <= 0)

    moments = stats.token_stats(specialist, token, tau)
    lineage = None if ancestor is None else stats.lineage_stats(specialist, ancestor, token, tau)
    waiting = jnp.take_along_axis(rows.forced, state.forced_at[:, None], axis=-1, mode="fill", fill_value=-1)[
        :, 0
    ]
    forced = waiting >= 0
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
            steering.second_draw(rows, fired, ready, allowed, ancestor, lineage, second_uniform),
            (token, sample_logp),
        ),
        lambda: (token, sample_logp),
    )
    # Forced tokens come last: nothing may overrule what was pushed.
    token = jnp.where(forced, waiting, token)
    sample_logp = jnp.where(forced, stats.log_prob(ready, token), sample_logp)
    moments = moments.replace(logp=stats.log_prob(specialist, token))
    if lineage is not None:
        lineage = stats.for_token(lineage, stats.delta_path(specialist, ancestor, token, tau))
    emission = Emission(token, live, forced & live, fired, sample_logp, moments, lineage)
    return _advance(state, emission, ring), emission


def _choose(replaced, second, first):
    return tuple(jnp.where(replaced, a, b) for a, b in zip(second, first))


def _penalise_switch(state: DecodeState, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """Thought-switch penalty (TIP, arXiv 2501.18585), while the current thought is young."""
    rows = state.rows
    young = (rows.switch_penalty > 0) & (state.thought < rows.switch_window)

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
