"""A head and a rule that were fitted elsewhere: they carry over to the same landscape,
and learn nothing of it.
"""

import dataclasses
import json

import numpy as np
import pytest
from synthetic_profiles import routing_data, rows_of

from benchmarks.landscapes import Landscape, simulate
from fr.comparison.cell_summary import describe_oracle
from fr.comparison.evaluate import TRANSFER, evaluate
from fr.comparison.summary import measure_powers
from fr.comparison.transfer import (
    FROZEN,
    describe_transfer,
    frozen_policies,
    unknown_operators,
)
from fr.config import ClustersConfig, Config, RoutingConfig
from fr.errors import UserError
from fr.pipeline.route import route
from fr.profiles import OPERATORS, read_cells, write_profiles
from fr.report.render import render
from fr.routing.dataset import EVERYWHERE
from fr.routing.learned import columns_of
from fr.routing.policies import all_policies
from fr.routing.posterior import ANYWHERE
from fr.routing.training import train_router

NAMES = [name for name, *_ in FROZEN]
LEARNED = NAMES[:2]
QUICK = RoutingConfig(
    bootstrap=400,
    splits=10,
    folds=3,
    inner_folds=3,
    steps=60,
    seeds=1,
    penalties=(0.002, 0.01),
)
PLANTED = Landscape(problems=240, attempts=10, effect=2.0, blur=0.3)


def table(seed, cell):
    return simulate(PLANTED, np.random.default_rng(seed), cell).profiles


def learned(*cells):
    data = routing_data(*cells, routing=QUICK).reading(("signal", "nuisance", "prompt"))
    return train_router(data, np.ones(len(data), bool), np.random.default_rng(0))[0]


def judged(profiles, router):
    """{(policy, reference): row} of the frozen policies on one table."""
    data = routing_data(profiles, routing=QUICK)
    data.populations.pop("steerable"), data.populations.pop("steerable_halves")
    policies = [*all_policies(data, False), *frozen_policies(router)]
    rows = [
        row
        for row in evaluate(policies, data, ["kfold"]).rows
        if (row.protocol, row.cell) == (TRANSFER, EVERYWHERE) and row.reference
    ]
    assert {row.policy for row in rows} <= set(NAMES)
    return {(row.policy, row.reference): row for row in rows}


def frozen(router, *cells):
    """Choices by policy, and what describes the transfer."""
    data = routing_data(*cells, routing=QUICK)
    choices = {p.name: p.fit(data, None, None)(data) for p in frozen_policies(router)}
    return choices, *describe_transfer(data, router)


@pytest.fixture(scope="module")
def router():
    return learned(table(0, "sft|sums"))


def less(profiles, *names):
    kept = [o for o, name in enumerate(profiles.operators) if name not in names]
    return dataclasses.replace(
        profiles,
        operators=tuple(profiles.operators[o] for o in kept),
        rates=profiles.rates[:, kept],
        attempts=profiles.attempts[:, kept],
    )


@pytest.mark.parametrize("cell", ["grpo|sums", "grpo|gcd", "sft|sums"])
def test_what_was_planted_carries_over_to_the_same_landscape(router, cell):
    rows = judged(table(1, cell), router)
    for policy in (*LEARNED, "frozen_rule"):
        for reference in ("best_fixed_per_model", "frozen_fixed", "retry", "permuted"):
            assert rows[policy, reference].interval.low > 4, (policy, reference)
    assert rows["frozen_learned", "best_fixed_per_model"].p_holm < 0.05


def test_where_the_signal_is_turned_round_the_rows_show_the_loss(router):
    profiles = table(1, "grpo|sums")
    turned = dataclasses.replace(profiles, features=-profiles.features)
    rows = judged(turned, router)
    for policy in (*LEARNED, "frozen_rule"):
        assert rows[policy, "permuted"].interval.high < 0
    # A policy that reads nothing loses nothing.
    assert (
        rows["frozen_fixed", "retry"]
        == judged(profiles, router)["frozen_fixed", "retry"]
    )


def test_outcomes_of_the_target_are_not_read(router):
    profiles = table(1, "grpo|sums")
    order = np.random.default_rng(0).permutation(len(profiles))
    spoiled = dataclasses.replace(profiles, rates=profiles.rates[order] ** 2)
    (one, *about), (other, *again) = (frozen(router, p) for p in (profiles, spoiled))
    assert about == again and about[0]["source"]["departs"]
    for name in NAMES:
        assert np.array_equal(one[name].operator, other[name].operator)
    assert len(set(one["frozen_learned"].operator.tolist())) > 2
    for name in LEARNED:
        assert np.array_equal(one[name].expected, other[name].expected)


def test_standard_scores_are_those_of_the_source_unless_fresh(router):
    profiles = table(1, "grpo|sums")
    moved = dataclasses.replace(profiles, features=10 * profiles.features - 100)
    (here, *_), (there, *_) = (frozen(router, p) for p in (profiles, moved))
    routes = lambda found, name: found[name].operator
    fresh, own = "frozen_learned_fresh_z", "frozen_learned"
    assert np.array_equal(routes(here, fresh), routes(there, fresh))
    # To the source every one of these failures is below its mean.
    spare = OPERATORS.index("sparse_steer_random")
    assert set(routes(there, "frozen_rule").tolist()) == {spare}
    assert not np.array_equal(routes(here, own), routes(there, own))


def test_a_new_cell_is_an_average_place():
    one, other = table(0, "a|sums"), table(1, "b|sums")
    # The operators' own rates differ between the cells, so that the place matters.
    other = dataclasses.replace(other, rates=other.rates[:, ::-1])
    both = learned(one, other)
    statistics, given = (
        both.statistics[ANYWHERE],
        columns_of(table(2, "new|sums"), both.columns),
    )
    slope = both.deviation.calibration[-1]
    score = lambda *place: slope * np.array(both._place(*place))
    assert np.allclose(
        (score("a|sums", None) + score("b|sums", None)) / 2, score("new|sums", "sums")
    )
    assert np.allclose(both._place("new|gcd", "gcd"), 0)
    alone = learned(one)
    known = alone.chooser("a|sums")(given)
    assert np.array_equal(
        alone.chooser("new|gcd", alone.statistics["a|sums"], "gcd")(given), known
    )
    assert both.chooser("new|sums", statistics)(given).shape == known.shape


def test_operators_are_those_that_both_sides_have(router):
    target = less(table(1, "grpo|sums"), "dense_steer")
    choices, record, _ = frozen(router, target)
    there = set(target.operators)
    for name in NAMES:
        assert {target.operators[o] for o in choices[name].operator} <= there
    (cell,) = record["cells"]
    assert cell["source_only"] == ["dense_steer"]
    assert cell["rule_reads"] == ["concentration", "logit_dispersion"]
    # Without the source's own fixed choice it is what came next there.
    best = router.fixed("sft|sums")
    gone = frozen(router, less(table(1, "grpo|sums"), router.operators[best]))[1][
        "cells"
    ][0]
    assert gone["fixed_of_source"] == router.operators[best] != gone["fixed"]
    gains = [
        gain if o != best else -1
        for o, gain in enumerate(router.gains["sft|sums"][:-1])
    ]
    assert gone["fixed"] == router.operators[int(np.argmax(gains))]
    renamed = dataclasses.replace(router, operators=("retry", "a", "b", "c", "d"))
    choices, _, unsupported = frozen(renamed, table(1, "grpo|sums"))
    assert {entry["why"] for entry in unsupported} == {"shares retry with the source"}
    assert all((choice.operator == -1).all() for choice in choices.values())


def test_a_router_is_not_judged_without_a_column_that_it_reads(router):
    target = table(1, "grpo|sums")
    blind = dataclasses.replace(target, features=target.features * [1.0, 1.0, np.nan])
    choices, _, unsupported = frozen(
        router, target, dataclasses.replace(blind, cell="blind|sums")
    )
    words = [(entry["policy"], entry["cell"], entry["why"]) for entry in unsupported]
    assert words == [
        (n, "blind|sums", "the router reads logit_dispersion") for n in LEARNED
    ]
    own = choices["frozen_learned"].operator
    assert (own[240:] == -1).all() and (own[:240] >= 0).all()
    assert (choices["frozen_rule"].operator >= 0).all()


def test_questions_that_the_source_knew_are_counted(router):
    target = table(1, "grpo|sums")
    known = [name.removeprefix("sums ") for name in router.questions][:50]
    same = dataclasses.replace(target, problems=(*known, *target.problems[50:]))
    assert frozen(router, same)[1]["questions"] == {"target": 240, "shared": 50}


def test_the_oracle_is_bracketed():
    found = simulate(
        dataclasses.replace(PLANTED, effect=0.0, pair_sd=1.0), np.random.default_rng(3)
    )
    data = routing_data(found.profiles, routing=QUICK)
    (bracket,) = rows_of(describe_oracle(data, measure_powers(data)), population="all")
    truth = 100 * found.rates.max(axis=1).mean()
    assert (
        bracket["at_least"] < truth < bracket["at_most"]
        and abs(bracket["by_model"] - truth) < 5
    )
    unknown = dataclasses.replace(
        found.profiles, rates=0 * found.rates + 0.123457, attempts=None
    )
    data = routing_data(unknown, routing=QUICK)
    (bracket,) = rows_of(describe_oracle(data, [None]), population="all")
    assert bracket["at_least"] is None and bracket["by_model"] is None


def test_by_command_from_one_workdir_to_another(router, tmp_path):
    target = table(1, "grpo|sums")
    extra = np.zeros((len(target), 1))
    wider = dataclasses.replace(
        target,
        operators=(*target.operators, "hot"),
        rates=np.hstack([target.rates, extra]),
        attempts=np.hstack([target.attempts, extra.astype(int) + 10]),
    )
    path, out = tmp_path / "grpo.csv", tmp_path / "out"
    write_profiles(path, [wider])
    assert unknown_operators(read_cells([path]), router) == ["hot"]
    config = Config(
        routing=dataclasses.replace(
            QUICK, bootstrap=100, permutations=20, posterior=20
        ),
        clusters=ClustersConfig(bootstrap=2, nulls=2, seeds=2),
    )
    with pytest.raises(UserError, match="holds no router"):
        route([path], config, out, frozen=tmp_path)
    assert not out.exists()
    router.save(tmp_path / "router")
    told = render("routing", route([path], config, out, frozen=tmp_path))
    summary = json.loads((out / "routing.json").read_text())
    assert summary["without"] == ["hot"] and summary["transfer"]["source"]["cells"] == [
        "sft|sums"
    ]
    rates = {
        row["policy"]
        for row in rows_of(summary["rows"], protocol=TRANSFER, reference=None)
    }
    assert rates == set(NAMES)
    said = {(row["protocol"], row["policy"]) for row in summary["calibration"]}
    assert {pair for pair in said if pair[0] == TRANSFER} == {
        (TRANSFER, name) for name in LEARNED
    }
    assert "transfer from sft|sums" in " ".join(told.split())
    assert not (out / "router").exists()
