"""The compiled loop of sampling: one token of every live row per step, in chunks."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fr.models.kv_cache import KVCache
from fr.models.transformer import Transformer
from fr.sampling import logits, steering, token_stats
from fr.sampling.state import DecodeState, ModelParams
from fr.sampling.structs import StepOutput


def decode_chunk(
    model: Transformer,
    ancestor: Transformer | None,
    steps: int,
    statistics: bool,
    keep_top: int,
    params: ModelParams,
    state: DecodeState,
    tau: Float[Array, ""],
) -> tuple[DecodeState, Float[Array, "steps F B"]]:
    """Decode `steps` tokens of every live row.

    The number of steps is fixed: a loop until all rows are done would tie every device
    to the slowest row.

    Args:
        model: The specialist, whose tokens are drawn.
        ancestor: The ancestor, or None.
        steps: Tokens per row.
        statistics: Emit statistics, detect and steer; otherwise rows are only drawn,
            and there is no ancestor.
        keep_top: Number of most probable tokens to emit with the statistics.
        params: Parameters of both models.
        state: The batch.
        tau: Diagnosis temperature.

    Returns:
        The batch after the steps, and the fields of each step's `StepOutput` as one
        float32 block, in their order.
    """
    whole, others = state.cache, state.ancestor_cache
    second_part = None if others is None else others.opened(steps)
    begun = dataclasses.replace(
        state, cache=whole.opened(steps), ancestor_cache=second_part
    )

    def step(state: DecodeState, _):
        own = params.variables(state.rows.vector, state.rows.vector_strength)
        specialist, cache = _next_logits(model, own, state, whole.joined(state.cache))
        second, ancestor_cache = None, None
        if ancestor is not None:
            second, ancestor_cache = _next_logits(
                ancestor,
                {"params": cast(dict, params.ancestor)},
                state,
                cast(KVCache, others).joined(cast(KVCache, state.ancestor_cache)),
            )
            second = token_stats.defer(specialist, second, tau, ancestor.config.masked)
        state, output = (
            emit(state, specialist, second, tau, keep_top)
            if statistics
            else _draw_only(state, specialist)
        )
        # One block: XLA copies a whole buffer for an update of a few hundred bytes, and
        # the host fetches once. float32 is exact for token ids below 2**24.
        block = jnp.stack(
            [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(output)]
        )
        state = dataclasses.replace(state, cache=cache, ancestor_cache=ancestor_cache)
        return state, block

    after, block = jax.lax.scan(step, begun, None, length=steps)
    entries = state.length, after.length - state.length
    second_part = after.ancestor_cache
    after = dataclasses.replace(
        after,
        cache=whole.closed(after.cache, *entries),
        ancestor_cache=others and others.closed(cast(KVCache, second_part), *entries),
    )
    return after, block


def _next_logits(
    model: Transformer, read: dict, state: DecodeState, cache: KVCache
) -> tuple[Any, Any]:
    """Logits [B, V] after each live row's last token, and the cache with it."""
    live = ~(state.done | state.paused)
    positions = jnp.where(live, state.length, -1)
    applied: Any = model.apply(
        read, state.last_token[:, None], positions[:, None], cache
    )
    found, written = applied
    return found[:, 0], written.part()


def emit(
    state: DecodeState,
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"] | None,
    tau: Float[Array, ""],
    keep_top: int = 0,
) -> tuple[DecodeState, StepOutput]:
    """Choose one token per row from its logits: draw, detect, steer, force.

    Args:
        state: The batch; its caches are not read.
        specialist: Float32 logits of the specialist.
        ancestor: Logits of the ancestor, or None.
        tau: Diagnosis temperature.
        keep_top: Number of most probable tokens to emit, at most `token_stats.TOP`.

    Returns:
        The batch with the token counted, and the step's output.
    """
    rows, live = state.rows, ~(state.done | state.paused)
    uniform, second_uniform = logits.uniforms(state.key, state.generated).T
    waiting = _waiting(state)
    forced = waiting >= 0
    token, sample_logp, forced_logp = _first_draw(state, specialist, uniform, waiting)

    moments = token_stats.logit_moments(specialist, tau)
    stats = token_stats.token_stats(moments, token)
    others, lineage = None, None
    if ancestor is not None:
        others = token_stats.logit_moments(ancestor, tau, token_stats.ANCESTOR_TOP)
        lineage = token_stats.lineage_stats(moments, others, token)
    # A forced token says nothing about the specialist: it adds nothing to the window,
    # here and in calibration.
    score = jnp.where(forced, 0.0, steering.detector_score(rows, stats, lineage))
    ring = state.scores.at[
        jnp.arange(score.shape[0]), state.generated % steering.RING
    ].set(score)
    total = steering.windowed(ring, state.generated, rows.detector_width)
    memory = steering.remember(
        state.memory, rows, score, stats.top20_confidence, ~forced
    )
    watched = jnp.where(rows.drift >= 0, memory[:, steering.RISE], total)
    fired = steering.fires(rows, watched, state.generated, state.fired) & live & ~forced

    replaced = steering.discards(rows, fired)
    token, sample_logp = jax.lax.cond(
        jnp.any(replaced & live),
        lambda: _choose(
            replaced,
            steering.second_draw(
                rows,
                fired,
                _withhold(state, specialist),
                ancestor,
                lineage,
                second_uniform,
            ),
            (token, sample_logp),
        ),
        lambda: (token, sample_logp),
    )
    # Forced tokens come last: nothing may overrule a pushed token.
    token = jnp.where(forced, waiting, token)
    sample_logp = jnp.where(forced, forced_logp, sample_logp)
    stats = dataclasses.replace(stats, logp=token_stats.log_prob(moments, token))
    if lineage is not None and others is not None:
        delta = token_stats.delta_path(moments, others, token)
        lineage = token_stats.for_token(lineage, delta)
    output = StepOutput(
        token,
        live,
        forced & live,
        fired,
        sample_logp,
        stats,
        lineage,
        *token_stats.most_probable(moments, keep_top),
    )
    return _advance(state, output, ring, memory), output


def _draw_only(
    state: DecodeState, specialist: Float[Array, "B V"]
) -> tuple[DecodeState, StepOutput]:
    """Choose one token per row, drawn or forced, without statistics; see `emit`."""
    live, waiting = ~(state.done | state.paused), _waiting(state)
    forced = waiting >= 0
    token, sample_logp, forced_logp = _first_draw(
        state, specialist, logits.uniforms(state.key, state.generated)[:, 0], waiting
    )
    token, sample_logp = _choose(forced, (waiting, forced_logp), (token, sample_logp))
    output = StepOutput(
        token, live, forced & live, jnp.zeros_like(live), sample_logp, None, None
    )
    return _advance(state, output, state.scores, state.memory), output


def _waiting(state: DecodeState) -> Int[Array, "B"]:
    """The first token of each row's forced queue; -1 if the queue is empty."""
    at = state.forced_index[:, None]
    return jnp.take_along_axis(
        state.rows.forced, at, axis=-1, mode="fill", fill_value=-1
    )[:, 0]


def _first_draw(
    state: DecodeState,
    specialist: Float[Array, "B V"],
    uniform: Float[Array, "B"],
    waiting: Int[Array, "B"],
) -> tuple[Int[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
    """Each row's own draw, its log-prob, and the log-prob of the waiting token."""
    rows = state.rows
    temperature = jnp.where(
        state.heat_left > 0, rows.local_temperature, rows.temperature
    )
    greedy = temperature <= 0

    def drawn(z, t):
        token, logp = logits.draw(z, uniform, greedy, t)
        return token, logp, logits.other_log_prob(z, t, token, logp, waiting)

    def altered_draw():
        z = logits.apply_temperature(_withhold(state, specialist), temperature)
        kept = logits.filter_top_k_top_p(z, rows.top_p, rows.top_k, rows.min_p)
        return drawn(kept, jnp.ones_like(temperature))

    # Rows without a filter or a penalty get the same numbers in every batch, and no
    # copy of the logits.
    altered = (
        (rows.top_p < 1)
        | (rows.top_k > 0)
        | (rows.min_p > 0)
        | _young(state)
        | _begins(state)
    )
    plain = drawn(specialist, temperature)
    return jax.lax.cond(
        jnp.any(altered), lambda: _choose(altered, altered_draw(), plain), lambda: plain
    )


def _choose(replaced, second, first):
    """Elements of `second` where `replaced`, of `first` elsewhere."""
    return tuple(jnp.where(replaced, a, b) for a, b in zip(second, first))


def _young(state: DecodeState) -> Bool[Array, "B"]:
    """Rows whose thought is younger than its window and that have a penalty."""
    rows = state.rows
    return (rows.switch_penalty > 0) & (state.tokens_since_switch < rows.switch_window)


def _begins(state: DecodeState) -> Bool[Array, "B"]:
    """Rows that draw their first token and must avoid some tokens there."""
    return (state.generated == 0) & (state.rows.avoid[:, 0] >= 0)


def _withhold(
    state: DecodeState, specialist: Float[Array, "B V"]
) -> Float[Array, "B V"]:
    """Logits of penalised tokens lowered while the current thought is young (TIP, arXiv
    2501.18585), and without tokens to avoid as the first.
    """
    rows, young, begins = state.rows, _young(state), _begins(state)

    def forbid(z):
        at = jnp.where((rows.avoid >= 0) & begins[:, None], rows.avoid, z.shape[-1])
        return z.at[jnp.arange(z.shape[0])[:, None], at].set(logits.OFF, mode="drop")

    def penalise(z):
        at = jnp.where(rows.penalised >= 0, rows.penalised, z.shape[-1])
        amount = jnp.where(young, rows.switch_penalty, 0.0)[:, None]
        return z.at[jnp.arange(z.shape[0])[:, None], at].add(-amount, mode="drop")

    allowed = jax.lax.cond(jnp.any(begins), forbid, lambda z: z, specialist)
    return jax.lax.cond(jnp.any(young), penalise, lambda z: z, allowed)


def _advance(
    state: DecodeState,
    output: StepOutput,
    ring: Float[Array, "B W"],
    memory: Float[Array, "B 4"],
) -> DecodeState:
    """Count the token of live rows; leave the other rows unchanged."""
    rows, live, token = state.rows, output.valid, output.token
    among = lambda wanted: jnp.any(token[:, None] == wanted, axis=-1) & live
    one = live.astype(jnp.int32)
    generated = state.generated + one
    heated = output.fired & (rows.operator == steering.HEAT)
    # A NaN or +inf among a row's logits makes every log-prob NaN: the row ends, and the
    # host stops the run.
    broken = live & jnp.isnan(output.sample_logp)
    over = (generated >= rows.budget) | steering.gives_up(rows, memory)
    paused = among(rows.pause)
    # A stop token that is a pause token, too, leaves the end to the work source.
    done = state.done | (among(rows.stop) & ~paused) | (live & over) | broken
    return dataclasses.replace(
        state,
        last_token=jnp.where(live, token, state.last_token),
        length=state.length + one,
        generated=generated,
        done=done,
        paused=state.paused | (paused & ~done),
        forced_index=state.forced_index + output.forced,
        fired=state.fired | output.fired,
        heat_left=jnp.where(
            heated, rows.local_span, jnp.maximum(state.heat_left - one, 0)
        ),
        tokens_since_switch=jnp.where(
            among(rows.switch_tokens), 0, state.tokens_since_switch + one
        ),
        scores=jnp.where(live[:, None], ring, state.scores),
        memory=jnp.where(live[:, None], memory, state.memory),
    )
