"""Firing and steering of rows, on hand-made logits and in the loop's own step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.diagnosis.features import running_confidence
from fr.models.layouts import layout_of
from fr.models.transformer import Transformer
from fr.sampling import decode, sampling_params, steering, token_stats
from fr.sampling.sampling_params import row_key
from fr.sampling.state import init_state
from fr.sampling.structs import LineageStats
from fr.types import Request

TAU = np.float32(0.6)
B, V = (
    6,
    300,
)  # one shape, so that the step compiles once with an ancestor and once without
mix, emit = jax.jit(steering.mix), jax.jit(decode.emit)


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def params(*settings):
    """SamplingParams of a batch, one dict a row."""
    batch = sampling_params.default_params(len(settings))
    for i, own in enumerate(settings):
        sampling_params.write_params(
            batch, i, Request(str(i), (1,), row_key(0, i), own)
        )
    return batch


@pytest.fixture(scope="module")
def start(tiny_config):
    """A function from the settings of at most B rows to a state of live rows."""

    def make(*settings, seed=0):
        settings = [*settings, *[{}] * (B - len(settings))]
        rows = params(*settings)
        state = init_state(Transformer(tiny_config), None, rows, 1, layout_of("cpu"))
        keys = np.stack([row_key(seed, i) for i in range(B)])
        return state.replace(cache=None, key=jnp.asarray(keys), done=jnp.zeros(B, bool))

    return make


def logits(seed, scale=3.0):
    """Logits [B, V] of two models, rows alike."""
    s, a = np.random.default_rng(seed).normal(size=(2, 1, V)).astype(np.float32) * scale
    return s.repeat(B, 0), a.repeat(B, 0)


def lineage(z_path=0.0, g_cov=0.0):
    zeros = {f: jnp.zeros(1) for f in LineageStats.__dataclass_fields__}
    return LineageStats(
        **{**zeros, "z_path": jnp.full(1, z_path), "g_cov": jnp.full(1, g_cov)}
    )


def test_mixtures_and_their_ends():
    s, a = np.random.default_rng(0).normal(size=(2, 6, 300)).astype(np.float32) * 3
    alpha = np.array([1, 0, 0.7, 1, 0, 0.7], np.float32)
    temperature = np.array([0.5, 0.5, 0.5, 2.0, 2.0, 0.0], np.float32)
    t = np.where(temperature > 0, temperature, 1)[:, None]
    w = alpha[:, None].astype(np.float64)
    path = mix(s, a, alpha, temperature, np.zeros(6, bool))
    cover = mix(s, a, alpha, temperature, np.ones(6, bool))
    np.testing.assert_allclose(
        log_softmax(path), log_softmax((w * s + (1 - w) * a) / t), atol=1e-5
    )
    p_s, p_a = np.exp(log_softmax(s / t)), np.exp(log_softmax(a / t))
    np.testing.assert_allclose(
        np.exp(log_softmax(cover)), w * p_s + (1 - w) * p_a, atol=1e-6
    )
    for mixed in (path, cover):
        np.testing.assert_allclose(
            log_softmax(mixed)[[0, 3]], log_softmax(s / t)[[0, 3]], atol=1e-5
        )
        np.testing.assert_allclose(
            log_softmax(mixed)[[1, 4]], log_softmax(a / t)[[1, 4]], atol=1e-5
        )


@pytest.mark.parametrize("coverage", [False, True])
def test_ids_that_the_ancestor_lacks_are_out_of_the_mixture(coverage):
    s, a = np.ones((1, 8), np.float32), np.ones((1, 5), np.float32)
    mixed = mix(
        s, a, np.array([0.7], np.float32), np.ones(1, np.float32), np.array([coverage])
    )
    np.testing.assert_allclose(
        np.exp(log_softmax(mixed))[0], [0.2] * 5 + [0] * 3, atol=1e-6
    )


def test_the_ring_is_a_moving_sum():
    scores = np.random.default_rng(1).random(40).astype(np.float32)
    widths = np.arange(1, steering.RING + 1)
    ring = np.zeros((len(widths), steering.RING), np.float32)
    for t, score in enumerate(scores):
        ring[:, t % steering.RING] = score
        wanted = [
            scores[max(0, t - w + 1) : t + 1].sum(dtype=np.float64) for w in widths
        ]
        given = steering.windowed(ring, np.full(len(widths), t), widths)
        np.testing.assert_allclose(given, wanted, rtol=1e-5)


def test_which_mixture():
    # Z_cov = (g - 1) / 0.5 = 2 against Z_path of 1 and 3; a background without spread
    # has no Z_cov.
    own = [dict(geodesic=g, cov_mean=1.0, cov_sd=0.5) for g in range(4)] + [
        dict(geodesic=steering.CHOSEN, cov_sd=0.0)
    ]
    take = lambda z: steering.by_coverage(
        params(*own), jax.tree.map(lambda x: x.repeat(5), lineage(z, 2.0))
    ).tolist()
    assert take(1.0) == [False, True, True, False, False]
    assert take(3.0) == [False, True, False, True, False]


def test_detectors(start):
    own = [dict(detector=d, cov_mean=1.0, cov_sd=0.5) for d in range(3)]
    s, a = np.random.default_rng(2).normal(size=(2, 3, 300)).astype(np.float32) * 3
    moments = token_stats.token_stats(token_stats.logit_moments(s, TAU), np.arange(3))
    both = token_stats.lineage_stats(
        token_stats.logit_moments(s, TAU),
        token_stats.logit_moments(a, TAU),
        np.arange(3),
    )
    z = max(both.z_path[1], max(0, (both.g_cov[1] - 1.0) / 0.5))
    given = steering.detector_score(params(*own), moments, both)
    np.testing.assert_allclose(
        given, [both.demotion[0], z, moments.logit_var[2]], rtol=1e-6
    )
    alone = steering.detector_score(
        params(*own), moments, None
    )  # without an ancestor the trigger is V
    np.testing.assert_array_equal(alone, moments.logit_var)


def test_a_row_fires_once_and_not_before_its_warm_up(start):
    steer = dict(operator=steering.STEER_ONCE, threshold=-1.0)
    own = [
        {"warmup": 3},
        {"warmup": 0},
        {"fire_position": 5},
        {"operator": steering.PLAIN},
    ]
    own += [{"threshold": 1e9}, {"warmup": 2, "forced": (1, 2, 3, 4)}]
    state = start(*[{**steer, **more} for more in own])
    fired = []
    for step in range(8):
        state, output = emit(state, *logits(step), TAU)
        fired.append(np.asarray(output.fired))
    at = [np.flatnonzero(column).tolist() for column in np.stack(fired).T]
    assert at == [[3], [0], [5], [], [], [4]]  # a forced token cannot fire


def test_steered_tokens_are_the_argmax_of_the_mixture_of_the_same_logits(start):
    once = dict(operator=steering.STEER_ONCE, temperature=0.5, threshold=-1.0, warmup=0)
    dense = dict(
        operator=steering.STEER_DENSE,
        temperature=0.5,
        alpha=0.4,
        geodesic=steering.PATH,
    )
    state = start(
        dict(once, geodesic=steering.PATH),
        dict(once, geodesic=steering.COVERAGE),
        dense,
    )
    s, a = logits(3)
    state, output = emit(state, s, a, TAU)
    w = np.array([0.7, 0.7, 0.4])[:, None]
    s, a = s[:3], a[:3]
    path = log_softmax((w * s + (1 - w) * a) / 0.5)
    cover = np.log(
        w * np.exp(log_softmax(s / 0.5)) + (1 - w) * np.exp(log_softmax(a / 0.5))
    )
    mixed = np.stack([path[0], cover[1], path[2]])
    best, at = mixed.max(-1), mixed.argmax(-1)
    np.testing.assert_array_equal(output.token[:3], at)
    np.testing.assert_allclose(output.sample_logp[:3], best, atol=1e-5)
    np.testing.assert_allclose(
        output.stats.logp[:3], log_softmax(s)[np.arange(3), at], atol=1e-5
    )
    assert output.fired.tolist() == [True, True] + [False] * 4
    # The step after the fire is plain again, the dense row is not.
    state, output = emit(state, *logits(3), TAU)
    np.testing.assert_allclose(
        output.sample_logp[0], log_softmax(s / 0.5)[0, output.token[0]], atol=1e-5
    )
    assert output.token[2] == at[2]


def test_local_temperature_heats_the_firing_token_and_its_span(start):
    z, _ = logits(4)
    heat = dict(
        operator=steering.HEAT,
        temperature=0.5,
        local_temperature=2.0,
        local_span=3,
        fire_position=2,
    )
    state = start(heat)
    for step in range(8):
        state, output = emit(state, z, None, TAU)
        hot = 2 <= step <= 2 + 3
        wanted = log_softmax(z[0] / (2.0 if hot else 0.5))[output.token[0]]
        np.testing.assert_allclose(
            output.sample_logp[0], wanted, atol=1e-5, err_msg=str(step)
        )


def test_a_replaced_token_does_not_remember_the_draw_that_fired(start):
    # Only token 0 fires (its J is large); a redraw from the same uniform repeats it.
    s, a = np.full((2, B, V), -1e4, np.float32)
    s[:, :4], a[:, :4] = 0.0, [-3.0, 1.0, 1.0, 1.0]
    heat = dict(operator=steering.HEAT, local_temperature=3.0, threshold=1.0, warmup=0)
    fired, token = [], []
    for seed in range(300):
        _, output = emit(start(*[heat] * B, seed=seed), s, a, TAU)
        fired += output.fired.tolist()
        token += output.token.tolist()
    assert abs(np.mean(fired) - 0.25) < 0.05
    share = np.bincount(np.array(token)[fired], minlength=4) / sum(fired)
    np.testing.assert_allclose(share, 0.25, atol=0.1)


def test_switch_penalty_ends_with_the_window(start):
    z, _ = logits(5)
    tip = dict(
        switch_penalty=3.0, switch_window=10, switch_tokens=(9,), penalised=(4, 9)
    )
    state = start(tip, tip, {}, dict(tip, forced=(9,)), dict(tip, forced=(4,)))
    state = state.replace(
        tokens_since_switch=jnp.array([9, 10, 0, 5, 5, 0]),
        key=state.key.at[:].set(state.key[0]),
    )
    state, young = emit(state, z, None, TAU)
    penalised = z[0].copy()
    penalised[[4, 9]] -= 3.0
    np.testing.assert_allclose(
        young.sample_logp[0], log_softmax(penalised)[young.token[0]], atol=1e-5
    )
    # The raw statistics never include the penalty; after the window nothing does.
    np.testing.assert_allclose(
        young.stats.logp[0], log_softmax(z[0])[young.token[0]], atol=1e-5
    )
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[1], x[2]), young)
    # A switch token starts a thought, another penalised token does not.
    assert state.tokens_since_switch.tolist()[:5] == [10, 11, 1, 0, 6]


def test_a_plain_row_keeps_its_bits_beside_filters_and_penalties(start):
    z, _ = logits(6)
    _, alone = emit(start(), z, None, TAU)
    tip = dict(switch_penalty=3.0, switch_window=10, penalised=(4, 9))
    _, beside = emit(start({}, dict(top_p=0.5), dict(top_k=3), tip), z, None, TAU)
    for own, other in zip(jax.tree.leaves(alone), jax.tree.leaves(beside)):
        np.testing.assert_array_equal(
            np.asarray(own)[[0, 4, 5]], np.asarray(other)[[0, 4, 5]]
        )
    assert (alone.sample_logp[1:4] != beside.sample_logp[1:4]).all()


def test_a_forced_token_has_the_log_prob_of_what_is_drawn_from(start):
    z, _ = logits(7)
    best = int(z[0].argmax())
    _, output = emit(
        start(*[dict(forced=(best,), temperature=0.7, top_k=k) for k in (0, 5)]),
        z,
        None,
        TAU,
    )
    kept = np.sort(z[0])[-5:] / 0.7
    wanted = [log_softmax(z[0] / 0.7)[best], log_softmax(kept)[-1]]
    np.testing.assert_allclose(output.sample_logp[:2], wanted, atol=1e-5)
    assert output.token[:2].tolist() == [best, best]


def test_min_p_keeps_what_is_likely_beside_the_likeliest(start):
    z, _ = logits(8, scale=1.0)
    tokens = [[], [], []]
    for seed in range(60):
        own = dict(min_p=0.3, temperature=0.8)
        _, output = emit(
            start(*[own] * 2, dict(temperature=0.8), seed=seed), z, None, TAU
        )
        for kept, token in zip(tokens, output.token.tolist()):
            kept.append(token)
    p = np.exp(log_softmax(z[0] / 0.8))
    able = p >= 0.3 * p.max()
    assert (
        1 < able.sum() < 60
        and able[tokens[0] + tokens[1]].all()
        and not able[tokens[2]].all()
    )
    wanted = np.log(p / p[able].sum())[int(output.token[0])]
    np.testing.assert_allclose(output.sample_logp[0], wanted, atol=1e-5)


def test_a_row_avoids_tokens_as_its_first_alone(start):
    z, _ = logits(9)
    best = int(z[0].argmax())
    state = start(
        dict(avoid=(best,), temperature=0.0),
        dict(temperature=0.0),
        dict(avoid=(best,), forced=(best,)),
    )
    state, first = emit(state, z, None, TAU)
    state, second = emit(state, z, None, TAU)
    others = z[0].copy()
    others[best] = -np.inf
    assert (
        first.token.tolist()[:3] == [int(others.argmax()), best, best]
        and second.token[0] == best
    )
    np.testing.assert_allclose(
        first.sample_logp[0], log_softmax(others)[others.argmax()], atol=1e-5
    )


def test_a_contrast_is_drawn_from_plausible_tokens(start):
    s, a = logits(10)
    own = dict(
        operator=steering.STEER_SAMPLED,
        alpha=1.5,
        geodesic=steering.PATH,
        plausible=0.05,
    )
    mixture = dict(own, alpha=0.0, plausible=0.0)
    able = np.exp(log_softmax(s[0])) >= 0.05 * np.exp(log_softmax(s[0])).max()
    contrast = np.where(able, 1.5 * s[0].astype(np.float64) - 0.5 * a[0], -np.inf)
    assert 1 < able.sum() < 60
    for seed in range(20):
        _, output = emit(start(own, mixture, seed=seed), s, a, TAU)
        token = output.token.tolist()
        assert able[token[0]]
        np.testing.assert_allclose(
            output.sample_logp[0], log_softmax(contrast)[token[0]], atol=1e-4
        )
        np.testing.assert_allclose(
            output.sample_logp[1], log_softmax(a[0])[token[1]], atol=1e-5
        )


def test_a_row_ends_where_its_running_confidence_is_below_its_floor(start):
    z = [
        logits(seed)[0] * scale
        for seed, scale in enumerate((2, 2, 2, 1, 0.1, 0.1, 0.1, 0.1))
    ]
    seen = [
        float(
            token_stats.token_stats(
                token_stats.logit_moments(x, TAU), np.zeros(B, int)
            ).top20_confidence[0]
        )
        for x in z
    ]
    window, means = 3, running_confidence(np.array(seen), 3)
    floor = float(means[4] + means[5]) / 2
    assert means[:5].min() > floor > means[5]
    state = start(
        dict(floor=floor, floor_window=window),
        {},
        dict(floor=1e9, floor_window=4),
        dict(floor=1e9, floor_window=2, forced=(1, 2)),
    )
    ended = []
    for x in z:
        state, output = emit(state, x, None, TAU)
        ended.append(np.asarray(state.done)[:4])
    # The first step at which each is done; forced tokens count for nothing.
    assert [int(np.argmax(row)) if row.any() else -1 for row in np.array(ended).T] == [
        5,
        -1,
        3,
        3,
    ]


def test_no_value_of_a_row_compiles_anything(start):
    s, a = logits(11)
    emit(start(), s, a, TAU)
    compiled = emit._cache_size()
    rows_of = (
        dict(min_p=0.2),
        dict(drift=0.05, threshold=1.0, operator=steering.STEER_ONCE),
        dict(floor=1.0),
        dict(avoid=(3,)),
        dict(plausible=0.1, alpha=2.0, operator=steering.STEER_SAMPLED),
    )
    for own in rows_of:
        emit(start(own), s, a, TAU)
    assert emit._cache_size() == compiled


def test_other_rows_keep_their_bits_beside_the_newer_parameters(start):
    s, a = logits(12)
    beside = [
        dict(min_p=0.3),
        dict(avoid=(1, 2)),
        dict(floor=1e9),
        dict(drift=0.0, threshold=0.0, warmup=0, operator=steering.HEAT),
        dict(operator=steering.STEER_SAMPLED, alpha=1.5, plausible=0.2),
    ]
    state, other = (
        start(*[{}] * 5, dict(temperature=0.7)),
        start(*beside, dict(temperature=0.7)),
    )
    for _ in range(3):
        state, output = emit(state, s, a, TAU)
        other, changed = emit(other, s, a, TAU)
        for own, new in zip(jax.tree.leaves(output), jax.tree.leaves(changed)):
            np.testing.assert_array_equal(np.asarray(own)[5], np.asarray(new)[5])
