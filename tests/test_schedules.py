"""Orders of operators: what they solve by hand, that a router's choice of one is worth
what it tells, and no more.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
from synthetic_profiles import routing_data, rows_of

from fr.config import RoutingConfig
from fr.errors import UserError
from fr.orders.budgets import outcomes_of
from fr.orders.routers import ORDERS, load_router
from fr.orders.schedules import (
    LEAST,
    ONE_ORDER,
    budget_target,
    greedy,
    judge_orders,
    judge_schedules,
    learn_orders,
    named_orders,
    order_for,
)
from fr.profiles import Profiles
from fr.report.plots import draw_curves
from fr.report.render import render
from fr.routing.policies import all_policies
from fr.routing.posterior import ANYWHERE
from fr.stats.budget_curves import BEST

TRIED = 20
QUICK = RoutingConfig(
    folds=4, inner_folds=3, steps=60, penalties=(0.002, 0.01), bootstrap=400, splits=2
)
COSTS = {"schedule": "diagnosis", "schedule_free": "rollouts"}


def table(
    rates,
    prices,
    operators=("retry", "hot", "wait"),
    cell="m|t",
    tried=TRIED,
    reading=0.0,
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


def drawn(
    count: int, seed: int, cell="m|t", reading=0.0
) -> tuple[Profiles, np.ndarray]:
    """Half of the problems can be retried, half of them need `wait`; and which they
    are.
    """
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 2, count)
    chances = np.array([[0.4, 0.1, 0.05], [0.05, 0.1, 0.4]])[kind]
    return table(
        draw.binomial(TRIED, chances) / TRIED, (10, 10, 10), cell=cell, reading=reading
    ), kind


def data_of(*cells, seed=0):
    return routing_data(*cells, routing=QUICK, seed=seed)


def judged(cells, chosen, seed=0) -> tuple[dict, list[dict]]:
    """The record and the rows of routers with the same choice in every fold."""
    data = data_of(*cells, seed=seed)
    given = {name: (COSTS[name], np.tile(c, (4, 1))) for name, c in chosen.items()}
    return judge_orders(data, outcomes_of(data), data.folds("kfold"), given)


def points(rows, policy, reference=None) -> list[dict]:
    """Intervals of a policy, budget by budget, in forward tokens."""
    where = {"axis": "forward", "policy": policy, "reference": reference}
    return [row["interval"] for row in rows_of(rows, **where)]


def budgets_of(rows) -> list[float]:
    return [
        row["budget"]
        for row in rows_of(rows, axis="forward", policy=ONE_ORDER, reference=None)
    ]


def test_attempts_of_an_order_by_hand():
    found = outcomes_of(
        data_of(table([[0.25, 0.5, 0.0], [1.0, 0.0, 0.1]], (10, 20, 30), tried=20))
    )
    solved = lambda order, budget: found.solved(order, np.full((2, 1), budget))[:, 0]
    # 10 + 10 + 20 positions of 45: two retries and one hot attempt, of 20 recorded.
    fails = math.comb(15, 2) / math.comb(20, 2) * 10 / 20
    assert solved((0, 0, 1, 2), 45.0) == pytest.approx([1 - fails, 1.0])
    assert solved((2, 0), 29.0) == pytest.approx(
        [0.0, 0.0]
    )  # in order: the first is too dear
    assert solved((), 99.0) == pytest.approx([0.0, 0.0])


def test_the_next_attempt_is_the_one_that_solves_most_a_position():
    # One problem in four is solved by any retry, the others by any hot attempt, which
    # costs twice as much.
    rates = np.array([[1.0, 0.0, 0.0]] + [[0.0, 1.0, 0.0]] * 3)
    order = lambda prices: greedy(
        outcomes_of(data_of(table(rates, prices))), np.ones(4, bool)
    )
    # 3 in 20 before 1 in 10, and then nothing is left
    assert order((10, 20, 10)) == (1, 0)
    assert order((10, 40, 10)) == (0, 1)


def test_a_deterministic_operator_has_one_place_and_an_absent_one_none():
    whole = table(
        [[0.1, 1.0, 0.2], [0.1, 0.0, 0.2]] * 15,
        (10, 10, 10),
        ("retry", "dense_steer", "hot"),
    )
    partial = table([[0.2, 0.3]] * 30, (10, 10), ("retry", "hot"), cell="m|other")
    data = data_of(whole, partial)
    found = outcomes_of(data)
    order = greedy(found, np.ones(len(data), bool))
    assert order.count(data.operators.index("dense_steer")) == 1
    assert data.operators.index("dense_steer") not in greedy(found, data.cell == 1)
    # Where it is absent it is passed over and costs nothing.
    steer = data.operators.index("dense_steer")
    assert found.solved((steer, 0), np.full((60, 1), 10.0))[-1, 0] == pytest.approx(0.2)


def test_few_problems_have_no_order_of_their_own():
    data = data_of(drawn(100, 0)[0])
    choice = np.where(np.arange(100) < LEAST - 1, 2, 0)
    learned = learn_orders(data, outcomes_of(data), np.ones(100, bool), choice)
    orders = named_orders(learned, data.operators)
    assert set(orders) == {ANYWHERE, "t"} and set(orders["t"]) == {ONE_ORDER, "retry"}
    assert (
        order_for(orders, "t", "wait")
        == orders["t"][ONE_ORDER]
        == order_for(orders, "new", "wait")
    )


def test_each_task_has_its_order():
    """Knowledge that needs no failure is not a router's merit."""
    rates = np.array([[0.4, 0.1, 0.05], [0.05, 0.1, 0.4]])
    draw = np.random.default_rng(0)
    cells = [
        table(
            draw.binomial(TRIED, np.tile(p, (60, 1))) / TRIED,
            (10, 10, 10),
            cell=f"m|{name}",
        )
        for p, name in zip(rates, ("a", "b"))
    ]
    result, rows = judged(cells, {"schedule_free": np.repeat([0, 2], 60)})
    orders = result["orders"]["schedule_free"]
    assert orders["a"][ONE_ORDER][0] == "retry" and orders["b"][ONE_ORDER][0] == "wait"
    assert all(gap["value"] == 0.0 for gap in points(rows, "schedule_free", ONE_ORDER))
    assert all(abs(gap["value"]) < 3 for gap in points(rows, ONE_ORDER, BEST))


def test_what_is_told_is_gained_at_every_budget_and_lost_by_exchange():
    cell, kind = drawn(300, 0)
    result, rows = judged([cell], {"schedule_free": 2 * kind})
    for reference in (ONE_ORDER, BEST, "permuted"):
        assert all(
            gap["low"] > 0 for gap in points(rows, "schedule_free", reference)[:-2]
        )
    orders = result["orders"]["schedule_free"]["t"]
    assert orders["retry"][0] == "retry" and orders["wait"][0] == "wait"
    routing = {"schedules": result, "curves": rows, "policies": []}
    assert draw_curves(routing, "all cells", "orders").startswith(b"\x89PNG")
    assert f"{len(cell)} failed problems" in render("schedules", routing)


def test_a_choice_that_knows_nothing_gains_nothing():
    won = 0
    for seed in range(20):
        cell, _ = drawn(120, seed)
        blind = np.random.default_rng(100 + seed).integers(0, 2, 120) * 2
        _, rows = judged([cell], {"schedule_free": blind}, seed)
        won += (points(rows, "schedule_free", ONE_ORDER)[2]["low"] or 0) > 0
        gap = points(rows, "schedule_free", "permuted")[2]
        assert gap["value"] == pytest.approx(0.0, abs=4)
    assert won <= 2


def test_reading_is_paid_before_the_first_attempt():
    cell, kind = drawn(200, 0, reading=35.0)
    names = ("schedule_free", "schedule")
    (_, free), (_, paid) = (judged([cell], {name: 2 * kind}) for name in names)
    assert points(free, ONE_ORDER) == points(paid, ONE_ORDER)
    shares = lambda rows, name: [point["value"] for point in points(rows, name)]
    cheap, dear = shares(free, names[0]), shares(paid, names[1])
    for budget, less, more in zip(budgets_of(paid), dear, cheap):
        assert less <= more and (less == 0) == (budget < 45)
    assert dear[3] < cheap[3] - 10


def test_without_costs_there_is_no_curve():
    data = data_of(dataclasses.replace(drawn(60, 0)[0], extras={}))
    assert judge_schedules(data, all_policies(data)) == (None, [])


def test_a_router_of_orders_sees_what_is_worth_more_in_the_long_run():
    """One of two operators with equal mean rates is better ten times over: the one that
    solves different problems at times.
    """
    draw = np.random.default_rng(0)
    count, kind = 240, draw.integers(0, 2, 240)
    always, at_times = (
        np.where(draw.random(count) < 0.25, 0.9, 0.0),
        np.full(count, 0.22),
    )
    chances = np.column_stack(
        [
            np.where(kind, always, 0.25),
            np.where(kind, at_times, 0.02),
            np.full(count, 0.02),
        ]
    )
    cell = table(draw.binomial(TRIED, chances) / TRIED, (10, 10, 10))
    noisy = kind + draw.normal(0, 0.3, count)
    cell = dataclasses.replace(
        cell, extras=cell.extras | {"entropy_mean": tuple(f"{x:.6g}" for x in noisy)}
    )
    data = data_of(cell)
    _, rows = judge_schedules(data, all_policies(data))
    for reference in (ONE_ORDER, BEST, "permuted"):
        assert points(rows, "schedule_free", reference)[-2]["low"] > 0
    # A router that looks at one attempt has no reason to tell the two apart.
    values = budget_target(data, outcomes_of(data)).values
    assert values[kind == 1, 1].mean() > values[kind == 1, 0].mean() + 0.4
    assert abs(data.rates[kind == 1, 1].mean() - data.rates[kind == 1, 0].mean()) < 0.1


def test_stop_solves_nothing():
    cell, _ = drawn(80, 0)
    _, rows = judged([cell], {"schedule_free": np.full(80, 3)})
    assert (
        points(rows, "schedule_free")[-1]["value"] == 0
        and points(rows, ONE_ORDER)[-1]["value"] > 50
    )


def test_an_order_is_followed_and_ends_in_retries(tmp_path):
    known = {
        ANYWHERE: {ONE_ORDER: ["hot", "retry", "hot"]},
        "sums": {ONE_ORDER: ["retry"]},
    }
    (tmp_path / ORDERS).write_text(json.dumps(known))
    assert (
        load_router(ONE_ORDER, ("retry",), "m|sums", (), None, tmp_path).choose({})
        == "retry"
    )
    router = load_router(ONE_ORDER, ("retry", "hot"), "any", (), None, tmp_path)
    assert (
        router.choose({}) == "hot"
        and router.tries() == {"hot", "retry"}
        and not router.reads
    )
    assert [router.then("hot", made) for made in range(5)] == [
        "hot",
        "retry",
        "hot",
        "retry",
        "retry",
    ]
    with pytest.raises(UserError, match="its orders try hot"):
        load_router(ONE_ORDER, ("retry",), "any", (), None, tmp_path)
    with pytest.raises(UserError, match="holds no orders"):
        load_router(ONE_ORDER, ("retry",), "any", (), None, tmp_path / "elsewhere")
