"""Operators that share random keys, and the statistics that mix them."""

import itertools
import types

import numpy as np
import pytest
from scipy.special import ndtr

from fr import store
from fr.comparison.power import measure_power
from fr.config import Config, RoutingConfig
from fr.config.experiment import with_texts
from fr.config.reads import difference
from fr.interventions import Intervention, OperatorContext
from fr.orders.budgets import outcomes_of
from fr.orders.schedules import greedy
from fr.pipeline.online import OnlineSource
from fr.profiles import AXES, Profiles, Recorded, read_profiles, write_profiles
from fr.routing.dataset import RoutingData
from fr.runs.attempt_costs import recorded_attempts
from fr.runs.planned import plan_attempt, plan_change
from fr.stats.interaction import interaction, interaction_apart
from fr.stats.paired import (
    apart_within,
    halve_within,
    index_orders,
    permute_within,
)
from fr.types import RIGHT, ROLLOUT, WRONG, Problem

NAMES = ("retry", "one", "other")


def run_of(**settings):
    config = with_texts(Config(), settings)
    model = types.SimpleNamespace(stop_tokens=(0,), encode=lambda prompt: (1, 2))
    return types.SimpleNamespace(config=config, specialist=model)


def key(run, operator: str, attempt: int, *more) -> tuple:
    problem = Problem("p", "", "", "sums")
    given = run, (1, 2), problem, operator, attempt
    if operator == ROLLOUT:
        return tuple(plan_attempt(*given, {}, False).row.key)
    return tuple(plan_change(*given, Intervention(), False, *more).row.key)


def test_the_key_of_an_attempt_is_the_same_for_all_operators():
    run = run_of()
    shared = [{key(run, name, i) for name in NAMES} for i in range(5)]
    assert all(len(keys) == 1 for keys in shared)
    assert len(set.union(*shared)) == 5
    plain = {key(run, ROLLOUT, i) for i in range(5)}
    assert plain.isdisjoint(set.union(*shared))  # else retry would repeat the failures
    own = run_of(**{"intervention.keys": "own"})
    assert len({key(own, name, i) for name in NAMES for i in range(5)}) == 15
    # Retry draws in both as it always did, and an evaluation's operators as plain rows.
    assert [key(run, "retry", i) for i in range(5)] == [
        key(own, "retry", i) for i in range(5)
    ]
    assert key(run, "one", 3, ROLLOUT) == key(run, ROLLOUT, 3)


def test_a_folder_from_before_the_setting_has_its_own_keys():
    there, here = {"intervention": {}}, {"intervention": {"keys": "shared"}}
    assert difference("attempts", there, here) == ("intervention.keys", "own", "shared")
    assert difference("attempts", there, {"intervention": {"keys": "own"}}) is None
    assert difference("rollouts", there, here) is None


@pytest.mark.parametrize("keys, indices", [("shared", [0, 1, 2]), ("own", [0, 0, 1])])
def test_a_live_course_uses_no_key_twice(keys, indices):
    run = run_of(**{"intervention.keys": keys})
    run.task = types.SimpleNamespace(prompt=lambda problem: "")
    router = types.SimpleNamespace(reads=())
    source = OnlineSource(run, router, [Problem("p", "", "", "sums")], False)
    case, made = source.cases[0], lambda name: types.SimpleNamespace(operator=name)
    case.attempts = [made(ROLLOUT), made(ROLLOUT)]
    case.setting = OperatorContext(run.config, case.problem, 0, None, False)
    planned = []
    for case.operator in ("retry", "hot", "retry"):
        planned.append(source._plan(case))
        case.attempts.append(made(case.operator))
    assert [p.attempt for p in planned] == indices
    assert len({tuple(p.row.key) for p in planned}) == 3


def outcomes(rng, problems=4, operators=3, attempts=4):
    """Outcomes that depend on the index, and costs of their own."""
    hard = rng.random((problems, 1, attempts))
    right = hard + 0.3 * rng.standard_normal((problems, operators, attempts)) > 0.5
    costs = rng.integers(1, 9, right.shape).astype(float)
    return right, costs


def profiles_of(right, costs, paired=True, cell="m|t") -> Profiles:
    problems, operators, attempts = right.shape
    made = np.ones_like(right)
    recorded = Recorded(made, right, {axis: costs for axis in AXES}, paired)
    names = NAMES[:operators]
    extras = {f"{name}_cost": ("1",) * problems for name in (*names, "diagnosis")}
    extras |= {"failures_cost": ("0",) * problems}
    return Profiles(
        cell=cell,
        problems=tuple(map(str, range(problems))),
        n_failed=np.ones(problems, int),
        features=np.zeros((problems, 3)),
        operators=names,
        rates=right.mean(axis=2),
        attempts=np.full((problems, operators), attempts),
        extras=extras,
        recorded=recorded,
    )


def test_what_a_schedule_solves_is_the_mean_over_distinct_indices():
    rng = np.random.default_rng(0)
    right, costs = outcomes(rng)
    data = RoutingData.build([profiles_of(right, costs)], Config(), compared=False)
    found = outcomes_of(data)
    budgets = np.tile([3.0, 8.0, 13.0, 40.0], (len(right), 1))
    for order in ((0, 1), (1, 0, 2), (0, 1, 0, 2), (2, 2, 1)):
        exact = np.zeros(budgets.shape)
        orders = list(itertools.permutations(range(right.shape[2])))
        for n, indices in itertools.product(range(len(right)), orders):
            spent = 0.0
            for o, i in zip(order, indices):
                spent += costs[n, o, i]
                if right[n, o, i]:
                    exact[n] += (spent <= budgets[n]) / len(orders)
                    break
        # Rotations give each first attempt its exact rate.
        np.testing.assert_allclose(found.solved(order, budgets), exact, atol=0.03)
    # No fifth attempt is known; one operator alone is read exactly, as before.
    assert (found.solved((0, 1, 2, 0, 1), budgets) <= 1).all()
    np.testing.assert_allclose(
        found.solved((1,), budgets[:, 3:])[:, 0], right[:, 1].mean(axis=1)
    )


def test_an_operator_that_changes_nothing_adds_nothing():
    """Two names of one operator: mixing them is repeating it."""
    rng = np.random.default_rng(1)
    right, costs = outcomes(rng, problems=6, operators=1, attempts=6)
    twice = np.repeat(right, 2, axis=1), np.repeat(costs, 2, axis=1)
    budget = np.full((6, 1), 1e6)
    solved = {}
    for paired in (True, False):
        data = RoutingData.build(
            [profiles_of(*twice, paired)], Config(), compared=False
        )
        found = outcomes_of(data)
        solved[paired] = [
            found.solved(order, budget).mean() for order in ((0, 0, 0), (0, 1, 0))
        ]
        assert len(greedy(found, np.ones(6, bool))) <= (6 if paired else 12)
    assert solved[True][0] == pytest.approx(solved[True][1], abs=0.01)
    # As if they were independent, the second name would seem another chance.
    assert abs(solved[False][1] - solved[False][0]) > 0.02


def test_shuffles_keep_what_an_index_has_and_halves_are_the_same_for_all():
    rng = np.random.default_rng(2)
    right, _ = outcomes(rng, problems=5, operators=3, attempts=8)
    made = np.ones_like(right)
    made[:, 2, 6:] = False
    shuffled = permute_within(right, made, 50, rng)
    assert (shuffled.sum(axis=2) == (right & made).sum(axis=(1, 2))).all()
    assert (shuffled[..., 2] <= 6).all() and len(np.unique(shuffled, axis=0)) > 1
    same = np.repeat(right[:, :1], 3, axis=1)
    assert (permute_within(same, np.ones_like(same), 9, rng) == same.sum(axis=2)).all()

    fixed = np.array([False, False, False])
    here, there = halve_within(same, np.ones_like(same), fixed, 30, rng)
    assert (here == here[..., :1]).all() and (there == there[..., :1]).all()
    np.testing.assert_allclose(
        (here + there) / 2, np.tile(same.mean(axis=2), (30, 1, 1))
    )
    here, there = halve_within(right, made, fixed, 30, rng)
    counts = np.array([4, 4, 3])
    total = here * counts + there * (made.sum(axis=2)[0] - counts)
    np.testing.assert_allclose(total, np.tile((right & made).sum(axis=2), (30, 1, 1)))


def test_orders_hold_each_index_once_and_as_often_at_each_place():
    rng = np.random.default_rng(3)
    made = np.ones((3, 2, 5), bool)
    made[1, 0, 3:] = False
    orders = index_orders(made, 20, rng)
    for n, count in enumerate((5, 3, 5)):
        own = orders[n][:, :count]
        assert (np.sort(own, axis=1) == np.arange(count)).all()
        assert (orders[n][:, count:] == -1).all()
        for place in range(count):
            times = np.bincount(own[:, place], minlength=count)
            if count == 5:
                assert (times == len(own) // count).all()


def test_a_table_remembers_that_its_operators_are_paired(tmp_path):
    right, costs = outcomes(np.random.default_rng(4))
    cells = [profiles_of(right, costs, True, "a|t"), profiles_of(right, costs, False)]
    write_profiles(tmp_path / "profiles.csv", cells)
    again = read_profiles(tmp_path / "profiles.csv")
    assert [cell.recorded.paired for cell in again] == [True, False]
    assert again[0].without(("one",)).recorded.paired and again[1].paired is None


@pytest.mark.parametrize("shared", [True, False])
def test_attempts_are_paired_where_their_keys_are(shared):
    def row(operator: str, attempt: int) -> dict:
        own = [attempt, 0 if shared else NAMES.index(operator)]
        costs = {f"cost_{name}": 1 for name in store.COSTS}
        grade = RIGHT if attempt else WRONG
        known = {"problem": "p", "attempt": attempt, "key": own, "grade": grade}
        return known | costs

    tried = [[[row(name, i) for i in range(3)]] for name in NAMES]
    assert recorded_attempts(tried, 1.0).paired == shared


def paired_table(seed, problems=150, operators=3, attempts=24, pair_sd=0.8, common=0.9):
    """True rates, and attempts that share most of their noise within an index."""
    rng = np.random.default_rng(seed)
    pair = pair_sd * rng.normal(size=(problems, operators))
    rates = 1 / (1 + np.exp(-(pair + 1.2 * rng.normal(size=(problems, 1)))))
    shared, own = rng.normal(size=(2, problems, operators, attempts))
    noise = np.sqrt(common) * shared[:, :1] + np.sqrt(1 - common) * own
    return rates, ndtr(noise) < rates[..., None]


def test_an_index_goes_to_one_operator():
    rng = np.random.default_rng(5)
    right, _ = outcomes(rng, problems=7, operators=3, attempts=8)
    made = np.ones_like(right)
    made[:, 2, 6:] = False
    correct, attempts = apart_within(right, made, rng)
    assert (attempts.sum(axis=1) <= 8).all() and (attempts[:, :2] > 0).all()
    assert (correct <= attempts).all()
    # The same right attempts under each name: an index is counted once.
    first = np.zeros_like(right)
    first[:, :, 0] = True
    correct, _ = apart_within(first, np.ones_like(first), rng)
    assert (correct.sum(axis=1) == 1).all()
    many = [apart_within(first, np.ones_like(first), rng)[1] for _ in range(300)]
    np.testing.assert_allclose(np.mean(many, axis=(0, 1)), 8 / 3, atol=0.1)


def test_true_rates_are_not_pulled_together_by_shared_keys():
    truth, told = [], {True: [], False: []}
    for seed in range(3):
        rates, right = paired_table(seed, pair_sd=0.5, common=0.95)
        truth.append(100 * (rates.max(axis=1).mean() - rates.mean(axis=0).max()))
        for paired in told:
            profiles = profiles_of(right, np.ones(right.shape), paired)
            given = RoutingConfig(posterior=40), np.random.default_rng(seed)
            told[paired].append(measure_power(profiles, *given).record["headroom"])
    found = {key: [row["all"]["value"] for row in rows] for key, rows in told.items()}
    assert np.mean(found[True]) == pytest.approx(np.mean(truth), abs=1.5)
    assert np.mean(found[False]) < 0.6 * np.mean(truth)
    inside = [
        r["all"]["low"] <= t <= r["all"]["high"] for r, t in zip(told[True], truth)
    ]
    assert sum(inside) >= 2


def test_shared_keys_hide_no_interaction_and_make_none():
    def p(seed, paired=True, **table):
        _, right = paired_table(seed, problems=80, attempts=12, **table)
        made, rest = np.ones_like(right), (99, np.random.default_rng(seed), False)
        if paired:
            return interaction_apart(right, made, *rest).p
        return interaction(right.sum(axis=2), made.sum(axis=2), *rest).p

    assert [p(seed, pair_sd=1.2) for seed in range(2)] == pytest.approx([0.02] * 2)
    weak = {"pair_sd": 0.5, "common": 0.95}
    assert np.median([p(seed, paired=False, **weak) for seed in range(5)]) > 0.4
    none = [p(seed, pair_sd=0.0) for seed in range(8)]
    assert sum(value <= 0.05 for value in none) <= 1
    few = np.ones((9, 3, 2), bool)  # two indices for three operators
    assert interaction_apart(few, few, 9, np.random.default_rng(0)) is None
