"""A head and a rule that were fitted elsewhere: they carry over to the same landscape, and learn nothing of it."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.landscapes import Landscape, simulate
from fr.config import ClustersConfig, Config, RoutingConfig
from fr.errors import UserError
from fr.pipeline.route import route
from fr.routing.compare import EVERYWHERE, TRANSFER, compare
from fr.routing.learn import READS, train_head
from fr.routing.pool import make_pool, make_populations
from fr.routing.profiles import OPERATORS, read_cells, write_profiles
from fr.routing.references import FROZEN, FROZEN_HEADS
from fr.routing.trained import ANYWHERE, columns_of
from fr.routing.transfer import freeze, oracle_bracket, unknown_operators

QUICK = RoutingConfig(
    bootstrap=400, splits=10, folds=3, inner_folds=3, steps=60, seeds=1, penalties=(0.002, 0.01)
)
PLANTED = Landscape(problems=240, attempts=10, effect=2.0, blur=0.3)


def table(seed, cell):
    return simulate(PLANTED, np.random.default_rng(seed), cell).profiles


def learned(*cells):
    pool = make_pool(cells)
    population = make_populations(pool, [None] * len(cells), QUICK)["all"]
    everyone = np.ones(len(pool), bool)
    return train_head(pool, population, everyone, READS["head"], QUICK, np.random.default_rng(0))[0]


def judged(profiles, head):
    """{(policy, reference): row} of the frozen policies on one table."""
    pool = make_pool([profiles])
    everyone = {"all": make_populations(pool, [None], QUICK)["all"]}
    stream = lambda purpose: np.random.default_rng(0)
    found, _ = compare(pool, everyone, QUICK, stream, False, freeze(pool, head).routes)
    rows = [r for r in found["comparisons"] if (r["protocol"], r["cell"]) == (TRANSFER, EVERYWHERE)]
    assert {row["policy"] for row in rows} <= set(FROZEN)
    return {(row["policy"], row["reference"]): row for row in rows}


@pytest.fixture(scope="module")
def head():
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
def test_what_was_planted_carries_over_to_the_same_landscape(head, cell):
    rows = judged(table(1, cell), head)
    for policy in (*FROZEN_HEADS, "frozen_rule"):
        for reference in ("best_fixed_per_model", "frozen_fixed", "retry", "permuted"):
            assert rows[policy, reference]["low"] > 4, (policy, reference)
    assert rows["frozen_head", "best_fixed_per_model"]["p_holm"] < 0.05


def test_where_the_signal_is_turned_round_the_rows_show_the_loss(head):
    profiles = table(1, "grpo|sums")
    turned = dataclasses.replace(profiles, features=-profiles.features)
    rows = judged(turned, head)
    for policy in (*FROZEN_HEADS, "frozen_rule"):
        assert rows[policy, "permuted"]["high"] < 0
    # Whoever reads nothing loses nothing.
    assert rows["frozen_fixed", "retry"] == judged(profiles, head)["frozen_fixed", "retry"]


def test_outcomes_of_the_target_are_not_read(head):
    profiles = table(1, "grpo|sums")
    order = np.random.default_rng(0).permutation(len(profiles))
    spoiled = dataclasses.replace(profiles, rates=profiles.rates[order] ** 2)
    one, other = (freeze(make_pool([p]), head) for p in (profiles, spoiled))
    assert one.record == other.record and one.record["source"]["departs"]
    for name in FROZEN:
        assert np.array_equal(one.routes[name], other.routes[name])
    assert len(set(one.routes["frozen_head"].tolist())) > 2
    for name in FROZEN_HEADS:
        assert np.array_equal(one.expected[name], other.expected[name])


def test_standard_scores_are_those_of_the_source_unless_fresh(head):
    profiles = table(1, "grpo|sums")
    moved = dataclasses.replace(profiles, features=10 * profiles.features - 100)
    here, there = (freeze(make_pool([p]), head).routes for p in (profiles, moved))
    assert np.array_equal(here["frozen_head_fresh_z"], there["frozen_head_fresh_z"])
    # To the source every one of these failures is below its mean.
    assert set(there["frozen_rule"].tolist()) == {OPERATORS.index("sparse_steer_random")}
    assert not np.array_equal(here["frozen_head"], there["frozen_head"])


def test_a_new_cell_is_an_average_place():
    one, other = table(0, "a|sums"), table(1, "b|sums")
    # The operators' own rates differ between the cells, so that the place matters.
    other = dataclasses.replace(other, rates=other.rates[:, ::-1])
    head = learned(one, other)
    statistics, given = head.statistics[ANYWHERE], columns_of(table(2, "new|sums"), head.columns)
    score = lambda *place: head.shrinkage.calibration[-1] * np.array(head._place(*place))
    assert np.allclose((score("a|sums", None) + score("b|sums", None)) / 2, score("new|sums", "sums"))
    assert np.allclose(head._place("new|gcd", "gcd"), 0)
    alone = learned(one)
    known = alone.policy("a|sums")(given)
    assert np.array_equal(alone.policy("new|gcd", alone.statistics["a|sums"], "gcd")(given), known)
    assert head.policy("new|sums", statistics)(given).shape == known.shape


def test_operators_are_those_that_both_sides_have(head):
    target = less(table(1, "grpo|sums"), "dense_steer")
    frozen = freeze(make_pool([target]), head)
    there = set(target.operators)
    for name in FROZEN:
        assert {target.operators[o] for o in frozen.routes[name]} <= there
    (cell,) = frozen.record["cells"]
    assert cell["source_only"] == ["dense_steer"]
    assert cell["rule_reads"] == ["concentration", "logit_dispersion"]
    # Without the source's own fixed choice it is what came next there.
    best = head.fixed("sft|sums")
    gone = freeze(make_pool([less(table(1, "grpo|sums"), head.operators[best])]), head).record["cells"][0]
    assert gone["fixed_of_source"] == head.operators[best] != gone["fixed"]
    gains = [gain if o != best else -1 for o, gain in enumerate(head.gains["sft|sums"][:-1])]
    assert gone["fixed"] == head.operators[int(np.argmax(gains))]
    renamed = dataclasses.replace(head, operators=("retry", "a", "b", "c", "d"))
    lonely = freeze(make_pool([table(1, "grpo|sums")]), renamed)
    assert {entry["why"] for entry in lonely.record["unsupported"]} == {"shares retry with the source"}
    assert all((choice == -1).all() for choice in lonely.routes.values())


def test_a_head_is_not_judged_without_a_column_that_it_reads(head):
    target = table(1, "grpo|sums")
    blind = dataclasses.replace(target, features=target.features * [1.0, 1.0, np.nan])
    frozen = freeze(make_pool([target, dataclasses.replace(blind, cell="blind|sums")]), head)
    words = [(entry["policy"], entry["cell"], entry["why"]) for entry in frozen.record["unsupported"]]
    assert words == [(n, "blind|sums", "the head reads logit_dispersion") for n in FROZEN_HEADS]
    assert (frozen.routes["frozen_head"][240:] == -1).all() and (
        frozen.routes["frozen_head"][:240] >= 0
    ).all()
    assert (frozen.routes["frozen_rule"] >= 0).all()


def test_questions_that_the_source_knew_are_counted(head):
    target = table(1, "grpo|sums")
    known = [name.removeprefix("sums ") for name in head.questions][:50]
    same = dataclasses.replace(target, problems=(*known, *target.problems[50:]))
    assert freeze(make_pool([same]), head).record["questions"] == {"target": 240, "shared": 50}


def test_the_oracle_is_bracketed():
    from fr.routing.certainty import certainty
    from fr.routing.protocols import halves_view

    found = simulate(dataclasses.replace(PLANTED, effect=0.0, pair_sd=1.0), np.random.default_rng(3))
    rng = np.random.default_rng(0)
    known = certainty(found.profiles, QUICK, rng)
    bracket = oracle_bracket(found.profiles, halves_view(found.profiles, QUICK, rng), known)
    truth = 100 * found.rates.max(axis=1).mean()
    assert bracket["low"] < truth < bracket["high"] and abs(bracket["expected"] - truth) < 5
    assert oracle_bracket(found.profiles, None, None)["low"] is None


def test_by_command_from_one_workdir_to_another(head, tmp_path):
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
    assert unknown_operators(read_cells([path]), head) == ["hot"]
    config = Config(
        routing=dataclasses.replace(QUICK, bootstrap=100, permutations=20, posterior=20),
        clusters=ClustersConfig(bootstrap=2, nulls=2, seeds=2),
    )
    with pytest.raises(UserError, match="holds no head"):
        route([path], config, out, frozen=tmp_path)
    assert not out.exists()
    head.save(tmp_path / "head")
    result = route([path], config, out, frozen=tmp_path)
    summary = json.loads((out / "routing.json").read_text())
    assert summary["without"] == ["hot"] and summary["transfer"]["source"]["cells"] == ["sft|sums"]
    rates = {row["policy"] for row in summary["rates"] if row["protocol"] == TRANSFER}
    assert rates == set(FROZEN)
    said = {(row["protocol"], row["policy"]) for row in summary["calibration"]}
    assert {pair for pair in said if pair[0] == TRANSFER} == {(TRANSFER, name) for name in FROZEN_HEADS}
    assert "transfer from sft|sums" in " ".join("\n".join(result["tables"]).split())
    assert not (out / "head").exists()
