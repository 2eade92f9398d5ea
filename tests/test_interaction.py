"""The test of an interaction finds none where there is none, and a planted one."""

import dataclasses

import numpy as np
import pytest
from synthetic_profiles import routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.cell_summary import describe_interaction
from fr.config import RoutingConfig
from fr.profiles import OPERATORS
from fr.stats import interaction as module
from fr.stats.interaction import _Null, interaction


def p_values(landscape, tables, seed=0, draws=99):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(tables):
        profiles = simulate(landscape, rng).profiles
        correct = np.round(profiles.rates * profiles.attempts).astype(int)
        found.append(
            interaction(correct, profiles.attempts, draws, rng, headroom=False).p
        )
    return np.array(found)


def test_moments_and_draws_are_those_of_the_conditional_distribution():
    effects, rows = np.array([0.7, -0.2, -0.5]), np.array([[3, 2, 4], [1, 4, 2]])
    null = _Null(effects, rows, np.array([0, 1]))
    mean, variance = null.moments()
    totals = np.array([4, 3])
    drawn = null.draw(totals, 40_000, np.random.default_rng(0))
    assert (
        (drawn.sum(axis=2) == totals).all()
        and (drawn <= rows).all()
        and (drawn >= 0).all()
    )
    at = np.arange(2), totals
    np.testing.assert_allclose(drawn.mean(axis=0), mean[at], atol=0.02)
    np.testing.assert_allclose(drawn.var(axis=0), variance[at], atol=0.02)
    # What binomial attempts leave when their number is known does not depend on the
    # problem.
    chance = 1 / (1 + np.exp(-(effects + 1.3)))
    counts = np.random.default_rng(1).binomial(rows[0], chance, size=(200_000, 3))
    counts = counts[counts.sum(axis=1) == 4]
    np.testing.assert_allclose(counts.mean(axis=0), mean[0, 4], atol=0.03)


@pytest.mark.parametrize(
    "landscape",
    [
        Landscape(problems=60, problem_sd=3.0, operators=(-2.0, -1.0, 0.0, -0.5, -1.0)),
        Landscape(problems=40, attempts=3),
    ],
)
def test_without_an_interaction_one_in_twenty_is_found(landscape):
    found = p_values(landscape, 60, draws=59)
    assert (found <= 0.05).mean() <= 0.1 and 0.4 < found.mean() < 0.6


def test_an_interaction_is_found_and_its_headroom_is_covered():
    landscape = Landscape(problems=150, attempts=10, pair_sd=0.8)
    assert (p_values(landscape, 10) <= 0.05).mean() > 0.9
    held = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        simulated = simulate(landscape, rng)
        rates, profiles = simulated.rates, simulated.profiles
        truth = rates.max(axis=1).mean() - rates.mean(axis=0).max()
        correct = np.round(profiles.rates * profiles.attempts).astype(int)
        found = interaction(correct, profiles.attempts, 99, rng)
        held += found.headroom.low <= truth <= found.headroom.high
        assert found.sd.low <= found.sd.value <= found.sd.high
    assert held >= 4


def test_a_deterministic_operator_is_left_out_and_said_to_be():
    profiles = simulate(Landscape(problems=60), np.random.default_rng(0)).profiles
    rates, dense = profiles.rates.copy(), OPERATORS.index("dense_steer")
    rates[:, dense] = np.random.default_rng(1).integers(
        2, size=60
    )  # right or not, on each problem
    told = dataclasses.replace(profiles, rates=rates, deterministic=("dense_steer",))
    quick = RoutingConfig(nulls=99, splits=2, bootstrap=10)
    tested = lambda *cells: describe_interaction(routing_data(*cells, routing=quick))
    found, other = tested(told, dataclasses.replace(told, cell="b|y"))
    assert (
        found["left_out"] == ["dense_steer"]
        and found["p"] > 0.05
        and found["headroom"]["low"] < 0.01
    )
    assert found["p_holm"] >= found["p"] and other["cell"] == "b|y"
    rates[:, : dense - 1] = 0.5
    once = dataclasses.replace(told, attempts=np.ones_like(told.attempts))
    assert "needs two operators" in tested(once)[0]["why"]
    free = dataclasses.replace(told, deterministic=())
    assert tested(free)[0]["p"] <= 0.05


@pytest.mark.slow
def test_false_positives_over_a_thousand_tables():
    for landscape in (Landscape(), Landscape(problems=120, attempts=5, problem_sd=2.5)):
        assert (p_values(landscape, 1000, seed=1, draws=199) <= 0.05).mean() <= 0.065


def test_many_attempts_at_a_problem_do_not_underflow(monkeypatch):
    rng, stream = np.random.default_rng(0), lambda: np.random.default_rng(1)
    rates = rng.beta(1, 2, (40, 1)) * np.ones(5)
    few = rng.binomial(20, rates), np.full((40, 5), 20)
    plain = interaction(*few, 100, stream())
    monkeypatch.setattr(module, "_ATTEMPTS", 30)
    # Given the total, nothing depends on the tilts.
    tilted = interaction(*few, 100, stream())
    assert tilted.p == plain.p
    assert tilted.statistic == pytest.approx(plain.statistic)
    assert tilted.headroom.high == pytest.approx(plain.headroom.high)
    monkeypatch.undo()
    many = rng.binomial(64, rates[:, :1] * np.ones(28))
    many[0], many[1] = 0, 64  # 1,792 attempts without a right one, and all right
    found = interaction(many, np.full(many.shape, 64), 50, stream(), headroom=False)
    assert found.p > 0.05 and 0.8 < found.statistic / found.null < 1.25
