"""The router in closed form, and what certifies its lift: calibrated, quiet without
signal, clustered variances.
"""

import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest
from synthetic_profiles import routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.certify import beats_every, certify, columns_p, judge, training_runs
from fr.config import RoutingConfig
from fr.routing.baselines import look_up
from fr.routing.policies import posterior_policies
from fr.routing.posterior import choose_by_posterior
from fr.stats.clustered import clustered_mean
from fr.stats.mixed_logistic import fit_mixed

QUICK = RoutingConfig(folds=4, splittings=2, splits=2, bootstrap=50)
READS = ("signal", "nuisance")
ROUTERS = posterior_policies()[:2]


def draw(problems=300, effect=2.0, blur=0.3, seed=0, names=("a|x",), **more):
    rng = np.random.default_rng(seed)
    landscape = Landscape(problems=problems, effect=effect, blur=blur, **more)
    found = [simulate(landscape, rng, name) for name in names]
    profiles = [one.profiles for one in found]
    return routing_data(*profiles, routing=QUICK, seed=seed), found


def test_weights_variances_and_rates_of_the_model_are_found():
    rng = np.random.default_rng(0)
    n, weights = 1500, np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    columns = rng.normal(size=(n, 2))
    logits = (
        np.array([-1.0, 0.0, -0.5]) + columns @ weights + 1.2 * rng.normal(size=(n, 1))
    )
    logits += 0.5 * rng.normal(size=(n, 3))
    rates, attempts = (
        rng.binomial(10, 1 / (1 + np.exp(-logits))) / 10,
        np.full((n, 3), 10),
    )
    model, _ = fit_mixed(columns, np.zeros(n, int), rates, attempts, np.ones(n))
    assert model.weights == pytest.approx(weights, abs=0.15)
    assert model.apart[0] > 0.3 and model.apart[1] < 0.02
    assert np.sqrt(model.problem) == pytest.approx(1.2, abs=0.15)
    assert np.sqrt(model.pair) == pytest.approx(0.5, abs=0.15)
    level = model.level(columns, rates.mean(axis=0), np.ones(n))
    expected = model.rates(level, columns)
    assert expected.mean(axis=0) == pytest.approx(rates.mean(axis=0), abs=1e-6)
    slope = np.polyfit(expected.ravel(), rates.ravel(), 1)
    assert slope == pytest.approx([1.0, 0.0], abs=0.06)


def test_priors_and_data_meet_as_in_the_plain_inverse():
    rng = np.random.default_rng(1)
    n, x = 80, rng.normal(size=(80, 3))
    rates = rng.binomial(8, 0.4, size=(n, 4)) / 8
    place, attempts = np.arange(n) % 2, np.full((n, 4), 8)
    attempts[place == 0, 3], rates[place == 0, 3] = 0, 0.0
    model, pull = fit_mixed(x, place, rates, attempts, np.ones(n))
    # The mode, by the marginal covariance of each row's logits: weights are what their
    # prior covariance makes of the scores.
    scores = x.T @ pull
    mean = scores.mean(axis=1, keepdims=True)
    expected = model.together[:, None] * mean
    expected = expected + model.apart[:, None] * (scores - mean)
    assert model.weights == pytest.approx(expected, abs=0.02)


def test_outcomes_of_held_out_rows_are_not_read_and_nothing_is_random():
    data, _ = draw()
    data = data.reading(READS)
    train = np.arange(len(data)) % 4 > 0
    choice, rates = choose_by_posterior(data, train)
    assert len(np.unique(choice[~train])) > 2
    spoiled = dataclasses.replace(
        data, values=np.where(train[:, None], data.values, 1.0)
    )
    again = choose_by_posterior(spoiled, train)
    assert np.array_equal(choice, again[0]) and np.array_equal(rates, again[1])


def test_without_columns_to_read_the_choice_is_the_look_up():
    data, _ = draw(
        effect=0.0, names=("a|x", "b|y"), operators=(-1.0, -0.5, -1.0, -1.2, 0.0)
    )
    data = data.reading(())
    train = np.arange(len(data)) % 3 > 0
    choice, _ = choose_by_posterior(data, train)
    assert np.array_equal(choice, look_up(data, train, "model"))
    # A cell that was left out is looked up, too.
    train = data.cell == 0
    choice, _ = choose_by_posterior(data, train)
    assert np.array_equal(choice, look_up(data, train, "model"))


def test_a_planted_lift_is_certified_and_none_is_without_signal():
    told, plain = certify(ROUTERS, draw(effect=2.5)[0])
    assert (
        told["interval"]["low"] > 5 and told["p"] < 1e-4 and told["every"]["p"] < 1e-3
    )
    most = told["interval"]["value"] + 0.5
    assert told["every"]["interval"]["value"] <= most and told["questions"] == 300
    assert told["runs"] == 1 and told["folds"] == 8
    assert told["certified"] and told["columns_p"] < 1e-3 and not plain["certified"]
    assert plain["policy"] == "posterior_nuisances" and plain.get("p", 1) > 1e-3
    certified = 0
    for seed in range(5):
        one = certify(ROUTERS, draw(problems=80, effect=0.0, seed=seed)[0])[0]
        certified += one["every"] is not None and one["every"]["p"] <= 0.05
    assert certified <= 1
    assert certify(ROUTERS, draw(problems=6)[0]) == []


def test_columns_tell_operators_apart_where_they_do_and_seldom_where_they_do_not():
    p, faint = [], []
    for seed in range(50):
        for found, effect, blur in ((p, 0.0, 0.3), (faint, 2.5, 2.5))[
            : 2 if seed < 10 else 1
        ]:
            data, _ = draw(
                problems=100, effect=effect, blur=blur, seed=seed, pair_sd=0.3
            )
            found.append(columns_p(data.reading(READS), np.random.default_rng(seed)))
    # At a level of 5 %, 7 or more of 50 are seen one time in eighty.
    assert np.sum(np.array(p) <= 0.05) < 7 and 0.35 < np.mean(p) < 0.65
    assert np.median(faint) < 0.1 and min(faint) < 0.01


def test_a_question_of_several_rows_is_one_draw_of_signs():
    data, found = draw(problems=60, effect=0.0, pair_sd=0.8)
    ask = lambda data: columns_p(data.reading(READS), np.random.default_rng(0))
    once = ask(data)
    # Every row five times, as the same question: nothing more is known than of one.
    profiles = found[0].profiles
    rows = np.repeat(np.arange(60), 5)
    extras = {
        name: tuple(values[i] for i in rows) for name, values in profiles.extras.items()
    }
    many = dataclasses.replace(
        profiles,
        problems=tuple(f"{profiles.problems[i]} {n}" for n, i in enumerate(rows)),
        n_failed=profiles.n_failed[rows],
        features=profiles.features[rows],
        rates=profiles.rates[rows],
        attempts=profiles.attempts[rows],
        extras=extras | {"question": tuple(profiles.problems[i] for i in rows)},
    )
    assert ask(routing_data(many, routing=QUICK)) == pytest.approx(once, rel=0.35)
    assert columns_p(data.reading(()), np.random.default_rng(0)) == 1.0


def test_the_hardest_fixed_choice_decides():
    data, _ = draw(
        effect=0.0, names=("a|x", "b|y"), operators=(-1.0, -0.5, -1.0, -1.2, 0.0)
    )
    gave = data.values.max(axis=1)
    (mean, error, _), choice = beats_every(data, gave, [data.problem])
    assert choice == [4, 4]  # of the largest mean rate
    gap = gave - data.values[:, 4]
    assert mean == pytest.approx(gap.mean()) and error == pytest.approx(
        gap.std(ddof=1) / np.sqrt(len(gap)), rel=0.01
    )
    # As the best fixed operator itself, nothing is beaten.
    own = judge(data, data.values[:, 4], data.values[:, 4], 5)
    assert (
        "p" not in own
        and own["interval"]["low"] is None
        and (own["every"] is None or own["every"]["p"] >= 0.5)
    )


def test_variances_are_clustered_by_question_and_by_run():
    rng = np.random.default_rng(0)
    questions, runs = np.repeat(np.arange(40), 18), np.tile(np.arange(18), 40)
    errors, naive = [], []
    for _ in range(200):
        values = (
            rng.normal(size=40)[questions]
            + rng.normal(size=18)[runs]
            + rng.normal(size=720)
        )
        mean, error, degrees = clustered_mean(values, np.ones(720), [questions, runs])
        errors.append((mean / error) ** 2)
        naive.append(
            (mean / clustered_mean(values, np.ones(720), [np.arange(720)])[1]) ** 2
        )
    assert degrees == 17 and 0.7 < np.mean(errors) < 1.6 and np.mean(naive) > 10
    assert clustered_mean(np.full(720, 0.5), np.ones(720), [questions])[1] == 0.0


def test_runs_are_a_unit_only_where_cells_mix_them():
    one, other = (
        draw(problems=20, names=(name,))[1][0].profiles for name in ("a|x", "b|x")
    )
    assert len(set(training_runs(routing_data(one, other, routing=QUICK)))) == 1
    told = [
        dataclasses.replace(p, extras=p.extras | {"model": ("m", "n") * 10})
        for p in (one, other)
    ]
    # one cell of two models
    assert len(set(training_runs(routing_data(told[0], routing=QUICK)))) == 2
    named = [
        dataclasses.replace(p, extras=p.extras | {"run": ("r", "s") * 10})
        for p in (one, other)
    ]
    assert len(set(training_runs(routing_data(*named, routing=QUICK)))) == 2


def power_study():
    path = pathlib.Path(__file__).parents[1] / "benchmarks" / "routing_power.py"
    spec = importlib.util.spec_from_file_location("routing_power", path)
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    return study


def test_the_study_of_power_draws_the_streams_of_its_stored_results():
    """Lifts of four tables, as the code that wrote the results computed them."""
    study = power_study()
    landscape = dataclasses.replace(study.LIFTS["no lift, 60 problems"][0], effect=0.0)
    lifts = [study.one_lift(landscape, seed)["lift"] for seed in range(4)]
    assert lifts == [0.25, -0.541667, -1.125, -0.25]


@pytest.mark.slow
def test_a_row_of_the_study_of_power_is_the_stored_one():
    study, name = power_study(), "no lift, 60 problems"
    path = pathlib.Path(__file__).parents[1] / "docs/results/data/routing_power.json"
    stored = json.loads(path.read_text())["simulated"]["lift"][name]
    landscape = dataclasses.replace(study.LIFTS[name][0], effect=stored["effect"])
    rows = [study.one_lift(landscape, seed) for seed in range(stored["tables"])]
    assert all(np.mean([row[key] for row in rows]) == stored[key] for key in rows[0])


@pytest.mark.slow
def test_false_positives_and_power_of_a_certified_lift_in_short():
    study = power_study()

    def certified(name: str, tables: int, effect: float) -> float:
        landscape = dataclasses.replace(study.LIFTS[name][0], effect=effect)
        return np.mean(
            [
                study.one_lift(landscape, seed)["certified"]
                for seed in range(5000, 5000 + tables)
            ]
        )

    # At a level of 5 %, 7 or more of 50 are seen one time in eighty.
    assert certified("no lift", 50, 0.0) < 7 / 50
    assert certified("told but no lift: another is as good", 50, 1.0) < 7 / 50
    assert certified("faint features, a reader's lift of 6", 30, 2.549) > 0.25
