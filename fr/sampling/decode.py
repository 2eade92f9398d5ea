"""The compiled loop of sampling: chunks of fixed length, a token of every live row a step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fr.models.transformer import KVCache, Transformer
from fr.sampling import logits as lg
from fr.sampling import steering
from fr.sampling import token_stats as stats
from fr.sampling.state import DecodeState, Models
from fr.sampling.structs import Emission


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
            second, ancestor_cache = _logits(
                ancestor, params.ancestor, state, state.ancestor_cache
            )
            second = stats.defer(specialist, second, tau, ancestor.config.masked)
        state, emission = (
            emit(state, specialist, second, tau)
            if statistics
            else draw_only(state, specialist)
        )
        # One block: XLA copies a whole buffer for an update of a few hundred bytes, and the host fetches once.
        # float32 holds every token id below 2**24 exactly.
        block = jnp.stack(
            [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(emission)]
        )
        return state.replace(cache=cache, ancestor_cache=ancestor_cache), block

    return jax.lax.scan(step, state, None, length=steps)


def _logits(model: Transformer, params: dict, state: DecodeState, cache: KVCache):
    live = ~(state.done | state.paused)
    positions = jnp.where(live, state.length, -1)
    logits, cache = model.apply(
        {"params": params}, state.last[:, None], positions[:, None], cache
    )
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
    ring = state.scores.at[
        jnp.arange(score.shape[0]), state.generated % steering.RING
    ].set(score)
    total = steering.windowed(ring, state.generated, rows.detector_width)
    memory = steering.remember(
        state.memory, rows, score, moments.top20_confidence, ~forced
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
    # Forced tokens come last: nothing may overrule what was pushed.
    token = jnp.where(forced, waiting, token)
    sample_logp = jnp.where(forced, forced_logp, sample_logp)
    moments = moments.replace(logp=stats.log_prob(reading, token))
    if lineage is not None:
        lineage = stats.for_token(lineage, stats.delta_path(reading, theirs, token))
    emission = Emission(
        token, live, forced & live, fired, sample_logp, moments, lineage
    )
    return _advance(state, emission, ring, memory), emission


def draw_only(
    state: DecodeState, logits: Float[Array, "B V"]
) -> tuple[DecodeState, Emission]:
    """One token a row from its logits, drawn or forced, with its log-prob and nothing else."""
    live, waiting = ~(state.done | state.paused), _waiting(state)
    forced = waiting >= 0
    token, sample_logp, forced_logp = _first_draw(
        state, logits, lg.uniforms(state.key, state.generated)[:, 0], waiting
    )
    token, sample_logp = _choose(forced, (waiting, forced_logp), (token, sample_logp))
    emission = Emission(
        token, live, forced & live, jnp.zeros_like(live), sample_logp, None, None
    )
    return _advance(state, emission, state.scores, state.memory), emission


def _waiting(state: DecodeState) -> Int[Array, "B"]:
    """The token at the head of each row's forced queue; -1 where it is empty."""
    at = state.forced_at[:, None]
    return jnp.take_along_axis(
        state.rows.forced, at, axis=-1, mode="fill", fill_value=-1
    )[:, 0]


def _first_draw(
    state: DecodeState,
    logits: Float[Array, "B V"],
    uniform: Float[Array, "B"],
    waiting: Int[Array, "B"],
) -> tuple[Int[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
    """The token that each row draws by its own rules, its log-prob, and that of the token that waits."""
    rows = state.rows
    temperature = jnp.where(state.hot > 0, rows.local_temperature, rows.temperature)
    greedy = temperature <= 0

    def drawn(z, t):
        token, logp = lg.draw(z, uniform, greedy, t)
        return token, logp, lg.other_log_prob(z, t, token, logp, waiting)

    def altered_draw():
        z = lg.temper(_withhold(state, logits), temperature)
        kept = lg.restrict(z, rows.top_p, rows.top_k, rows.min_p)
        return drawn(kept, jnp.ones_like(temperature))

    # Rows without a filter or a penalty take the same numbers whoever is beside them, and no copy of the logits.
    altered = (
        (rows.top_p < 1)
        | (rows.top_k > 0)
        | (rows.min_p > 0)
        | _young(state)
        | _begins(state)
    )
    plain = drawn(logits, temperature)
    return jax.lax.cond(
        jnp.any(altered), lambda: _choose(altered, altered_draw(), plain), lambda: plain
    )


def _choose(replaced, second, first):
    return tuple(jnp.where(replaced, a, b) for a, b in zip(second, first))


def _young(state: DecodeState) -> Bool[Array, "B"]:
    return (state.rows.switch_penalty > 0) & (state.thought < state.rows.switch_window)


def _begins(state: DecodeState) -> Bool[Array, "B"]:
    """Rows that draw their first token and may not draw any."""
    return (state.generated == 0) & (state.rows.avoid[:, 0] >= 0)


def _withhold(state: DecodeState, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """Thought-switch penalty (TIP, arXiv 2501.18585) while the current thought is young; avoided first tokens."""
    rows, young, begins = state.rows, _young(state), _begins(state)

    def forbid(z):
        at = jnp.where((rows.avoid >= 0) & begins[:, None], rows.avoid, z.shape[-1])
        return z.at[jnp.arange(z.shape[0])[:, None], at].set(lg.OFF, mode="drop")

    def penalise(z):
        at = jnp.where(rows.switch_tokens >= 0, rows.switch_tokens, z.shape[-1])
        amount = jnp.where(young, rows.switch_penalty, 0.0)[:, None]
        return z.at[jnp.arange(z.shape[0])[:, None], at].add(-amount, mode="drop")

    logits = jax.lax.cond(jnp.any(begins), forbid, lambda z: z, logits)
    return jax.lax.cond(jnp.any(young), penalise, lambda z: z, logits)


def _advance(
    state: DecodeState,
    emission: Emission,
    ring: Float[Array, "B W"],
    memory: Float[Array, "B 4"],
) -> DecodeState:
    """Count the emitted token of live rows; leave the others as they are."""
    rows, live, token = state.rows, emission.valid, emission.token
    among: Callable = lambda wanted: jnp.any(token[:, None] == wanted, axis=-1) & live
    one = live.astype(jnp.int32)
    generated = state.generated + one
    heated = emission.fired & (rows.operator == steering.HEAT)
    # A NaN or +inf among a row's logits makes every log-prob NaN: the row ends, and the host stops the run.
    broken = live & jnp.isnan(emission.sample_logp)
    over = (generated >= rows.budget) | steering.gives_up(rows, memory)
    done = state.done | among(rows.stop) | (live & over) | broken
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
        memory=jnp.where(live[:, None], memory, state.memory),
    )
