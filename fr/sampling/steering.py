"""Steering as arithmetic per row: when a row fires and what it then emits.

The detectors, geodesics and mixtures follow arXiv 2606.05145.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fr.sampling import logits
from fr.sampling.structs import LineageStats, SamplingParams, TokenStats

# Codes of SamplingParams.operator.
PLAIN, STEER_ONCE, STEER_DENSE, STEER_SAMPLED, HEAT = range(5)
NEEDS_ANCESTOR = (STEER_ONCE, STEER_DENSE, STEER_SAMPLED)
# Codes of SamplingParams.geodesic: path (e-mixture), coverage (m-mixture), the one with
# the larger Z at the fire, the other one.
PATH, COVERAGE, CHOSEN, OTHER = range(4)
# Codes of SamplingParams.detector: J, max(Z_path, Z_cov), V (needs no ancestor).
DEMOTION, Z_SCORE, LOGIT_VAR = range(3)

RING = 16  # widest window of tokens that a detector can sum over
# Columns of a row's memory of its drawn tokens: their number, the mean of their scores,
# the Page-Hinkley statistic, and the running mean of their confidence.
COUNT, MEAN, RISE, ASSURED = range(4)


def _z_cov(lineage: LineageStats, rows: SamplingParams) -> Float[Array, "B"]:
    """Standardised coverage gap Z_cov = max(0, (g_cov - mean) / sd), 0 where sd is 0;
    mean and sd are the problem's own background.
    """
    z = (lineage.g_cov - rows.cov_mean) / jnp.where(rows.cov_sd > 0, rows.cov_sd, 1.0)
    return jnp.where(rows.cov_sd > 0, jnp.maximum(z, 0.0), 0.0)


def detector_score(
    rows: SamplingParams, stats: TokenStats, lineage: LineageStats | None
) -> Float[Array, "B"]:
    """The quantity that each row's detector sums, for the drawn token.

    Args:
        rows: Parameters; `detector` selects J, max(Z_path, Z_cov) or V.
        stats: Statistics of the token.
        lineage: Its lineage statistics; None gives V for every row.

    Returns:
        The score.
    """
    if lineage is None:
        return stats.logit_var
    z = jnp.maximum(lineage.z_path, _z_cov(lineage, rows))
    return jnp.select(
        [rows.detector == DEMOTION, rows.detector == Z_SCORE],
        [lineage.demotion, z],
        stats.logit_var,
    )


def windowed(
    scores: Float[Array, "B W"], index: Int[Array, "B"], width: Int[Array, "B"]
) -> Float[Array, "B"]:
    """Sum of the scores of the last tokens.

    Args:
        scores: Ring of scores; the token with index i is at i % W.
        index: Index of the newest token.
        width: Number of tokens to sum, the newest included.

    Returns:
        The sum.
    """
    age = (index[:, None] - jnp.arange(RING)) % RING
    return jnp.sum(jnp.where(age < width[:, None], scores, 0.0), axis=-1)


def remember(
    memory: Float[Array, "B 4"],
    rows: SamplingParams,
    score: Float[Array, "B"],
    confidence: Float[Array, "B"],
    counts: Bool[Array, "B"],
) -> Float[Array, "B 4"]:
    """The memory with one more drawn token.

    Page-Hinkley statistic for a rise: PH_t = max(0, PH_{t-1} + x_t - mean(x_1..x_t) -
    drift), PH_0 = 0. Running confidence: c_t = c_{t-1} + (C_t - c_{t-1}) / min(t,
    floor_window), an exponential mean in place of DeepConf's window (arXiv 2508.15260),
    which would have to be stored.

    Args:
        memory: Columns COUNT, MEAN, RISE, ASSURED.
        rows: Parameters.
        score: Detector score of the token.
        confidence: Its confidence C_t.
        counts: False where the token was forced; the memory then stays as it is.

    Returns:
        The new memory.
    """
    count = memory[:, COUNT] + 1
    mean = memory[:, MEAN] + (score - memory[:, MEAN]) / count
    rise = jnp.maximum(memory[:, RISE] + score - mean - rows.drift, 0.0)
    old = memory[:, ASSURED]
    assured = old + (confidence - old) / jnp.minimum(count, rows.floor_window)
    new = jnp.stack([count, mean, rise, assured], axis=-1)
    return jnp.where(counts[:, None], new, memory)


def gives_up(rows: SamplingParams, memory: Float[Array, "B 4"]) -> Bool[Array, "B"]:
    """Rows whose running confidence is below their floor.

    Args:
        rows: Parameters `floor` and `floor_window`.
        memory: The memory; it counts once it has `floor_window` tokens.

    Returns:
        True for rows that end here.
    """
    return (memory[:, COUNT] >= rows.floor_window) & (memory[:, ASSURED] < rows.floor)


def fires(
    rows: SamplingParams,
    total: Float[Array, "B"],
    generated: Int[Array, "B"],
    fired: Bool[Array, "B"],
) -> Bool[Array, "B"]:
    """Rows that fire on this token: at most once, at a fixed position or above a
    threshold.

    Args:
        rows: Parameters.
        total: Value of the detector.
        generated: Index of the token.
        fired: Rows that have fired before.

    Returns:
        True for rows that fire.
    """
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
    """Logits of the mixture of specialist and ancestor, ready to draw from.

    Path (e-mixture): a z_S / T + (1 - a) z_A / T. Coverage (m-mixture): log(a p_S + (1
    - a) p_A), where p is already at temperature T.

    Args:
        specialist: Float32 logits z_S.
        ancestor: Float32 logits z_A; ids that it lacks drop out of the mixture.
        alpha: Weight a of the specialist; above 1: contrast.
        temperature: Temperature T of the row.
        coverage: True: m-mixture; False: e-mixture.

    Returns:
        Logits, not to be divided by the temperature again.
    """
    shared = min(specialist.shape[-1], ancestor.shape[-1])
    s, a = (
        logits.apply_temperature(specialist[:, :shared], temperature),
        logits.apply_temperature(ancestor[:, :shared], temperature),
    )
    w = alpha[:, None]
    path = w * s + (1 - w) * a
    # At the ends of alpha one weight is log 0 = -inf, and only the other side is left.
    log_w, log_v = jnp.log(w), jnp.log1p(-w)
    # A weight above 1 is valid for the path only; here it gives NaN, which is unused.
    both = jnp.logaddexp(
        jax.nn.log_softmax(s, -1) + log_w, jax.nn.log_softmax(a, -1) + log_v
    )
    mixed = jnp.where(coverage[:, None], both, path)
    return jnp.pad(
        mixed, ((0, 0), (0, specialist.shape[-1] - shared)), constant_values=-1e30
    )


def by_coverage(rows: SamplingParams, lineage: LineageStats) -> Bool[Array, "B"]:
    """Rows that mix by coverage: by their fixed geodesic, or by the larger Z.

    Args:
        rows: Parameters; `geodesic` OTHER takes the smaller Z, as a control.
        lineage: Statistics at the fire.

    Returns:
        True for coverage, False for path.
    """
    larger = _z_cov(lineage, rows) > lineage.z_path
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
    """Token and log-prob of rows whose drawn token is discarded.

    Args:
        rows: Parameters.
        fired: Rows that fire on this token.
        specialist: Float32 logits before temperature.
        ancestor: Logits of the ancestor, or None.
        lineage: Lineage statistics; None without an ancestor.
        uniform: The row's second uniform.

    Returns:
        Token ids and log-probs. A steered or dense-greedy token is the mixture's
        argmax, and its log-prob is under the mixture.
    """
    heated = (rows.operator == HEAT) & fired
    temperature = jnp.where(heated, rows.local_temperature, rows.temperature)
    out, greedy = logits.apply_temperature(specialist, temperature), temperature <= 0
    if ancestor is not None and lineage is not None:
        mixed = mix(
            specialist,
            ancestor,
            rows.alpha,
            rows.temperature,
            by_coverage(rows, lineage),
        )
        out = jnp.where((heated | (rows.operator == PLAIN))[:, None], out, mixed)
        greedy |= (rows.operator == STEER_ONCE) | (rows.operator == STEER_DENSE)
    kept = logits.filter_top_k_top_p(out, rows.top_p, rows.top_k, rows.min_p)
    # After the filters: before them, mixtures of rows that do not use it would be
    # rounded differently.
    wanted = jnp.any(rows.plausible > 0)
    kept = jax.lax.cond(
        wanted, logits.filter_min_p, lambda z, *_: z, kept, rows.plausible, specialist
    )
    return logits.draw(kept, uniform, greedy)


def discards(rows: SamplingParams, fired: Bool[Array, "B"]) -> Bool[Array, "B"]:
    """Rows whose drawn token is replaced by the second draw.

    Args:
        rows: Parameters.
        fired: Rows that fire on this token.

    Returns:
        True for rows that are replaced.
    """
    return fired | (rows.operator == STEER_DENSE) | (rows.operator == STEER_SAMPLED)
