"""Planted clusters are found and stable, and tables without clusters get none."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score
from synthetic_profiles import make

from fr.config import ClustersConfig, Config, RoutingConfig
from fr.diagnosis.clustering import ALGORITHMS
from fr.diagnosis.clusters import NULLS, draw_null, find_clusters
from fr.evaluation.failure_clusters import describe_clusters
from fr.profiles import FEATURES
from fr.report.render import render
from fr.stats.bootstrap import holm

QUICK = ClustersConfig(largest=4, bootstrap=10, seeds=3, nulls=24, null_bootstrap=2)
QUICK_NULLS = dataclasses.replace(QUICK, nulls=9)
LONG = np.array([[1, 0.8, 0.5], [0.8, 1, 0.5], [0.5, 0.5, 1]])


def planted(kind: str, problems=120, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Standard scores and the true kind of each problem: three far apart, one long
    cloud, or a round one.
    """
    rng = np.random.default_rng(seed)
    truth = (
        rng.permutation(np.arange(problems) % 3)
        if kind == "three"
        else np.zeros(problems, int)
    )
    x = rng.multivariate_normal(
        np.zeros(3), LONG if kind == "long" else np.eye(3), size=problems
    )
    x[np.arange(problems), truth] += 6 * (kind == "three")
    return (x - x.mean(axis=0)) / x.std(axis=0), truth


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_planted_clusters_are_found_and_stable(algorithm):
    z, truth = planted("three")
    found = find_clusters(z, algorithm, QUICK, np.random.default_rng(0))
    assert adjusted_rand_score(found.labels, truth) > 0.95
    assert (
        found.stability > 0.95
        and found.seeds > 0.95
        and found.low <= found.stability <= found.high
    )
    assert [null.p for null in found.nulls.values()] == [1 / 25, 1 / 25]
    assert max(found.silhouettes, key=found.silhouettes.get) == 3
    assert (np.diff(np.bincount(found.labels)) <= 0).all()


def test_a_long_cloud_beats_shuffled_columns_and_has_no_clusters():
    z, config = (
        planted("long", problems=200, seed=1)[0],
        dataclasses.replace(QUICK, null_bootstrap=4),
    )
    found = find_clusters(z, "kmeans", config, np.random.default_rng(0))
    assert found.nulls["shuffled"].p <= 0.05 < 0.2 < found.nulls["cloud"].p


def test_without_structure_no_null_is_beaten():
    found = [
        find_clusters(
            planted("round", seed=s)[0], "kmeans", QUICK, np.random.default_rng(s)
        )
        for s in range(6)
    ]
    p = np.array([[null.p for null in one.nulls.values()] for one in found])
    assert (
        p.min() > 0.04
        and p.mean() > 0.2
        and np.mean([one.stability for one in found]) < 0.8
    )
    assert all(
        null.drawn < 24 for one in found for null in one.nulls.values() if null.p > 0.5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, null", [("round", "shuffled"), ("round", "cloud"), ("long", "cloud")]
)
def test_a_null_that_is_true_is_seldom_beaten(kind, null):
    config = dataclasses.replace(QUICK, bootstrap=40, nulls=19)
    p = [
        find_clusters(
            planted(kind, seed=s)[0], "kmeans", config, np.random.default_rng(s)
        )
        .nulls[null]
        .p
        for s in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.12


def test_null_tables_keep_values_and_the_cloud_keeps_correlations():
    z = planted("long", problems=2000)[0]
    rng = np.random.default_rng(0)
    shuffled, cloud = (draw_null(z, name, rng) for name in ("shuffled", "cloud"))
    for drawn in (shuffled, cloud):
        np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(z, axis=0))
        assert not np.array_equal(drawn, z)
    assert np.abs(spearmanr(shuffled)[0] - np.eye(3)).max() < 0.08
    assert np.abs(spearmanr(cloud)[0] - spearmanr(z)[0]).max() < 0.08


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="'means' is not in"):
        find_clusters(planted("round")[0], "means", QUICK, np.random.default_rng(0))


def cell(kind="three", problems=60, **changes):
    """A cell whose features have planted clusters, of which the first is always rescued
    by retry.
    """
    features, truth = planted(kind, problems)
    rates = np.zeros((problems, 2))
    rates[truth == 0, 0] = 1
    profiles = make(problems, operators=("retry", "local_temp"), **changes)
    return dataclasses.replace(profiles, features=features, rates=rates), truth


CONFIG = Config(
    clusters=dataclasses.replace(QUICK, nulls=49), routing=RoutingConfig(bootstrap=50)
)


def test_clusters_are_described_by_their_own_problems():
    profiles, truth = cell()
    (record,) = describe_clusters([profiles], CONFIG)
    found = record["kmeans"]
    labels = np.array(found["labels"])
    assert (
        record["agreement"] == 1
        and found["k"] == 3
        and found["beaten"] == ["shuffled", "cloud"]
    )
    for i, cluster in enumerate(found["clusters"]):
        assert cluster["n"] == (labels == i).sum()
        np.testing.assert_allclose(
            [cluster["centre"][name] for name in FEATURES],
            profiles.features[labels == i].mean(axis=0),
            atol=1e-5,
        )
        easy = truth[labels == i].mean() == 0
        assert cluster["rescue"]["retry"] == dict.fromkeys(
            ("value", "low", "high"), 100.0 * easy
        )
    text = " ".join(render("clusters", [record]).split())
    assert "more stable than both nulls" in text and "exploratory" in text


def test_a_cell_that_cannot_be_clustered_says_why():
    few = cell(problems=19)[0]
    lonely = cell(cell="lonely")[0]
    features = lonely.features.copy()
    features[:, 0], features[:, 1] = np.nan, 0.1
    lonely = dataclasses.replace(lonely, features=features)
    text = " ".join(
        render("clusters", describe_clusters([few, lonely], CONFIG)).split()
    )
    assert (
        "model|task: left out (needs 20 failed problems" in text
        and "lonely: left out (needs two features" in text
    )


def test_p_is_adjusted_over_cells_and_algorithms_and_nothing_else_depends_on_cells():
    profiles, config = (
        cell("long")[0],
        dataclasses.replace(CONFIG, clusters=QUICK_NULLS),
    )
    (alone,) = describe_clusters([profiles], config)
    both = describe_clusters([profiles, cell("round", cell="other|task")[0]], config)
    for algorithm in ALGORITHMS:
        one, other = alone[algorithm], both[0][algorithm]
        assert (
            one["labels"] == other["labels"] and one["stability"] == other["stability"]
        )
        for name, null in one["nulls"].items():
            assert (
                null["p"] == other["nulls"][name]["p"]
                and null["drawn"] == other["nulls"][name]["drawn"]
            )
    for name in NULLS:
        for records in ([alone], both):
            nulls = [
                record[algorithm]["nulls"][name]
                for record in records
                for algorithm in ALGORITHMS
            ]
            assert [null["p_holm"] for null in nulls] == pytest.approx(
                holm([null["p"] for null in nulls]), abs=1e-6
            )
    assert "NO more stable than" in render("clusters", both)
