"""The training-free rule on features whose answer can be read off."""

import json

import numpy as np
import pytest

from fr.errors import UserError
from fr.profiles import OPERATORS
from fr.routing.rule import ZStatistics, make_rule, rule_or_retry

UNIT = ZStatistics((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 10)


def routes(features, operators=OPERATORS, statistics=UNIT, fallback=True):
    return [
        operators[o]
        for o in make_rule(operators, statistics, fallback)(np.array(features, float))
    ]


def test_the_largest_z_names_the_operator():
    features = [[2, 1, 0], [1, 2, 0], [0, 1, 2]]
    assert routes(features) == ["dense_steer", "sparse_steer", "local_temp"]
    # Same features, other calibration set: what is unusual changes.
    assert routes(
        [[2, 1, 0]], statistics=ZStatistics((1.0, 0.0, 0.0), (10.0, 1.0, 1.0), 9)
    ) == ["sparse_steer"]


def test_no_positive_z_falls_back_and_zero_is_not_positive():
    assert routes([[-1, -2, 0], [-3, -2, -1]]) == ["sparse_steer_random"] * 2
    assert routes([[-1, -2, 0], [-3, -2, -1]], fallback=False) == ["local_temp"] * 2


def test_the_first_argmax_wins():
    assert routes([[1, 1, 1], [0, 2, 2]]) == ["dense_steer", "sparse_steer"]


def test_a_constant_feature_has_z_zero():
    # 0.1 three times has a mean that is not 0.1 in float64.
    features = np.array([[0.1, 1, 5], [0.1, 2, 5], [0.1, 3, 5]])
    statistics = ZStatistics.fit(features)
    assert np.array_equal(statistics.z(features)[:, [0, 2]], np.zeros((3, 2)))
    assert routes(features, statistics=statistics) == [
        "sparse_steer_random",
        "sparse_steer_random",
        "sparse_steer",
    ]


def test_the_population_standard_deviation_is_used():
    assert ZStatistics.fit(np.array([[0.0, 0, 0], [2.0, 0, 0]])).sd[0] == 1.0


def test_absent_features_and_operators_take_their_line_with_them():
    features = np.array(
        [[np.nan, np.nan, 1.0], [np.nan, np.nan, 2.0], [np.nan, np.nan, 9.0]]
    )
    statistics = ZStatistics.fit(features)
    assert statistics.mean[:2] == (None, None)
    assert routes(features, ("retry", "local_temp"), statistics) == [
        "retry",
        "retry",
        "local_temp",
    ]
    assert routes([[9, 1, 0]], ("retry", "sparse_steer", "local_temp")) == [
        "sparse_steer"
    ]
    with pytest.raises(UserError, match="no line"):
        make_rule(("retry", "wrong_geodesic"), UNIT)
    assert rule_or_retry(("hot", "retry"), UNIT, features).tolist() == [1, 1, 1]


def test_statistics_are_stored_as_json():
    statistics = ZStatistics.fit(np.array([[0.3, np.nan, -1.0], [0.7, np.nan, 2.0]]))
    assert (
        ZStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
        == statistics
    )


def test_an_empty_calibration_set_routes_to_the_fallback():
    assert routes([[5, 6, 7]], statistics=ZStatistics.fit(np.empty((0, 3)))) == [
        "sparse_steer_random"
    ]
