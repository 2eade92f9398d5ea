"""Estimates of true rates from attempts: parameters, oracle, labels and power with a
known truth.
"""

import numpy as np
import pytest

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.power import label_posterior, label_stability, measure_power
from fr.config import RoutingConfig
from fr.diagnosis.labels import STEERABLE, label
from fr.profiles import OPERATORS
from fr.stats.binomial import draw_rates, fit_beta_binomial, fit_hierarchy, power

ALIKE = Landscape(
    problems=400, attempts=10, operators=(-1.0, -0.8, -0.9, -0.7, -0.8), problem_sd=1.5
)


def found(landscape, seed=0):
    simulated = simulate(landscape, np.random.default_rng(seed))
    correct = np.round(simulated.profiles.rates * landscape.attempts).astype(int)
    return simulated, correct, simulated.profiles.attempts


@pytest.mark.parametrize("pair_sd", [0.3, 1.0])
def test_the_oracle_of_the_model_is_the_true_one_where_the_seen_one_is_not(pair_sd):
    simulated, correct, attempts = found(
        Landscape(**{**vars(ALIKE), "pair_sd": pair_sd})
    )
    model = fit_hierarchy(correct, attempts)
    assert model.problem_sd == pytest.approx(
        1.5, abs=0.25
    ) and model.pair_sd == pytest.approx(pair_sd, abs=0.2)
    drawn = draw_rates(model, correct, attempts, 100, np.random.default_rng(1))
    truth = simulated.rates.max(axis=1).mean()
    assert drawn.max(axis=-1).mean() == pytest.approx(truth, abs=0.02)
    assert simulated.profiles.rates.max(axis=1).mean() > truth + 0.04
    # Posterior means are nearer to the truth than the shares that were seen.
    error = lambda rates: np.abs(rates - simulated.rates).mean()
    assert error(drawn.mean(axis=0)) < 0.9 * error(simulated.profiles.rates)


def test_the_beta_of_rates_is_found():
    rng = np.random.default_rng(0)
    n = rng.integers(4, 15, size=4000)
    fitted = fit_beta_binomial(rng.binomial(n, rng.beta(0.8, 2.4, size=4000)), n)
    assert fitted.a == pytest.approx(0.8, rel=0.1) and fitted.b == pytest.approx(
        2.4, rel=0.1
    )
    assert fitted.mean == pytest.approx(0.25, abs=0.01)
    assert fitted.sd == pytest.approx(np.sqrt(0.25 * 0.75 / 4.2), abs=0.01)


def test_posterior_labels_are_right_as_often_as_they_say():
    landscape = Landscape(**{**vars(ALIKE), "pair_sd": 0.8, "problems": 1000})
    simulated, correct, attempts = found(landscape)
    drawn = draw_rates(
        fit_hierarchy(correct, attempts),
        correct,
        attempts,
        100,
        np.random.default_rng(1),
    )
    chance = label_posterior(drawn, OPERATORS, 0.05, 0.5)
    assert np.allclose(chance.sum(axis=1), 1)
    true = label(simulated.rates, OPERATORS, 0.05, 0.5) == STEERABLE
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        said = (chance[:, STEERABLE] > low) & (chance[:, STEERABLE] <= high)
        assert true[said].mean() == pytest.approx(
            chance[said, STEERABLE].mean(), abs=0.08
        )


def test_labels_settle_with_attempts():
    rates = np.random.default_rng(0).beta(0.8, 2.0, size=(20, 300, 5))
    rows = label_stability(
        rates, OPERATORS, 0.05, 0.5, (5, 30, 1000), np.random.default_rng(1)
    )
    assert [row["attempts"] for row in rows] == [5, 30, 1000]
    assert rows[0]["same"] < rows[1]["same"] < rows[2]["same"] and rows[2]["same"] > 0.9
    assert rows[0]["right"] < rows[2]["right"] and rows[2]["right"] > 0.95


def test_the_power_that_is_printed_is_the_power_there_is():
    landscape = Landscape(problems=4000, attempts=10, pair_sd=0.6, problem_sd=1.0)
    simulated = simulate(landscape, np.random.default_rng(0))
    told = power(simulated.rates[None], tried=10)
    lift = 0.05
    needed = next(row for row in told["needed"] if row["lift"] == 0.05)["10"]
    gap = simulated.profiles.rates[:, 1] - simulated.profiles.rates[:, 0]
    gap = gap - gap.mean() + lift
    rng = np.random.default_rng(1)
    samples = rng.choice(gap, size=(2000, needed))
    seen = samples.mean(axis=1) > 1.96 * samples.std(axis=1) / np.sqrt(needed)
    assert 0.74 < seen.mean() < 0.86
    assert (
        told["needed"][0]["100"] < told["needed"][0]["10"] and told["detectable"] < 0.05
    )


def test_without_attempts_there_is_no_power():
    profiles = simulate(Landscape(problems=30), np.random.default_rng(0)).profiles
    unknown = type(profiles)(
        **{**vars(profiles), "rates": profiles.rates * 0 + 0.123457, "attempts": None}
    )
    assert measure_power(unknown, RoutingConfig(), np.random.default_rng(0)) is None
    record = measure_power(
        profiles, RoutingConfig(posterior=20), np.random.default_rng(0)
    ).record
    assert sum(row["expected"] for row in record["labels"].values()) == pytest.approx(
        30, abs=1e-3
    )
    assert record["perfect_router"] >= record["best_fixed"]
