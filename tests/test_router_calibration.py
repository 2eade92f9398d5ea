"""Calibration of the router: rescue rates that it expects against those observed."""

import dataclasses

import numpy as np
import pytest
from synthetic_profiles import make, routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.evaluate import TRANSFER, Judged, choose_out_of_fold
from fr.comparison.summary import calibrate_routers
from fr.config import RoutingConfig
from fr.routing.dataset import EVERYWHERE
from fr.routing.policies import Choice, Policy, baselines, learned_policies
from fr.routing.training import fit_learned
from fr.stats.calibration import ece

PROBLEMS, ATTEMPTS = 400, 10


def judge(expected, rates, choice=None, fixed=0, main=True, frozen=False):
    """The rows of one policy over two operators, on a table with these outcomes."""
    profiles = make(len(rates), ATTEMPTS, operators=("retry", "local_temp"))
    data = routing_data(profiles, routing=RoutingConfig(bootstrap=300, splits=2))
    data = dataclasses.replace(data, rates=rates)
    fixed = np.full(len(rates), fixed)
    names = ("best_fixed_per_cell", "frozen_fixed")
    choices = {Policy(name, name, None, main=False): Choice(fixed) for name in names}
    policy = Policy("one", "one", None, main=main, frozen=frozen)
    choices[policy] = Choice(fixed if choice is None else choice, expected)
    return calibrate_routers(data, [Judged("kfold", choices)], 10)


def drawn(seed=0, boast=1.0):
    """True rates that a router knows, and outcomes; its own logits are `boast` times as
    far from 0.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(PROBLEMS, 2))
    rates = rng.binomial(ATTEMPTS, 1 / (1 + np.exp(-logits))) / ATTEMPTS
    return 1 / (1 + np.exp(-boast * logits)), rates


def test_a_calibrated_router_errs_as_much_as_noise_does():
    rows = [judge(*drawn(seed))[0] for seed in range(20)]
    assert np.mean([row["ece"]["value"] for row in rows]) == pytest.approx(
        np.mean([row["ece_noise"] for row in rows]), rel=0.2
    )
    covered = [row["slope"]["low"] <= 1 <= row["slope"]["high"] for row in rows]
    covered += [row["gap"]["low"] <= 0 <= row["gap"]["high"] for row in rows]
    assert np.mean(covered) > 0.85


def test_the_error_is_that_of_diagnosis_and_a_boast_is_seen():
    expected, rates = drawn(boast=3.0)
    row = judge(expected, rates)[0]
    # Every attempt for itself, as calibration of answers has it.
    said = np.repeat(expected[:, 0], ATTEMPTS)
    right = np.arange(ATTEMPTS)[None] < np.round(ATTEMPTS * rates[:, :1])
    assert row["ece"]["value"] == pytest.approx(
        100 * ece(said, right.ravel()), abs=1e-5
    )
    assert row["slope"]["high"] < 0.7 and row["ece"]["low"] > 2 * row["ece_noise"]
    assert row["expected"] == pytest.approx(100 * expected[:, 0].mean(), abs=1e-5)
    assert sum(found["n"] for found in row["bins"]) == row["n"] == PROBLEMS


def test_departures_are_counted_by_what_they_promised_and_gained():
    expected = np.tile([0.3, 0.5], (PROBLEMS, 1))
    rates = np.tile([0.4, 0.5], (PROBLEMS, 1))
    choice = np.arange(PROBLEMS) % 4 // 3
    row = judge(expected, rates, choice)[0]
    departs = row["departures"]
    assert departs["n"] == PROBLEMS // 4 and departs["expected_lift"] == pytest.approx(
        20
    )
    assert departs["observed_lift"]["value"] == 10
    assert judge(expected, rates)[0]["departures"] == {
        "n": 0,
        "expected_lift": None,
        "observed_lift": None,
    }
    # All is expected to go alike: no line can be drawn.
    assert judge(expected, rates)[0]["slope"]["value"] is None


def test_a_stop_promises_nothing_and_a_place_without_an_answer_has_no_row():
    expected, rates = drawn()
    stops = np.where(np.arange(PROBLEMS) < 100, 2, 0)
    assert [row["n"] for row in judge(expected, rates, stops)] == [PROBLEMS - 100] * 2
    assert judge(expected, rates, np.full(PROBLEMS, 2)) == []
    assert judge(expected, rates, np.where(stops, -1, 0)) == []
    # Variants of a router have no rows; a frozen one has them beside its protocol's
    # rows.
    assert judge(expected, rates, main=False) == []
    rows = judge(expected, rates, frozen=True)
    assert [row["protocol"] for row in rows] == [TRANSFER] * 2


def test_out_of_fold_a_router_expects_no_more_than_comes():
    quick = RoutingConfig(
        bootstrap=300,
        folds=3,
        inner_folds=3,
        steps=60,
        seeds=1,
        penalties=(0.002,),
        splits=2,
    )
    found = simulate(
        Landscape(problems=300, effect=2.0, blur=0.3), np.random.default_rng(0)
    )
    data = routing_data(found.profiles, routing=quick)
    policies = [*learned_policies(fit_learned)[:1], *baselines()]
    choices = choose_out_of_fold(
        policies, data, data.folds("kfold"), np.random.default_rng(0)
    )
    rows = calibrate_routers(data, [Judged("kfold", choices)], 10)
    row = next(r for r in rows if r["cell"] == EVERYWHERE)
    # A linear router of three features says less than the largest of them does, and
    # expects too little.
    assert 0.5 < row["slope"]["value"] < 1.5 and 0 < row["gap"]["value"] < 10
    departs = row["departures"]
    assert (
        departs["n"] > 100
        and 5 < departs["expected_lift"] < departs["observed_lift"]["low"]
    )
