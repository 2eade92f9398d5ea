"""Certificates: verdicts on tables with a known truth, and the script as people run
it."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from synthetic_profiles import make, routing_data

from fr.comparison.cell_summary import describe_interaction
from fr.comparison.certify import gap_closed
from fr.comparison.leaks import leaking_columns
from fr.comparison.routes import read_routes
from fr.comparison.summary import measure_powers
from fr.comparison.verdict import (
    VERDICTS,
    largest_headrooms,
    routes_p,
    verdict_of,
)
from fr.config import Config, RoutingConfig
from fr.errors import UserError
from fr.profiles import AXES, read_cells, write_profiles
from fr.profiles.profile import Recorded
from fr.routing.baselines import values_of
from fr.routing.dataset import RoutingData

ROOT = pathlib.Path(__file__).parents[1]
SHORT = RoutingConfig(splittings=1, folds=4, posterior=100, nulls=19)


def verdict(profiles, smallest=3.0, **given):
    config = Config(routing=SHORT)
    data = RoutingData.build([profiles], config, compared=False)
    powers, interactions = measure_powers(data), describe_interaction(data)
    headrooms = largest_headrooms(interactions, powers)
    return verdict_of(data, headrooms, smallest, **given)


def test_a_table_without_an_effect_has_no_lift_beyond_a_bound():
    found = verdict(make(problems=200, attempts=20))
    assert found["verdict"] == "none" and found["exit"] == 1
    assert 0 <= found["left"] <= 3


def test_a_planted_effect_is_a_lift():
    found = verdict(make(problems=200, attempts=20, effect=0.4))
    assert found["verdict"] == "lift" and found["exit"] == 0
    assert found["lift"]["interval"]["low"] > 3


def test_the_gap_closed_is_a_routers_share_of_the_best_possible_lift():
    profiles = make(problems=400, attempts=64, effect=0.5)
    data, chance = routing_data(profiles), np.random.default_rng(1)
    names = ("dense_steer", "sparse_steer", "local_temp")
    best = np.array([profiles.operators.index(name) for name in names])
    best = best[profiles.features.argmax(axis=1)]  # mostly: the largest z-score
    fixed = values_of(data.values, best[:1].repeat(len(best)))
    routed = values_of(data.values, best)
    whole = gap_closed(data, routed, fixed, folds=5)
    assert whole["low"] > 85 and whole["high"] < 106
    half = np.where(chance.random(len(best)) < 0.5, routed, fixed)
    found = gap_closed(data, half, fixed, folds=5)
    assert found["low"] < 50 < found["high"] and found["high"] - found["low"] < 30
    none = gap_closed(data, fixed, fixed, folds=5)
    assert none == {"value": 0, "low": 0, "high": 0}


def test_without_headroom_there_is_no_gap_to_close():
    data = routing_data(make(problems=200, attempts=8))
    retry = values_of(data.values, np.zeros(len(data), int))
    assert gap_closed(data, retry, retry, folds=5) is None


def test_few_problems_are_too_little_data():
    found = verdict(make(problems=6))
    assert found["verdict"] == "too little data" and found["exit"] == 3
    assert "problems" in found["why"]
    found = verdict(make(problems=40, attempts=4, effect=0.1), smallest=0.01)
    assert found["verdict"] == "too little data" and found["left"] > 0.01


LEAKS = {
    "best": lambda rates: rates.argmax(axis=1),
    "copy": lambda rates: rates[:, 0],
    "gain": lambda rates: rates.max(axis=1) - rates[:, 0],
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_made_from_the_attempts_is_found(name):
    profiles = make(problems=200)
    made = LEAKS[name](profiles.rates).astype(float)
    columns = {"harmless": profiles.features[:, 0], name: made}
    (found,) = leaking_columns(profiles, columns)
    assert found["column"] == name and found["left"] < found["noise"]


# Yes or no, or a grade of few values, made from the attempts.
LABELS = {
    "steerable": lambda rates: rates.max(axis=1) > rates[:, 0] + 0.05,
    "solved": lambda rates: rates[:, 1] > 0,
    "any": lambda rates: rates.max(axis=1) > 0.25,
    "harmful": lambda rates: rates[:, 2] < rates[:, 0],
    "graded": lambda rates: np.digitize(rates.mean(axis=1), [0.2, 0.4, 0.6]),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_label_made_from_the_attempts_is_found(name):
    rng = np.random.default_rng(3)
    # Operators differ by problem, so that much is left within the label's values.
    true = 1 / (1 + np.exp(-rng.normal(-1, 1.5, (200, 1)) - rng.normal(0, 1, (200, 5))))
    seen = dataclasses.replace(make(problems=200), rates=rng.binomial(10, true) / 10)
    columns = {"label": np.asarray(LABELS[name](seen.rates), float)}
    (found,) = leaking_columns(seen, columns)
    assert found["column"] == "label"
    told = {"label": np.asarray(LABELS[name](true), float)}  # of the rates themselves
    assert leaking_columns(seen, told) == []


def test_a_label_of_two_kinds_that_are_far_apart_is_no_leak():
    rng = np.random.default_rng(4)
    kind = rng.random(200) < 0.5
    true = np.where(kind, 0.95, 0.02)[:, None] * np.ones(5)
    seen = dataclasses.replace(make(problems=200), rates=rng.binomial(10, true) / 10)
    assert seen.rates[kind, 0].min() > seen.rates[~kind, 0].max()  # without exception
    assert leaking_columns(seen, {"kind": kind.astype(float)}) == []


def test_true_rates_and_columns_of_failures_are_no_leak():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.1, 0.9, size=(300, 1)) * rng.uniform(0.5, 1, size=(300, 5))
    profiles = make(problems=300)
    seen = rng.binomial(10, true) / 10
    profiles = dataclasses.replace(profiles, rates=seen)
    columns = {f"true {o}": true[:, o] for o in range(5)}
    assert leaking_columns(profiles, columns) == []
    assert leaking_columns(profiles, {"index": true.argmax(axis=1).astype(float)}) == []


def with_shared_keys(problems=200, attempts=12, seed=0):
    """Operators of equal rates whose attempts of an index are mostly the same."""
    rng = np.random.default_rng(seed)
    shape = (problems, 5, attempts)
    rates = rng.uniform(0.2, 0.8, size=(problems, 1, 1))
    same = rng.random((problems, 1, attempts)) < rates
    own = rng.random(shape) < rates
    right = np.where(rng.random(shape) < 0.9, same, own)
    costs = {axis: np.full(shape, np.nan) for axis in AXES}
    recorded = Recorded(np.ones(shape, bool), right, costs, paired=True)
    profiles = make(problems=problems, attempts=attempts)
    return dataclasses.replace(profiles, rates=right.mean(axis=2), recorded=recorded)


def test_shared_keys_are_no_leak_and_a_leak_among_them_is_found():
    profiles = with_shared_keys()
    harmless = {"harmless": np.random.default_rng(1).normal(size=200)}
    assert leaking_columns(profiles, harmless) == []
    # Without them the noise is not binomial, with a column or without one.
    unpaired = dataclasses.replace(profiles, recorded=None)
    assert leaking_columns(unpaired, harmless) == []
    index = {"best": profiles.rates.argmax(axis=1).astype(float)}
    assert leaking_columns(profiles, index)
    ahead = profiles.rates[:, 1:].max(axis=1) > profiles.rates[:, 0]
    assert leaking_columns(profiles, {"ahead": ahead.astype(float)})
    assert leaking_columns(unpaired, index)


def test_no_column_is_blamed_for_what_a_constant_explains():
    same = dataclasses.replace(make(problems=120), rates=np.full((120, 5), 0.5))
    columns = {"harmless": same.features[:, 0], "coin": np.arange(120.0) % 2}
    assert leaking_columns(same, columns) == []
    rng = np.random.default_rng(5)
    nearly = rng.integers(4, 7, size=(120, 5)) / 10  # less than binomial noise
    nearly = dataclasses.replace(same, rates=nearly)
    assert leaking_columns(nearly, columns) == []
    (found,) = leaking_columns(nearly, columns | {"copy": nearly.rates[:, 0]})
    assert found["column"] == "copy"


def test_without_counts_no_leak_is_tested_and_the_verdict_says_so():
    profiles = make(problems=200)
    told = {"copy": profiles.rates[:, 0]}
    assert leaking_columns(profiles, told)
    guessed = dataclasses.replace(profiles, attempts=None)
    assert leaking_columns(guessed, told) == []
    assert verdict(guessed)["uncounted"] == ["model|task"]
    assert verdict(profiles)["uncounted"] == []


def test_routes_by_the_attempts_leak_and_by_the_cause_lift():
    profiles = make(problems=200)
    by_rates = profiles.rates.argmax(axis=1)
    assert verdict(profiles, routes=by_rates)["verdict"] == "leaked"
    profiles = make(problems=200, effect=0.3)
    told = [profiles.operators.index(name) for name in ("dense_steer", "sparse_steer")]
    told.append(profiles.operators.index("local_temp"))
    by_features = np.array(told)[profiles.features.argmax(axis=1)]
    found = verdict(profiles, routes=by_features)
    assert found["verdict"] == "lift" and found["null_p"] < 0.01
    at_random = np.random.default_rng(1).permutation(by_features)
    assert verdict(profiles, routes=at_random)["verdict"] in ("none", "too little data")


def test_the_null_of_routes_permutes_within_models():
    rng, profiles = np.random.default_rng(2), make(problems=60)
    data = RoutingData.build([profiles], Config(routing=SHORT), compared=False)
    same = np.zeros(60, int)
    assert routes_p(data, same, rng) == 1.0  # every permutation is equal


def test_outcomes_of_a_router_are_judged_as_they_are():
    profiles = make(problems=200, attempts=20)
    best = profiles.rates.mean(axis=0).max()
    found = verdict(profiles, outcomes=np.full(200, best + 0.2))
    assert found["verdict"] == "lift"
    assert found["lift"]["interval"]["value"] == pytest.approx(20, abs=4)
    assert found["null_p"] is None


def run(*given):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/certify.py", *given]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def table(tmp_path):
    write_profiles(tmp_path / "p.csv", [make(problems=60)])
    return tmp_path / "p.csv"


def test_the_script_declares_judges_and_exits_with_the_verdict(table, tmp_path):
    asked = f"--profiles={table}", f"--workdir={tmp_path / 'out'}"
    first = run(*asked, "--declare")
    assert first.returncode == 0 and "declared" in first.stdout + first.stderr
    assert not (tmp_path / "out" / "certificate.json").exists()
    done = run(*asked)
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert done.returncode == VERDICTS[found["verdict"]], done.stderr
    assert f"verdict: {found['verdict']}" in done.stdout
    lines = done.stdout.splitlines()[:-1]  # the last one has the folder's name
    assert len(lines) <= 60 and max(map(len, lines)) <= 100
    changed = run(*asked, "--smallest=1")
    assert "it changes the declaration" in " ".join(changed.stdout.split())
    listed = (
        "import sys; import fr.pipeline.certificate; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", listed], cwd=ROOT, check=True)


def test_a_table_of_others_needs_no_feature(tmp_path):
    lines = ["cell,problem_id,n_failed_rollouts,retry,retry_n,mine,mine_n,score"]
    rng = np.random.default_rng(3)
    for i in range(40):
        a, b = rng.binomial(8, 0.4, size=2) / 8
        lines.append(f"m|t,q{i},4,{a},8,{b},8,{rng.normal():.3f}")
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(lines) + "\n")
    done = run(f"--profiles={path}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode in (1, 3), done.stderr
    assert "columns read: failed_share, score" in done.stdout
    path.write_text("\n".join([lines[0] + ",note", *(x + ",a" for x in lines[1:])]))
    done = run(f"--profiles={path}", f"--workdir={tmp_path / 'named'}")
    assert "columns not read (not numbers): note" in done.stdout
    with pytest.raises(UserError, match="'spread' is missing"):
        read_cells([path])


@pytest.mark.parametrize("given", ["nan", "inf"])
def test_a_smallest_lift_that_is_no_number_is_refused(given, table, tmp_path):
    done = run(f"--profiles={table}", f"--workdir={tmp_path}", f"--smallest={given}")
    assert done.returncode == 2
    assert f"--smallest={given} is not a number" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_the_script_ends_with_no_verdicts_code(tmp_path):
    faulty = "import runpy, fr.cli; fr.cli.run = lambda main: 1 / 0\n"
    faulty += "runpy.run_path('scripts/certify.py', run_name='__main__')"
    command = [sys.executable, "-c", faulty]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 70 and done.returncode not in VERDICTS.values()
    assert "ZeroDivisionError" in done.stderr


BAD = {
    "cell,problem_id\nmodel|task,p0": "one of operator and rate",
    "cell,problem_id,operator\nmodel|task,p0,rety": "did you mean 'retry'|retry",
    "cell,problem_id,operator\nmodel|task,p0,retry": "'p1' of cell",
    "cell,problem_id,rate\nmodel|task,p0,1.5": "not in",
    "cell,problem_id,rate\nmodel|task,p0,x": "rate",
    "cell,problem_id,rate\nmodel|task,p0,1\nmodel|task,p0,1": "twice",
    "cell;problem_id;rate\nmodel|task;p0;1": "separated by semicolons",
    "cell\tproblem_id\trate\nmodel|task\tp0\t1": "separated by tabs",
    "cell,problem_id,rate\nmodel|task,p0,1,1": "line 2: has not the 3 fields",
    "cell,problem_id,rate\nmodel|task,p0": "line 2: has not the 3 fields",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_routes_are_refused_by_line(text, tmp_path):
    (tmp_path / "routes.csv").write_text(text + "\n")
    data = RoutingData.build([make(problems=60)], Config(routing=SHORT), compared=False)
    with pytest.raises(UserError, match=BAD[text]):
        read_routes(tmp_path / "routes.csv", data)


def test_routes_of_problems_that_are_not_in_the_table(tmp_path):
    cell = make(problems=60)
    whole = "cell,problem_id,rate\n" + "".join(
        f"{cell.cell},{problem},0.5\n" for problem in cell.problems
    )
    path = tmp_path / "routes.csv"

    def rates(further: str, excluded: int = 0):
        path.write_text(whole + further)
        cells = [dataclasses.replace(cell, excluded=excluded)]
        data = RoutingData.build(cells, Config(routing=SHORT), compared=False)
        return read_routes(path, data)[1]

    assert len(rates("")) == len(rates(f"{cell.cell},solved,0.5\n", 1)) == 60
    with pytest.raises(UserError, match="line 62: problem 'new' .* not in the prof"):
        rates(f"{cell.cell},new,0.5\n")
    with pytest.raises(UserError, match="line 62: cell 'other' is not in the profiles"):
        rates("other,p0,0.5\n", 1)
