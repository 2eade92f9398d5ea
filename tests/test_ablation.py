"""Gains planted in one group of columns are found in that group and in no other."""

import dataclasses

import numpy as np
import pytest
from synthetic_profiles import routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.summary import ablate
from fr.config import RoutingConfig
from fr.report.render import render
from fr.routing.policies import learned_policies
from fr.routing.training import fit_learned

QUICK = RoutingConfig(
    bootstrap=500,
    folds=3,
    inner_folds=3,
    steps=60,
    seeds=1,
    penalties=(0.002, 0.01),
    splits=2,
)


def rows_of(profiles, routing=QUICK) -> dict[str, dict]:
    data = routing_data(profiles, routing=routing, seed=3)
    return {row["group"]: row for row in ablate(data, learned_policies(fit_learned))}


@pytest.fixture(scope="module")
def planted():
    profiles = simulate(
        Landscape(problems=240, effect=2.5, blur=0.3), np.random.default_rng(0)
    ).profiles
    noise = np.random.default_rng(9).normal(size=(2, len(profiles)))
    columns = {
        name: tuple(f"{x:.6g}" for x in row)
        for name, row in zip(("entropy_mean", "repetition"), noise)
    }
    return dataclasses.replace(profiles, extras=profiles.extras | columns)


def test_the_group_that_tells_is_the_one_that_adds_and_is_missed(planted):
    rows = rows_of(planted)
    assert list(rows) == ["all signals", "lineage", "entropy", "repetition"]
    assert rows["lineage"]["columns"] == 3 and rows["all signals"]["columns"] == 5
    for row, key in (
        (rows["all signals"], "added"),
        (rows["lineage"], "added"),
        (rows["lineage"], "left_out"),
    ):
        assert row[key]["low"] > 5
    for group in ("entropy", "repetition"):
        assert all(abs(rows[group][key]["value"]) < 3 for key in ("added", "left_out"))


def test_one_group_alone_is_told_by_the_comparisons_and_few_problems_by_nobody(planted):
    assert rows_of(dataclasses.replace(planted, extras={})) == {}
    assert rows_of(planted, dataclasses.replace(QUICK, folds=200)) == {}
    assert render("ablation", []) == ""


def test_the_table_names_every_group(planted):
    text = render("ablation", list(rows_of(planted).values()))
    assert [line.split()[0] for line in text.splitlines()[-5:-1]] == [
        "all",
        "lineage",
        "entropy",
        "repetition",
    ]
    assert "240 failed problems; exploratory" in text
