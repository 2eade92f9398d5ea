"""Steering as arithmetic on a row's numbers: when a row fires, and what is then emitted (arXiv 2606.05145)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fr.sampling import logits as lg
from fr.sampling.structs import LineageStats, SamplingParams, TokenStats

# SamplingParams.operator
PLAIN, STEER_ONCE, STEER_DENSE, STEER_SAMPLED, HEAT = range(5)
NEEDS_ANCESTOR = (STEER_ONCE, STEER_DENSE, STEER_SAMPLED)
# SamplingParams.geodesic: path (e-mixture), coverage (m-mixture), the one with the larger Z
# at the fire, the other one
PATH, COVERAGE, CHOSEN, OTHER = range(4)
# SamplingParams.detector: J, max(Z_path, Z_cov), V (needs no ancestor)
DEMOTION, Z_SCORE, LOGIT_VAR = range(3)

RING = 16  # widest window that a detector can sum over
# What a row remembers of the tokens that it has drawn: their number, the mean of their scores, the Page-Hinkley
# statistic, and the running mean of their confidence.
COUNT, MEAN, RISE, ASSURED = range(4)


def z_cov(lineage: LineageStats, rows: SamplingParams) -> Float[Array, "B"]:
    """Z_cov = max(0, (g_cov - mean) / sd) against the problem's own background; sd 0 gives 0."""
    z = (lineage.g_cov - rows.cov_mean) / jnp.where(rows.cov_sd > 0, rows.cov_sd, 1.0)
    return jnp.where(rows.cov_sd > 0, jnp.maximum(z, 0.0), 0.0)


def detector_score(
    rows: SamplingParams, stats: TokenStats, lineage: LineageStats | None
) -> Float[Array, "B"]:
    """What each row's detector sums up, for the token that was drawn."""
    if lineage is None:
        return stats.logit_var
    z = jnp.maximum(lineage.z_path, z_cov(lineage, rows))
    return jnp.select(
        [rows.detector == DEMOTION, rows.detector == Z_SCORE],
        [lineage.demotion, z],
        stats.logit_var,
    )


def windowed(
    scores: Float[Array, "B W"], index: Int[Array, "B"], width: Int[Array, "B"]
) -> Float[Array, "B"]:
    """Sum of a ring of scores over the last `width` tokens, the one at `index` included."""
    age = (index[:, None] - jnp.arange(RING)) % RING
    return jnp.sum(jnp.where(age < width[:, None], scores, 0.0), axis=-1)


def remember(
    memory: Float[Array, "B 4"],
    rows: SamplingParams,
    score: Float[Array, "B"],
    confidence: Float[Array, "B"],
    counts: Bool[Array, "B"],
) -> Float[Array, "B 4"]:
    """The memory with one more drawn token; of rows where `counts` is False (a forced token) as it was.

    Page-Hinkley, for a rise: PH_t = max(0, PH_{t-1} + x_t - mean(x_1..x_t) - drift), PH_0 = 0. Confidence
    (DeepConf's, arXiv 2508.15260) as c_t = c_{t-1} + (C_t - c_{t-1}) / min(t, floor_window): a window of 2,048
    tokens would have to be kept, an exponential one of the same time constant is one number [ours].
    """
    count = memory[:, COUNT] + 1
    mean = memory[:, MEAN] + (score - memory[:, MEAN]) / count
    rise = jnp.maximum(memory[:, RISE] + score - mean - rows.drift, 0.0)
    old = memory[:, ASSURED]
    assured = old + (confidence - old) / jnp.minimum(count, rows.floor_window)
    new = jnp.stack([count, mean, rise, assured], axis=-1)
    return jnp.where(counts[:, None], new, memory)


def gives_up(rows: SamplingParams, memory: Float[Array, "B 4"]) -> Bool[Array, "B"]:
    """Rows whose running confidence has fallen below their floor, once it is a mean over its window."""
    return (memory[:, COUNT] >= rows.floor_window) & (memory[:, ASSURED] < rows.floor)


def fires(
    rows: SamplingParams,
    total: Float[Array, "B"],
    generated: Int[Array, "B"],
    fired: Bool[Array, "B"],
) -> Bool[Array, "B"]:
    """Rows that fire on this token: once, at their fixed position if they have one, else above their threshold."""
    able = ((rows.operator == STEER_ONCE) | (rows.operator == HEAT)) & ~fired
    detected = (generated >= rows.warmup) & (total > rows.threshold)
    return able & jnp.where(
        rows.fire_position >= 0, generated == rows.fire_position, detected
    )


def mix(
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"],
    alpha: Float[Array, "B"],
    temperature: Float[Array, "B"],
    coverage: Bool[Array, "B"],
) -> Float[Array, "B V"]:
    """Ready-to-draw logits of the mixture: e (path) is a z_S + (1-a) z_A over T, m (coverage) log(a p_S + (1-a) p_A).

    In the m-mixture p is at the row's temperature already and is not divided again. Ids that the ancestor lacks
    are out of the mixture.
    """
    shared = min(specialist.shape[-1], ancestor.shape[-1])
    s, a = (
        lg.temper(specialist[:, :shared], temperature),
        lg.temper(ancestor[:, :shared], temperature),
    )
    w = alpha[:, None]
    path = w * s + (1 - w) * a
    # log 0 = -inf at the ends of alpha is what the sum wants: the other side alone is left.
    log_w, log_v = jnp.log(w), jnp.log1p(-w)
    # A weight above 1 is for the path alone, and gives no number here, where nothing is taken from.
    both = jnp.logaddexp(
        jax.nn.log_softmax(s, -1) + log_w, jax.nn.log_softmax(a, -1) + log_v
    )
    mixed = jnp.where(coverage[:, None], both, path)
    return jnp.pad(
        mixed, ((0, 0), (0, specialist.shape[-1] - shared)), constant_values=-1e30
    )


def by_coverage(rows: SamplingParams, lineage: LineageStats) -> Bool[Array, "B"]:
    """Whether a row mixes by coverage, not by path: fixed, or the larger (or, as a control, smaller) Z."""
    larger = z_cov(lineage, rows) > lineage.z_path
    return jnp.select(
        [rows.geodesic == PATH, rows.geodesic == COVERAGE, rows.geodesic == CHOSEN],
        [jnp.zeros_like(larger), jnp.ones_like(larger), larger],
        ~larger,
    )


def second_draw(
    rows: SamplingParams,
    fired: Bool[Array, "B"],
    specialist: Float[Array, "B V"],
    ancestor: Float[Array, "B V2"] | None,
    lineage: LineageStats | None,
    uniform: Float[Array, "B"],
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Token and log-prob of rows whose drawn token is discarded: heated, steered or dense ones.

    `specialist` are the logits before temperature. A steered or dense-greedy token is the mixture's argmax, its
    log-prob the mixture's.
    """
    heated = (rows.operator == HEAT) & fired
    temperature = jnp.where(heated, rows.local_temperature, rows.temperature)
    out, greedy = lg.temper(specialist, temperature), temperature <= 0
    if ancestor is not None:
        mixed = mix(
            specialist,
            ancestor,
            rows.alpha,
            rows.temperature,
            by_coverage(rows, lineage),
        )
        out = jnp.where((heated | (rows.operator == PLAIN))[:, None], out, mixed)
        greedy |= (rows.operator == STEER_ONCE) | (rows.operator == STEER_DENSE)
    kept = lg.restrict(out, rows.top_p, rows.top_k, rows.min_p)
    # Behind the filters: before them it would round the mixtures of rows that do not ask for it another way.
    wanted = jnp.any(rows.plausible > 0)
    kept = jax.lax.cond(
        wanted, lg.likely, lambda z, *_: z, kept, rows.plausible, specialist
    )
    return lg.draw(kept, uniform, greedy)


def discards(rows: SamplingParams, fired: Bool[Array, "B"]) -> Bool[Array, "B"]:
    """Rows whose drawn token is replaced by the second draw."""
    return fired | (rows.operator == STEER_DENSE) | (rows.operator == STEER_SAMPLED)
