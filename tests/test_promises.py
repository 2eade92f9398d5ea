"""What a head expects of its choices beside what came: calibrated heads are called so, boastful ones are not."""

import numpy as np
import pytest
from synthetic_profiles import make

from benchmarks.landscapes import Landscape, simulate
from fr.config import RoutingConfig
from fr.routing.compare import EVERYWHERE, TRANSFER, Judged
from fr.routing.folds import make_folds, resample_problems
from fr.routing.learn import READS
from fr.routing.policies import out_of_fold
from fr.routing.pool import make_pool, make_populations
from fr.routing.promises import calibration
from fr.stats.bootstrap import resample_weights
from fr.stats.calibration import ece

PROBLEMS, ATTEMPTS = 400, 10


def judge(expected, rates, choice=None, fixed=0, protocol="kfold", policy="head"):
    """The rows of one policy over two operators, on a table with these outcomes."""
    pool = make_pool([make(len(rates), ATTEMPTS, operators=("retry", "local_temp"))])
    pool = type(pool)(**{**vars(pool), "rates": rates})
    fixed = np.full(len(rates), fixed)
    routes = {
        policy: fixed if choice is None else choice,
        "best_fixed_per_cell": fixed,
        "frozen_fixed": fixed,
    }
    weights = resample_weights(len(rates), 300, np.random.default_rng(0))
    return calibration(pool, [Judged(protocol, "all", routes, {policy: expected})], weights, 10)


def drawn(seed=0, boast=1.0):
    """True rates that a head knows, and outcomes; its own logits are `boast` times as far from 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(PROBLEMS, 2))
    rates = rng.binomial(ATTEMPTS, 1 / (1 + np.exp(-logits))) / ATTEMPTS
    return 1 / (1 + np.exp(-boast * logits)), rates


def test_a_calibrated_head_errs_as_much_as_noise_does():
    rows = [judge(*drawn(seed))[0] for seed in range(20)]
    assert np.mean([row["ece"]["value"] for row in rows]) == pytest.approx(
        np.mean([row["ece"]["noise"] for row in rows]), rel=0.2
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
    assert row["ece"]["value"] == pytest.approx(100 * ece(said, right.ravel()), abs=1e-5)
    assert row["slope"]["high"] < 0.7 and row["ece"]["low"] > 2 * row["ece"]["noise"]
    assert row["expected"] == pytest.approx(100 * expected[:, 0].mean(), abs=1e-5)
    assert sum(found["n"] for found in row["bins"]) == row["n"] == PROBLEMS


def test_departures_are_counted_by_what_they_promised_and_gained():
    expected = np.tile([0.3, 0.5], (PROBLEMS, 1))
    rates = np.tile([0.4, 0.5], (PROBLEMS, 1))
    choice = np.arange(PROBLEMS) % 4 // 3
    row = judge(expected, rates, choice)[0]
    assert row["departures"]["n"] == PROBLEMS // 4
    assert row["departures"]["promised"] == pytest.approx(20) and row["departures"]["gained"]["value"] == 10
    assert judge(expected, rates)[0]["departures"] == {"n": 0, "promised": None, "gained": None}
    # All is expected to go alike: no line can be drawn.
    assert judge(expected, rates)[0]["slope"]["value"] is None


def test_a_stop_promises_nothing_and_a_place_without_an_answer_has_no_row():
    expected, rates = drawn()
    stops = np.where(np.arange(PROBLEMS) < 100, 2, 0)
    assert [row["n"] for row in judge(expected, rates, stops)] == [PROBLEMS - 100] * 2
    assert judge(expected, rates, np.full(PROBLEMS, 2)) == []
    assert judge(expected, rates, np.where(stops, -1, 0)) == []
    # Of heads that were trained here, only the one that reads all; of frozen ones, all.
    assert judge(expected, rates, policy="head_prompt") == []
    assert len(judge(expected, rates, policy="frozen_head", protocol=TRANSFER)) == 2


def test_out_of_fold_a_head_promises_no_more_than_comes(monkeypatch):
    monkeypatch.setattr("fr.routing.policies.READS", {"head": READS["head"]})
    quick = RoutingConfig(bootstrap=300, folds=3, inner_folds=3, steps=60, seeds=1, penalties=(0.002,))
    found = simulate(Landscape(problems=300, effect=2.0, blur=0.3), np.random.default_rng(0))
    pool = make_pool([found.profiles])
    population = make_populations(pool, [None], quick)["all"]
    rng = np.random.default_rng(0)
    folds = make_folds(pool, "kfold", 3, rng)
    judged = Judged("kfold", "all", *out_of_fold(pool, population, folds, quick, rng, heads=True))
    weights = resample_problems(pool, np.arange(len(pool)), 300, rng)
    row = next(r for r in calibration(pool, [judged], weights, 10) if r["cell"] == EVERYWHERE)
    # A linear head of three features says less than the largest of them does, and so it promises too little.
    assert 0.5 < row["slope"]["value"] < 1.5 and 0 < row["gap"]["diff"] < 10
    departs = row["departures"]
    assert departs["n"] > 100 and 5 < departs["promised"] < departs["gained"]["low"]
