"""The junction, its calibration and the three features, on scores whose values are
known by hand.
"""

import dataclasses

import numpy as np
import pytest
from conftest import row

from fr.config import Config, DiagnosisConfig
from fr.diagnosis.features import (
    concentration,
    junction_variance,
    logit_dispersion,
    problem_features,
    spread,
)
from fr.diagnosis.junction import (
    Trace,
    calibrate,
    detector_curve,
    detector_scores,
    fire_of,
    junction,
    page_hinkley,
    tokens_of,
    windowed,
)
from fr.interventions import OPERATORS, OperatorContext

CONFIG = DiagnosisConfig(warmup=2, window=1)


def trace(demotion=None, logit_var=None, forced=(), **more):
    """A scored rollout; without `demotion` it has no ancestor."""
    scores = {"logit_var": logit_var, "demotion": demotion, **more}
    scores = {
        name: np.asarray(x, np.float32) for name, x in scores.items() if x is not None
    }
    sampled = np.ones(len(scores.get("demotion", scores.get("logit_var"))), bool)
    sampled[list(forced)] = False
    return Trace(scores, sampled)


def test_the_first_argmax_is_the_junction_and_forced_tokens_are_none():
    assert junction(trace([0, 3, 1, 3])) == 1
    assert junction(trace([0, 0, 0])) == 0
    assert junction(trace([9, 3, 1, 3], forced=[0])) == 1
    assert junction(trace(logit_var=[1, 2, 5, 5])) == 2  # V without an ancestor


def test_spread_and_concentration():
    j = trace([0, 0.005, 0.5, 1.5, 7, 0], forced=[4])  # sampled: 0, .005, .5, 1.5, 0
    assert spread(j) == pytest.approx(3 / 5)
    assert [spread(j, t) for t in (1e-4, 1e-2)] == [
        pytest.approx(3 / 5),
        pytest.approx(2 / 5),
    ]
    assert concentration(j) == pytest.approx(np.log10(1.5 / (2.005 / 5)))
    assert concentration(trace([0, 0, 4, 0, 0, 0, 0, 0, 0, 0])) == pytest.approx(
        1
    )  # its bound: log10 of the length
    assert concentration(trace([0, 0, 0])) == 0  # nothing departs: floored over floored
    assert concentration(trace([2e-9, 0, 0])) == 0


@pytest.mark.parametrize(
    "at, wanted", [(0, (1 + 2) / 2), (2, (2 + 4 + 8) / 3), (4, (8 + 16) / 2)]
)
def test_the_window_ends_with_the_trace(at, wanted):
    j = np.eye(5)[at]
    assert junction_variance(trace(j, [1, 2, 4, 8, 16]), 1) == pytest.approx(wanted)


def test_forced_tokens_are_not_in_the_window():
    assert junction_variance(
        trace([0, 0, 1, 0, 0], [1, 2, 4, 8, 16], forced=[1]), 1
    ) == pytest.approx(6)
    assert (
        junction_variance(trace([0, 0, 1, 0, 0], np.zeros(5)), 1) == 1e-8
    )  # the floor


def test_both_forms_of_dispersion():
    two = [trace([0, 1, 0], [1, 10, 100]), trace([1, 0, 0], [1000, 10, 1])]
    showcase = (np.log10(111 / 3) + np.log10(1010 / 2)) / 2
    assert logit_dispersion(two, CONFIG) == pytest.approx(showcase)
    released = dataclasses.replace(CONFIG, form="released")
    assert logit_dispersion(two, released) == pytest.approx(np.log10((10 + 1000) / 2))


def test_problem_features_are_means_over_its_failures():
    two = [trace([0, 1, 0.001], [1, 10, 100]), trace([1, 0, 0], [1000, 10, 1])]
    given = problem_features(two, CONFIG)
    assert list(given) == [
        "spread",
        "concentration",
        "logit_dispersion",
        "spread_1e-4",
        "spread_1e-2",
    ]
    assert given["spread"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert given["spread_1e-2"] == pytest.approx(1 / 3)
    assert given["concentration"] == pytest.approx(
        (np.log10(3 / 1.001) + np.log10(3)) / 2
    )
    alone = problem_features([trace(logit_var=[1, 10, 100])], CONFIG)
    assert np.isnan(alone["spread"]) and np.isnan(alone["concentration"])
    assert alone["logit_dispersion"] == pytest.approx(np.log10(55))


def test_constants_below_one_are_shares_of_the_median_length():
    assert tokens_of(8.0, [100]) == 8
    assert tokens_of(0.25, [10, 20, 400]) == 5
    short = [trace([0, 0, 0, 0, 1, 0, 0, 0, 0, 0], np.arange(1, 11))]
    wide = dataclasses.replace(CONFIG, window=0.2, warmup=0.3)
    assert logit_dispersion(short, wide) == pytest.approx(
        np.log10(np.mean([3, 4, 5, 6, 7]))
    )
    alone = [trace(logit_var=np.arange(1, 11))]
    assert calibrate(alone, wide).warmup == 3
    assert calibrate(alone, dataclasses.replace(CONFIG, warmup=0)).warmup == 0


def test_windows_are_sums():
    scores = np.random.default_rng(0).random(30).astype(np.float32)
    for width in (1, 2, 7, 16, 30, 40):
        wanted = [
            scores[max(0, t - width + 1) : t + 1].sum(dtype=np.float64)
            for t in range(30)
        ]
        np.testing.assert_allclose(windowed(scores, width), wanted, rtol=1e-12)


def test_calibration_pools_sampled_tokens():
    rng = np.random.default_rng(2)
    traces = [
        trace(
            rng.random(n),
            rng.random(n),
            forced=[1, 5],
            g_cov=rng.normal(size=n),
            z_path=rng.random(n),
        )
        for n in (30, 50)
    ]
    background = np.concatenate([t.scores["g_cov"][t.sampled] for t in traces])
    given = calibrate(traces, CONFIG)
    pooled = np.concatenate([t.scores["demotion"][t.sampled] for t in traces])
    assert given.threshold == pytest.approx(np.quantile(pooled, 0.99))
    assert (given.cov_mean, given.cov_sd) == (
        pytest.approx(background.mean()),
        pytest.approx(background.std()),
    )
    assert given.lengths == (30, 50) and given.warmup == 2
    z = [
        np.maximum(
            t.scores["z_path"],
            (t.scores["g_cov"] - background.mean()) / background.std(),
        )
        for t in traces
    ]
    by_z = calibrate(traces, dataclasses.replace(CONFIG, score="z"))
    assert by_z.threshold == pytest.approx(
        np.quantile(np.concatenate([x[t.sampled] for x, t in zip(z, traces)]), 0.99)
    )
    # A forced token adds nothing to the windows that hold it.
    scores = detector_scores(traces[0], "demotion", 0.0, 1.0)
    assert scores[1] == scores[5] == 0
    wide = calibrate(traces, dataclasses.replace(CONFIG, width=4, quantile=0.5))
    sums = [
        windowed(np.where(t.sampled, t.scores["demotion"], 0), 4)[t.sampled]
        for t in traces
    ]
    assert wide.threshold == pytest.approx(np.quantile(np.concatenate(sums), 0.5))


def test_calibration_without_an_ancestor_and_without_failures():
    v = np.arange(100)
    given = calibrate([trace(logit_var=v)], CONFIG)
    assert given.threshold == pytest.approx(np.quantile(v, 0.75))
    assert given.cov_mean == given.cov_sd == 0
    with pytest.raises(ValueError, match="without failed rollouts"):
        calibrate([], CONFIG)


def test_page_hinkley_is_its_recurrence():
    scores = np.random.default_rng(0).gamma(1.0, size=(3, 60))
    for own, given in zip(scores, page_hinkley(scores, 0.05)):
        total, value, wanted = 0.0, 0.0, []
        for t, x in enumerate(own):
            total += x
            value = max(0.0, value + x - total / (t + 1) - 0.05)
            wanted.append(value)
        np.testing.assert_allclose(given, wanted, atol=1e-9)


def test_page_hinkley_raises_a_false_alarm_in_one_trace_of_twenty_and_sees_a_rise():
    rng = np.random.default_rng(1)
    settings = dataclasses.replace(CONFIG, detector="page_hinkley")
    draw = lambda rise: rng.gamma(1.0, size=80) + rise * (np.arange(80) >= 50)
    known = calibrate([trace(logit_var=draw(0.0)) for _ in range(30)], settings)
    alarm = lambda row: fire_of(
        page_hinkley(row, 0.05), np.ones(80, bool), known.warmup, known.threshold
    )
    # A rate of 5 % seen in 1,500 traces, of a threshold that 30 traces gave.
    assert np.mean([alarm(draw(0.0)) >= 0 for _ in range(1500)]) < 0.05 + 0.03
    seen = [alarm(draw(2.0)) for _ in range(200)]
    assert np.mean(np.array(seen) >= 50) > 0.9
    assert (
        calibrate([trace(logit_var=draw(0.0))], settings) != known
    )  # and one failure is enough


@pytest.mark.parametrize(
    "score, width, drift",
    [
        ("demotion", 1, None),
        ("demotion", 5, None),
        ("z", 3, None),
        ("", 2, None),
        ("z", 1, 0.05),
        ("", 1, 0.1),
    ],
)
def test_the_loop_fires_where_the_scores_first_exceed_the_threshold(
    request, score, width, drift
):
    has_ancestor = bool(score)
    engine = request.getfixturevalue(
        "lineage_engine" if has_ancestor else "plain_engine"
    )
    settings = dataclasses.replace(
        CONFIG, score=score or "demotion", width=width, quantile=0.9, warmup=3
    )
    if drift is not None:
        settings = dataclasses.replace(
            settings, detector="page_hinkley", drift=drift, false_alarms=0.6
        )
    settings = dataclasses.replace(settings, quantile_without_ancestor=0.9)
    budget = {"budget": 30, "forced": (9, 10, 11, 12)}
    plain = engine.sample([row(str(i), **budget) for i in range(8)], 64)
    traces = [Trace(r.stats, ~r.forced) for r in plain]
    known = calibrate(traces, settings)
    operator = OPERATORS["sparse_steer" if has_ancestor else "local_temp"]
    own = operator.fill(
        OperatorContext(Config(diagnosis=settings), "p", 0, known, has_ancestor)
    )
    steered = engine.sample([row(str(i), **budget, **own) for i in range(8)], 64)
    fired = 0
    for one, other, scores in zip(plain, steered, traces):
        total = detector_curve(scores, settings, known.cov_mean, known.cov_sd)
        at = fire_of(total, scores.sampled, known.warmup, known.threshold)
        assert np.flatnonzero(other.fired).tolist() == [at] * (at >= 0)
        alike = at if at >= 0 else 30
        np.testing.assert_array_equal(one.tokens[:alike], other.tokens[:alike])
        fired += at >= 0
    assert known.fires == tuple(
        fire_of(
            detector_curve(t, settings, known.cov_mean, known.cov_sd),
            t.sampled,
            known.warmup,
            known.threshold,
        )
        for t in traces
    )
    assert fired >= 4
