"""Prices of attempts: what a budget buys of recorded attempts is what drawing them
without replacement gives.
"""

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from synthetic_profiles import make, routing_data, rows_of

from fr.comparison.cell_summary import describe_population
from fr.config import RoutingConfig
from fr.errors import UserError
from fr.orders.budgets import cell_curves, outcomes_of
from fr.pipeline.profile_tables import deployment_weight
from fr.profiles import (
    WEIGHT,
    Profiles,
    Recorded,
    attempts_path,
    read_cells,
    read_profiles,
    write_profiles,
)
from fr.report.routing_tables import price_words
from fr.stats.bootstrap import clopper_pearson
from fr.types import RIGHT, WRONG

OPERATORS = ("retry", "hot", "wait")
# Lengths of a wrong and of a right attempt: premature failures are short, others are
# long.
LENGTHS = {
    "retry": ((20, 30), (60, 90)),
    "hot": ((60, 120), (20, 40)),
    "wait": ((30, 140), (30, 140)),
}


QUICK = RoutingConfig(bootstrap=20, splits=2)


def data_of(*cells):
    return routing_data(*cells, routing=QUICK)


def cell_of(count: int, tried: int, seed: int = 0, **columns) -> Profiles:
    """Attempts whose costs depend on whether they are right, recorded one by one."""
    draw = np.random.default_rng(seed)
    chances = draw.beta(0.5, 1.5, (count, len(OPERATORS)))

    def attempt(i: int, o: int):
        right = bool(draw.random() < chances[i, o])
        cost = float(draw.integers(*LENGTHS[OPERATORS[o]][right]))
        return right, {"forward": cost, "generated": cost - 18}

    each = lambda i, o: [attempt(i, o) for _ in range(tried)]
    found = Recorded.of(
        [[each(i, o) for o in range(len(OPERATORS))] for i in range(count)]
    )
    means = found.mean("forward")
    extras = {
        f"{name}_cost": tuple(map(str, means[:, o])) for o, name in enumerate(OPERATORS)
    }
    extras |= {
        name: ("0",) * count
        for name in ("diagnosis_cost", "failures_cost", "failures_generated")
    }
    return Profiles(
        cell="m|t",
        problems=tuple(f"q{i}" for i in range(count)),
        n_failed=np.full(count, 2),
        features=np.zeros((count, 3)),
        operators=OPERATORS,
        rates=found.right.mean(axis=2),
        attempts=np.full((count, len(OPERATORS)), tried),
        extras=extras | columns,
        recorded=found,
    )


def exact(costs, right, budget: float) -> float:
    """P(solved): over every set of failed attempts that may come before the right one,
    by their number and sum.
    """
    count, limit = len(costs), int(budget * (1 + 1e-9))
    wrong = [int(c) for c, well in zip(costs, right) if not well]
    ways = np.zeros((len(wrong) + 1, limit + 1))
    ways[0, 0] = 1
    for cost in (c for c in wrong if c <= limit):
        ways[1:, cost:] += ways[:-1, : limit + 1 - cost].copy()
    ways = ways.cumsum(axis=1)
    chance = [
        1 / math.comb(count, k) / (count - k) for k in range(min(len(wrong) + 1, count))
    ]
    paid = [int(c) for c, well in zip(costs, right) if well and c <= limit]
    return sum(
        ways[k, limit - cost] * chance[k] for cost in paid for k in range(len(chance))
    )


def test_a_curve_of_one_operator_is_that_of_all_permutations_and_mean_prices_are_not():
    profiles = cell_of(100, 20)
    outcomes, costs = outcomes_of(data_of(profiles)), profiles.recorded.costs["forward"]
    means = outcomes_of(data_of(dataclasses.replace(profiles, recorded=None)))
    assert outcomes.recorded and not means.recorded and means.lost.shape[2] == 1
    worst = 0.0
    for budget in outcomes.budgets()[::2]:
        for o in range(len(OPERATORS)):
            truth = np.mean(
                [
                    exact(costs[i, o], profiles.recorded.right[i, o], budget)
                    for i in range(100)
                ]
            )
            whole = np.full((100, 1), budget)
            found = outcomes.solved(outcomes.alone(o), whole).mean()
            assert abs(found - truth) < 0.002
            assert outcomes.error(outcomes.alone(o), whole) < 0.001
            worst = max(worst, abs(means.solved(means.alone(o), whole).mean() - truth))
    assert worst > 0.02


def test_an_order_is_what_shuffled_attempts_do():
    profiles = cell_of(12, 6, seed=3)
    outcomes, found = outcomes_of(data_of(profiles)), profiles.recorded
    order, budget, draw = (0, 1, 1, 0, 2, 0), 230.0, np.random.default_rng(0)
    solved = np.zeros(12)
    for _ in range(4000):
        place = draw.random(found.made.shape).argsort(axis=2)
        cost = np.take_along_axis(found.costs["forward"], place, axis=2)
        right = np.take_along_axis(found.right, place, axis=2)
        made, spent, well = [0, 0, 0], np.zeros(12), np.zeros(12, bool)
        for o in order:
            spent = spent + np.where(well, 0, cost[:, o, made[o]])
            well = well | (right[:, o, made[o]] & (spent <= budget))
            made[o] += 1
        solved += well
    share = outcomes.solved(order, np.full((12, 1), budget))[:, 0]
    assert share == pytest.approx(solved / 4000, abs=0.04)
    assert share.mean() == pytest.approx(solved.mean() / 4000, abs=0.008)


def test_the_next_attempt_is_expected_to_cost_what_is_left():
    profiles = cell_of(1, 4)
    right, costs = (
        np.array([[[True, False, False, False]]]),
        np.array([[[50.0, 10, 20, 30]]]),
    )
    one = Recorded.of(
        [
            [
                [
                    (bool(r), {"forward": c, "generated": c})
                    for r, c in zip(right[0, 0], costs[0, 0])
                ]
            ]
            * 3
        ]
    )
    profiles = dataclasses.replace(profiles, recorded=one, rates=np.full((1, 3), 0.25))
    price = outcomes_of(data_of(profiles)).next_price[0, 0]
    assert price == pytest.approx([27.5, (50 + 40) / 3, (50 + 20) / 2, 50, 50])


def test_generated_tokens_are_an_axis_and_seconds_that_nobody_measured_are_not():
    profiles = cell_of(30, 40)
    data = data_of(profiles)
    assert outcomes_of(data, "seconds") is None
    rows, _ = cell_curves(data, {})
    forward, generated = (
        [
            (row["budget"], row["interval"]["value"])
            for row in rows_of(rows, axis=axis, policy="retry")
        ]
        for axis in ("forward", "generated")
    )
    assert generated[0][0] < forward[0][0] and len(generated) == len(forward)
    assert generated[-1][1] > generated[0][1]
    assert rows_of(rows, axis="seconds") == []


def test_attempts_lie_beside_the_table_and_must_agree_with_it(tmp_path):
    profiles, table = cell_of(9, 5), tmp_path / "profiles.csv"
    write_profiles(table, [profiles, make(problems=4, cell="other|task")])
    one, other = read_profiles(table)
    assert other.recorded is None and np.array_equal(
        one.recorded.right, profiles.recorded.right
    )
    assert np.array_equal(
        one.recorded.costs["forward"], profiles.recorded.costs["forward"]
    )
    assert not one.recorded.knows("seconds")
    less = read_cells([table], without=["hot"])[0]
    assert np.array_equal(less.recorded.right, profiles.recorded.right[:, [0, 2]])
    lines = pq.read_table(attempts_path(table))
    assert lines.num_rows == 9 * 3 * 5
    pq.write_table(lines.slice(1), attempts_path(table))
    with pytest.raises(
        UserError,
        match="attempts of retry at q0 right, which is not what the table says",
    ):
        read_profiles(table)
    attempts_path(table).write_bytes(b"PAR1 not")
    with pytest.raises(
        UserError, match="cannot be read as the attempts of profiles.csv"
    ):
        read_profiles(table)
    write_profiles(table, [dataclasses.replace(profiles, recorded=None)])
    assert (
        not attempts_path(table).exists() and read_profiles(table)[0].recorded is None
    )


def test_a_problem_counts_as_often_as_its_first_failures_come():
    rows = lambda failed: (
        [{"grade": WRONG}] * failed + [{"grade": RIGHT}] * (16 - failed)
    )
    assert deployment_weight(rows(16), 4) == 1 and deployment_weight(
        rows(4), 4
    ) == 1 / math.comb(16, 4)
    assert deployment_weight(rows(8), 2) == pytest.approx(8 * 7 / (16 * 15))
    draw = np.random.default_rng(0)
    drawn = [draw.permutation(16)[:2].max() < 8 for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(8 * 7 / (16 * 15), abs=0.03)


def test_what_is_judged_is_weighted_to_what_a_router_meets():
    weights = (0.05,) * 20 + (1.0,) * 20
    profiles = cell_of(40, 10, **{WEIGHT: tuple(map(str, weights))})
    profiles = dataclasses.replace(profiles, excluded=10)
    data = data_of(profiles)
    share = lambda name: (
        data.under(name).values.sum(axis=0) / data.under(name).mass.sum()
    )
    expected = np.average(profiles.rates, axis=0, weights=weights)
    assert share("all") == pytest.approx(expected)
    assert share("all_unweighted") == pytest.approx(profiles.rates.mean(axis=0))
    known = describe_population(profiles)
    assert known == {"share": 80.0, "deployed": pytest.approx(42.0)}
    row = rows_of(cell_curves(data, {})[0], axis="forward", policy="retry")[3]
    solved = outcomes_of(data).solved((0,) * 10, np.full((40, 1), row["budget"]))[:, 0]
    assert row["interval"]["value"] == pytest.approx(
        100 * np.average(solved, weights=weights), abs=1e-4
    )
    assert row["unweighted"] == pytest.approx(100 * solved.mean(), abs=1e-4)
    # Where every problem is met alike, there is one population and nothing more to say.
    plain = data_of(dataclasses.replace(profiles, extras={}))
    assert "all_unweighted" not in plain.populations


def test_how_attempts_were_charged_is_said():
    assert "own cost" in price_words({"recorded": True, "error": 0.03})
    assert "APPROXIMATE" in price_words({"recorded": False, "error": 0.0})


def test_none_of_twelve_has_an_interval_of_some_width():
    assert clopper_pearson(0.0, 12) == pytest.approx((0.0, 0.265), abs=0.001)
    assert clopper_pearson(1.0, 12) == pytest.approx((0.735, 1.0), abs=0.001)
    assert clopper_pearson(0.5, 12) == pytest.approx((0.211, 0.789), abs=0.001)
