"""Orders of operators: what they solve by hand, that a router's choice of one is worth what it tells, and no more."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fr.config import RoutingConfig
from fr.errors import UserError
from fr.report.plots import draw_curves
from fr.report.render import render
from fr.report.schema_1 import upgrade_schedules
from fr.routing.folds import make_folds
from fr.routing.outcomes import outcomes_of
from fr.routing.pool import make_pool
from fr.routing.profiles import Profiles
from fr.routing.router import ORDERS, load_router
from fr.routing.schedule_curves import judge_orders, judge_schedules
from fr.routing.schedules import (
    LEAST,
    ONE_ORDER,
    budget_population,
    greedy,
    learn_orders,
    named,
    order_for,
)
from fr.routing.trained import ANYWHERE
from fr.stats.bootstrap import resample_weights

TRIED = 20
QUICK = RoutingConfig(folds=4, inner_folds=3, steps=60, penalties=(0.002, 0.01))
STREAM = lambda purpose: np.random.default_rng(list(purpose.encode()))


def table(
    rates, prices, operators=("retry", "hot", "wait"), cell="m|t", tried=TRIED, reading=0.0
) -> Profiles:
    """A cell of rescue rates; `prices` of an attempt, and what the diagnosis takes."""
    rates = np.asarray(rates, float)
    count = len(rates)
    costs = dict(zip(operators, prices)) | {"diagnosis": reading, "failures": 0.0}
    return Profiles(
        cell=cell,
        problems=tuple(f"q{i}" for i in range(count)),
        n_failed=np.full(count, 2),
        features=np.zeros((count, 3)),
        operators=operators,
        rates=rates,
        attempts=np.full(rates.shape, tried),
        extras={f"{name}_cost": (str(cost),) * count for name, cost in costs.items()},
    )


def drawn(count: int, seed: int, cell="m|t", reading=0.0) -> tuple[Profiles, np.ndarray]:
    """Half of the problems can be retried, half of them need `wait`; and which they are."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 2, count)
    chances = np.array([[0.4, 0.1, 0.05], [0.05, 0.1, 0.4]])[kind]
    return table(draw.binomial(TRIED, chances) / TRIED, (10, 10, 10), cell=cell, reading=reading), kind


def judged(cells, chosen, seed=0) -> dict:
    pool = make_pool(cells)
    folds = make_folds(pool, "kfold", 4, np.random.default_rng(seed))
    weights = resample_weights(len(pool), 400, np.random.default_rng(seed))
    return judge_orders(
        pool, outcomes_of(pool), folds, {n: np.tile(c, (4, 1)) for n, c in chosen.items()}, weights
    )


def test_attempts_of_an_order_by_hand():
    pool = make_pool([table([[0.25, 0.5, 0.0], [1.0, 0.0, 0.1]], (10, 20, 30), tried=20)])
    found = outcomes_of(pool)
    # 10 + 10 + 20 positions of 45: two retries and one hot attempt, of 20 recorded.
    fails = math.comb(15, 2) / math.comb(20, 2) * 10 / 20
    assert found.solved((0, 0, 1, 2), np.full(2, 45.0)) == pytest.approx([1 - fails, 1.0])
    assert found.solved((2, 0), np.full(2, 29.0)) == pytest.approx(
        [0.0, 0.0]
    )  # in order: the first is too dear
    assert found.solved((), np.full(2, 99.0)) == pytest.approx([0.0, 0.0])


def test_the_next_attempt_is_the_one_that_solves_most_a_position():
    # One problem in four is solved by any retry, the others by any hot attempt, which costs twice as much.
    rates = np.array([[1.0, 0.0, 0.0]] + [[0.0, 1.0, 0.0]] * 3)
    order = lambda prices: greedy(outcomes_of(make_pool([table(rates, prices)])), np.ones(4, bool))
    assert order((10, 20, 10)) == (1, 0)  # 3 in 20 before 1 in 10, and then nothing is left
    assert order((10, 40, 10)) == (0, 1)


def test_a_deterministic_operator_has_one_place_and_an_absent_one_none():
    whole = table([[0.1, 1.0, 0.2], [0.1, 0.0, 0.2]] * 15, (10, 10, 10), ("retry", "dense_steer", "hot"))
    partial = table([[0.2, 0.3]] * 30, (10, 10), ("retry", "hot"), cell="m|other")
    pool = make_pool([whole, partial])
    found = outcomes_of(pool)
    order = greedy(found, np.ones(len(pool), bool))
    assert order.count(pool.operators.index("dense_steer")) == 1
    assert pool.operators.index("dense_steer") not in greedy(found, found.cell == 1)
    # Where it is absent it is passed over and costs nothing.
    steer = pool.operators.index("dense_steer")
    assert found.solved((steer, 0), np.full(60, 10.0))[-1] == pytest.approx(0.2)


def test_few_problems_have_no_order_of_their_own():
    pool = make_pool([drawn(100, 0)[0]])
    choice = np.where(np.arange(100) < LEAST - 1, 2, 0)
    orders = named(learn_orders(pool, outcomes_of(pool), np.ones(100, bool), choice), pool.operators)
    assert set(orders) == {ANYWHERE, "t"} and set(orders["t"]) == {ONE_ORDER, "retry"}
    assert order_for(orders, "t", "wait") == orders["t"][ONE_ORDER] == order_for(orders, "new", "wait")


def test_each_task_has_its_order():
    """What is known without reading a failure is no merit of a router."""
    rates = np.array([[0.4, 0.1, 0.05], [0.05, 0.1, 0.4]])
    draw = np.random.default_rng(0)
    cells = [
        table(draw.binomial(TRIED, np.tile(p, (60, 1))) / TRIED, (10, 10, 10), cell=f"m|{name}")
        for p, name in zip(rates, ("a", "b"))
    ]
    result = judged(cells, {"head_free": np.repeat([0, 2], 60)})
    orders = result["orders"]["head_free"]
    assert orders["a"][ONE_ORDER][0] == "retry" and orders["b"][ONE_ORDER][0] == "wait"
    for point in result["curve"]:
        assert point["head_free"]["minus_one_order"]["mean"] == 0.0
        assert abs(point["one_order"]["minus_best"]["mean"]) < 3


def test_what_is_told_is_gained_at_every_budget_and_lost_by_exchange():
    cell, kind = drawn(300, 0)
    result = judged([cell], {"head_free": 2 * kind})
    for point in result["curve"][:-2]:
        assert (
            point["head_free"]["minus_one_order"]["low"] > 0 and point["head_free"]["minus_best"]["low"] > 0
        )
        assert point["head_free"]["minus_permuted"]["low"] > 0
    orders = result["orders"]["head_free"]["t"]
    assert orders["retry"][0] == "retry" and orders["wait"][0] == "wait"
    told = upgrade_schedules(result)
    assert draw_curves(told, "all cells", "orders").startswith(b"\x89PNG")
    text = " ".join(render("schedules", told).split())
    assert "learned orders, free" in text and f"{len(cell)} failed problems" in text
    assert "prices: " in text and "retry 1" in text


def test_a_choice_that_knows_nothing_gains_nothing():
    won = 0
    for seed in range(20):
        cell, _ = drawn(120, seed)
        blind = np.random.default_rng(100 + seed).integers(0, 2, 120) * 2
        point = judged([cell], {"head_free": blind}, seed)["curve"][2]
        won += point["head_free"]["minus_one_order"]["low"] > 0
        assert point["head_free"]["minus_permuted"]["mean"] == pytest.approx(0.0, abs=4)
    assert won <= 2


def test_reading_is_paid_before_the_first_attempt():
    cell, kind = drawn(200, 0, reading=35.0)
    free, paid = (judged([cell], {name: 2 * kind}) for name in ("head_free", "head"))
    for cheap, dear in zip(free["curve"], paid["curve"]):
        assert cheap["solved"][ONE_ORDER] == dear["solved"][ONE_ORDER]
        assert dear["solved"]["head"] <= cheap["solved"]["head_free"]
        assert (dear["solved"]["head"] == 0) == (dear["budget"] < 45)
    assert paid["curve"][3]["solved"]["head"] < free["curve"][3]["solved"]["head_free"] - 10


def test_without_costs_there_is_no_curve():
    pool = make_pool([dataclasses.replace(drawn(60, 0)[0], extras={})])
    assert judge_schedules(pool, QUICK, STREAM, np.ones((2, 60))) is None
    assert render("schedules", {"schedules": None}) == ""


def test_a_head_of_orders_sees_what_is_worth_more_in_the_long_run():
    """Of two operators of one mean rate the one that solves different problems at times is better ten times over."""
    draw = np.random.default_rng(0)
    count, kind = 240, draw.integers(0, 2, 240)
    always, at_times = np.where(draw.random(count) < 0.25, 0.9, 0.0), np.full(count, 0.22)
    chances = np.column_stack(
        [np.where(kind, always, 0.25), np.where(kind, at_times, 0.02), np.full(count, 0.02)]
    )
    cell = table(draw.binomial(TRIED, chances) / TRIED, (10, 10, 10))
    noisy = kind + draw.normal(0, 0.3, count)
    cell = dataclasses.replace(cell, extras=cell.extras | {"entropy_mean": tuple(f"{x:.6g}" for x in noisy)})
    pool = make_pool([cell])
    result = judge_schedules(pool, QUICK, STREAM, resample_weights(count, 400, draw))
    last = result["curve"][-2]
    assert last["head_free"]["minus_one_order"]["low"] > 0 and last["head_free"]["minus_best"]["low"] > 0
    assert last["head_free"]["minus_permuted"]["low"] > 0
    # A head that looks at one attempt has no reason to tell the two apart.
    population = budget_population(pool, outcomes_of(pool), 8)
    assert population.values[kind == 1, 1].mean() > population.values[kind == 1, 0].mean() + 0.4
    assert abs(pool.rates[kind == 1, 1].mean() - pool.rates[kind == 1, 0].mean()) < 0.1


def test_stop_solves_nothing():
    cell, _ = drawn(80, 0)
    point = judged([cell], {"head_free": np.full(80, 3)})["curve"][-1]
    assert point["solved"]["head_free"] == 0 and point["solved"][ONE_ORDER] > 50


def test_an_order_is_followed_and_ends_in_retries(tmp_path):
    known = {ANYWHERE: {ONE_ORDER: ["hot", "retry", "hot"]}, "sums": {ONE_ORDER: ["retry"]}}
    (tmp_path / ORDERS).write_text(json.dumps(known))
    assert load_router(ONE_ORDER, ("retry",), "m|sums", (), None, tmp_path).choose({}) == "retry"
    router = load_router(ONE_ORDER, ("retry", "hot"), "any", (), None, tmp_path)
    assert router.choose({}) == "hot" and router.tries() == {"hot", "retry"} and not router.reads
    assert [router.then("hot", made) for made in range(5)] == ["hot", "retry", "hot", "retry", "retry"]
    with pytest.raises(UserError, match="its orders try hot"):
        load_router(ONE_ORDER, ("retry",), "any", (), None, tmp_path)
    with pytest.raises(UserError, match="holds no orders"):
        load_router(ONE_ORDER, ("retry",), "any", (), None, tmp_path / "elsewhere")
