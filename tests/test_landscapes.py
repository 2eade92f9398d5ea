"""Routing where the truth is known: a planted lift is found, nothing is found where
nothing is, intervals hold.
"""

import dataclasses

import numpy as np
import pytest
from synthetic_profiles import routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.evaluate import choose_out_of_fold, evaluate
from fr.config import RoutingConfig
from fr.routing.baselines import resampled_look_up, values_of
from fr.routing.dataset import EVERYWHERE
from fr.routing.policies import all_policies, rule_policies
from fr.stats.bootstrap import estimate
from fr.stats.clustered import resample_problems

QUICK = RoutingConfig(
    bootstrap=1000,
    splits=20,
    folds=4,
    inner_folds=3,
    steps=60,
    seeds=1,
    penalties=(0.002, 0.01),
)
PLANTED = Landscape(problems=240, attempts=10, effect=2.0, blur=0.3)
NOTHING = Landscape(problems=120, attempts=10, pair_sd=0.5)


def judged(profiles, seed=0, learned=True, protocol="kfold"):
    """{(policy, reference): row} of one table under one protocol, all failed
    problems."""
    data = routing_data(profiles, routing=QUICK, seed=seed)
    data.populations.pop("steerable"), data.populations.pop("steerable_halves")
    rows = evaluate(all_policies(data, learned), data, [protocol]).rows
    return {
        (r.policy, r.reference): r for r in rows if r.cell == EVERYWHERE and r.reference
    }


def won(row):
    """True if the interval lies above 0; equal choices have none."""
    return row.interval.low is not None and row.interval.low > 0


def with_shuffled_features(profiles, seed=0):
    order = np.random.default_rng(seed).permutation(len(profiles))
    return dataclasses.replace(profiles, features=profiles.features[order])


def test_the_planted_lift_is_recovered_and_lost_when_features_are_permuted():
    found = simulate(PLANTED, np.random.default_rng(0))
    truth = 100 * found.lift(found.best)
    rows = judged(found.profiles)
    gain = rows["learned", "best_fixed_per_model"]
    assert (
        truth > 10
        and gain.interval.low > 5
        and rows["posterior", "best_fixed_per_model"].interval.low > 5
    )
    assert not won(rows["posterior_permuted", "best_fixed_per_model"])
    # What is lost on the way from the planted policy to one learned of blurred features
    # is little.
    assert 0.6 * truth < gain.interval.value < truth + 5
    for reference in (
        "permuted",
        "learned_nuisances",
        "learned_prompt",
        "learned_permuted",
    ):
        assert rows["learned", reference].interval.low > 5, reference
    trained_on_noise = rows["learned_permuted", "best_fixed_per_model"]
    assert not won(trained_on_noise) and abs(trained_on_noise.interval.value) < 3
    assert rows["learned", "best_fixed_per_model"].p_holm < 0.05
    lost = judged(with_shuffled_features(found.profiles))[
        "learned", "best_fixed_per_model"
    ]
    assert not won(lost) and abs(lost.interval.value) < 3


@pytest.mark.parametrize("objective", ["rescue", "binomial"])
def test_both_objectives_find_an_effect(objective, monkeypatch):
    monkeypatch.setitem(
        globals(), "QUICK", dataclasses.replace(QUICK, objective=objective, hidden=4)
    )
    found = simulate(dataclasses.replace(PLANTED, effect=3.0), np.random.default_rng(1))
    assert judged(found.profiles)["learned", "best_fixed_per_model"].interval.low > 5


def test_without_signal_nobody_wins_and_the_head_does_not_lose():
    gains = {"posterior": [], "learned": [], "rule": [], "learned_nuisances": []}
    wins = 0
    for seed in range(12):
        rows = judged(simulate(NOTHING, np.random.default_rng(seed)).profiles, seed)
        for policy in gains:
            row = rows[policy, "best_fixed_per_model"]
            gains[policy].append(row.interval.value)
            wins += won(row)
    assert wins <= 2, gains
    assert np.mean(gains["learned"]) > -0.5 and min(gains["learned"]) > -4, gains


def covers(landscape, simulations, seed):
    """Share of 95 % intervals of planted policy minus operator 0, over problems, that
    hold the true mean.
    """
    rng = np.random.default_rng(seed)
    large = simulate(dataclasses.replace(landscape, problems=400_000), rng)
    taken = np.take_along_axis(large.rates, large.best[:, None], axis=1)[:, 0]
    truth = (taken - large.rates[:, 0]).mean()
    held = 0
    for _ in range(simulations):
        found = simulate(landscape, rng)
        rates, count = found.profiles.rates, len(found.profiles)
        gap = values_of(rates, found.best) - rates[:, 0]
        problem, cell = np.arange(count), np.zeros(count, int)
        weights = resample_problems(problem, cell, 400, rng)
        low, high = estimate(weights @ gap / count, count).interval()
        held += low <= truth <= high
    return held / simulations


def covers_out_of_fold(landscape, simulations, seed):
    """The same of the rule minus the look-up, which is chosen out of fold, where all
    operators are alike.
    """
    rng = np.random.default_rng(seed)
    held = 0
    few = dataclasses.replace(QUICK, splits=1, bootstrap=400)
    for _ in range(simulations):
        profiles = simulate(landscape, rng).profiles
        data = routing_data(profiles, routing=few, seed=int(rng.integers(2**31)))
        folds, rule = data.folds("kfold"), rule_policies()[:1]
        choices = choose_out_of_fold(rule, data, folds, rng)
        looked_up = resampled_look_up(data, folds, data.resamples, "cell")[0]
        gave = data.resamples @ values_of(data.rates, choices[rule[0]].operator)
        low, high = estimate((gave - looked_up) / len(data), len(data)).interval()
        held += low <= 0 <= high
    return held / simulations


SMALL = Landscape(problems=60, attempts=10, effect=1.5, blur=0.3, pair_sd=0.5)


def test_intervals_cover():
    # 300 draws of a true 95 %: 1.3 points of sd. The long form is below.
    assert 0.91 <= covers(SMALL, 300, 0) <= 0.985
    assert covers_out_of_fold(dataclasses.replace(SMALL, effect=0.0), 150, 1) >= 0.96


@pytest.mark.slow
@pytest.mark.parametrize("problems", [60, 200])
def test_intervals_cover_ten_thousand_times(problems):
    landscape = dataclasses.replace(SMALL, problems=problems)
    assert 0.94 <= covers(landscape, 10_000, 2) <= 0.965
    null = dataclasses.replace(landscape, effect=0.0)
    # Too wide rather than too sure: with the look-up held fixed it was 0.88 and 0.89.
    assert covers_out_of_fold(null, 10_000, 3) >= 0.95
