"""Branches of failed traces: restarts, cuts, arrays, and the stage from end to end."""

import dataclasses
import itertools
import json
import shutil
import types

import numpy as np
import pytest
from test_pipeline import _save
from test_trace_operators import countdown, failure, setting  # noqa: F401

from fr import store
from fr.atlas import referee
from fr.atlas.branch_arrays import Branches, rates
from fr.atlas.referee import (
    Located,
    against_defects,
    average_precision,
    baselines,
    judge,
    solved_within,
)
from fr.atlas.stage import atlas
from fr.config import AtlasConfig, Config, RoutingConfig, SamplingConfig, TaskConfig
from fr.diagnosis.trace_cuts import equal_cuts
from fr.errors import UserError
from fr.interventions import OPERATORS, Intervention, Operator
from fr.interventions.restarts import cut_at, restart
from fr.layout.tables import Passage
from fr.layout.text import to_text
from fr.pipeline.diagnose import diagnose
from fr.pipeline.sample import sample
from fr.profiles import read_profiles
from fr.report.render import render
from fr.runs.run import open_run
from fr.sampling.sources import PauseAction
from fr.tasks.countdown_visits import first_defect, visit_trace

TEXT = "10 - 3 = 7 , 7 + 2 = 9 no 7 - 2 = 5 up answer 10 - 3"


# -------------------------------------------------------------------- restarts
def failed(codec):
    return setting(codec, "countdown", [failure(codec, "countdown", TEXT)])


def test_a_restart_counts_as_if_the_trace_were_its_own(countdown):  # noqa: F811
    context = failed(countdown)
    tokens = context.failures[0].written.tokens
    made = lambda params, on_pause=None: Operator(
        "own", lambda context: Intervention(params, on_pause=on_pause)
    )
    params = {"warmup": 9, "fire_position": 7, "threshold": 1.0}
    change = restart(made(params), context, 5)
    assert change.kept == tuple(tokens[:5]) and change.rest == tuple(tokens[5:])
    limit = context.config.sampling.max_new_tokens
    assert change.params["warmup"] == 4 and change.params["fire_position"] == 2
    assert change.params["budget"] == limit - 5
    # A fire that lies before the cut does not happen again.
    late = restart(made(params), context, 8).params
    assert late["fire_position"] == -1 and late["threshold"] == np.inf
    assert restart(made(params), context, 0).params == params

    seen = []

    def on_pause(own):
        seen.append(own.tolist())
        return PauseAction((1,), cut=6 if len(own) == 7 else 2)

    paused = restart(made({}, on_pause), context, 5).on_pause
    assert paused(np.array([8, 9])) == PauseAction((1,), cut=1)
    assert paused(np.array([8])) == PauseAction()  # it would cut what is kept
    assert seen == [[*tokens[:5], 8, 9], [*tokens[:5], 8]]


def test_names_with_a_share_are_operators(countdown):  # noqa: F811
    context = failed(countdown)
    written = context.failures[0].written
    assert "retry@0.5" in OPERATORS and "retry@1.5" not in OPERATORS
    assert "retry@x" not in OPERATORS and "nothing@0.5" not in OPERATORS
    change = OPERATORS["hot@0.5"].change(context)
    kept = countdown.decode(change.kept)
    assert kept == "10 - 3 = 7 , 7 + 2 = 9 no"[: len(kept)] and kept.endswith(",")
    assert len(change.kept) == cut_at(written, 0.5)
    assert (
        change.params["temperature"]
        == OPERATORS["hot"].change(context).params["temperature"]
    )
    assert OPERATORS["greedy@0.5"].deterministic is False
    with pytest.raises(UserError, match="did you mean 'retry'"):
        OPERATORS["rety@0.5"]
    with pytest.raises(UserError, match="'hint' begins with its own prompt"):
        OPERATORS["hint@0.5"].change(context)
    here = OPERATORS["other_first@0.5"].change(context)
    assert here.params["avoid"] == (written.tokens[len(change.kept)],)


# ------------------------------------------------------------------------ cuts
def test_cuts_are_nearest_to_equal_shares_and_few_steps_repeat():
    ends = np.array([0, 4, 9, 21, 30])
    assert equal_cuts(ends, 4) == (0, 9, 21, 30)
    assert equal_cuts(np.array([0, 10]), 4) == (0, 0, 10, 10)


def branches(right, cuts=None) -> Branches:
    right = np.array(right, float)
    n, k = right.shape[:2]
    return Branches(
        rows=tuple(f"p{i}/rollout/0" for i in range(n)),
        problems=tuple(f"p{i}" for i in range(n)),
        operators=("retry", "hot")[: right.shape[2]],
        cuts=np.tile(np.arange(k) * 10, (n, 1)) if cuts is None else np.array(cuts),
        lengths=np.full(n, 10 * k),
        right=right,
        cost=np.where(np.isnan(right), np.nan, 10.0),
    )


def test_halves_are_disjoint_and_one_branch_is_in_both():
    found = branches([[[[1, 1, 0, 0], [1, np.nan, np.nan, np.nan]]]])
    assert found.half(False)[0, 0, 0].tolist() == [1, 1]
    assert found.half(True)[0, 0, 0].tolist() == [0, 0]
    for second in (False, True):
        assert rates(found.half(second))[0, 0].tolist() == [float(not second), 1.0]
    right, made = found.counts("retry")
    assert right.tolist() == [[2]] and made.tolist() == [[4]]


# --------------------------------------------------------------------- referee
def test_average_precision_by_hand():
    truth = np.array([True, False, True, False])
    one = np.ones(4)
    assert average_precision(np.array([4.0, 3, 2, 1]), truth, one) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision(np.array([1.0, 1, 1, 1]), truth, one) == 0.5
    # Twice the weight is the row twice.
    twice = np.array([1.0, 2, 1, 1])
    doubled = average_precision(
        np.array([4.0, 3, 3, 2, 1]), np.array([1, 0, 0, 1, 0], bool), np.ones(5)
    )
    assert average_precision(np.array([4.0, 3, 2, 1]), truth, twice) == pytest.approx(
        doubled
    )
    assert np.isnan(average_precision(one, np.zeros(4, bool), one))


def test_solved_within_a_budget_is_the_mean_over_orders():
    right, cost = np.array([1.0, 0, 0, 0]), np.array([4.0, 1, 2, 3])
    exact = np.mean(
        [
            sum(cost[i] for i in order[: order.index(0) + 1]) <= 7
            for order in itertools.permutations(range(4))
        ]
    )
    rng = np.random.default_rng(0)
    drawn = np.mean([solved_within(right, cost, 7, rng) for _ in range(200)])
    assert drawn == pytest.approx(exact, abs=0.02)


def test_a_localiser_that_knows_the_drop_beats_the_baselines_and_chance_does_not():
    rng = np.random.default_rng(1)
    n, k, b = 60, 8, 16
    drop = rng.integers(0, k - 1, n)
    value = np.where(np.arange(k) <= drop[:, None], 0.6, 0.02)
    right = (rng.random((n, k, 1, b)) < value[..., None, None]).astype(float)
    found = branches(right)
    truth = np.arange(k - 1) == drop[:, None]
    located = [
        *baselines(found, truth, 0),
        Located.of("knows", truth + 0.1 * rng.random(truth.shape)),
        Located.of("chance", rng.random(truth.shape)),
    ]
    rows = {row["localiser"]: row for row in judge(found, located, truth, 200, 0)}
    assert rows["knows"]["average_precision"]["value"] == 100
    assert rows["knows"]["over_position"]["interval"]["low"] > 50
    assert rows["chance"]["over_position"]["p_holm"] > 0.05
    # From the cut before the drop nothing is lost; elsewhere half of the traces are.
    assert rows["knows"]["gain"]["interval"]["low"] > -15
    assert rows["random"]["gain"]["interval"]["high"] < -20


def test_points_of_no_return_beside_known_defects_by_hand(monkeypatch):
    # Cuts keep 0, 10, 20, 30 tokens; a trace is its own score of defects.
    found = branches(np.zeros((6, 4, 1, 2)))
    at = [12, 10, 9, 25, 3, None]  # tokens of the defects
    claimed = np.array([2, 1, 1, 3, 3, 2])
    # before: 10 tokens do not hold token 10; at: 20 hold 12; after: 30, and 3 is at 10.
    scores = [np.arange(40) == d if d is not None else np.zeros(40) for d in at]
    traces = [types.SimpleNamespace(attempt=own, written=None) for own in scores]
    own = types.SimpleNamespace(score=lambda attempt, written, config: attempt)
    monkeypatch.setattr(referee, "LOCALISERS", {"first_defect": own})
    record = against_defects(found, traces, claimed, Config())
    assert (record["traces"], record["both"]) == (5, 5)
    assert [record[k]["value"] for k in ("before", "at", "after")] == [20, 60, 20]
    # kept - (d + 1): 7, -1, 0, 4, 26
    assert record["tokens"]["value"] == 4
    assert record["tokens"]["low"] <= 0 and record["tokens"]["high"] >= 7
    without = against_defects(found, traces, np.full(6, -1), Config())
    assert without is None


# ------------------------------------------------------------------- the stage
# The short form compiles one engine: all rows keep statistics, none an ancestor's.
FORMS = [False, pytest.param(True, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=FORMS, ids=("alone", "with an ancestor"))
def done(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    config = Config(
        specialist=_save(folder / "child", 1),
        ancestor=_save(folder / "parent", 2) if request.param else "",
        task=TaskConfig(problems=6),
        sampling=SamplingConfig(
            rollouts=3, slots=8, chunk=8, max_new_tokens=24, shard_rows=32, prefill=4
        ),
        routing=RoutingConfig(bootstrap=20, splits=5, permutations=5, nulls=9),
        atlas=AtlasConfig(
            traces=4,
            per_problem=2,
            cuts=3,
            more_cuts=1,
            operators=("retry", "steer_here", "wait_here"),
            branches=4,
            statistics=not request.param,
        ),
    )
    run = open_run(config, folder / "run")
    sample(run)
    diagnose(run)
    told: list[str] = []
    return run, atlas(run, told.append), told


def test_every_operator_goes_on_from_every_cut(done):
    run, found, told = done
    assert "branches, about" in told[0]
    rows = store.read_table(run.workdir / "branches").to_pylist()
    scored = {a.row: a for a in store.read(run.workdir / "scores")}
    assert found["branches"] >= len(rows) > 0
    for row in rows:
        origin, _, rest = row["row"].rpartition("@")
        cut, operator, index = rest.split("/")
        assert operator == row["operator"] and int(index) == row["attempt"]
        if int(cut):
            whole = [*scored[origin].prompt, *scored[origin].tokens[: int(cut)]]
            assert row["prompt"] == whole
            assert row["budget"] == 24 - int(cut)
        else:
            assert origin == row["problem"]
    keys = {}
    for row in rows:
        place = row["row"].rpartition("@")[0], row["row"].split("@")[1].split("/")[0]
        keys.setdefault((*place, row["attempt"]), set()).add(tuple(row["key"]))
    assert all(len(same) == 1 for same in keys.values())
    assert len(set().union(*keys.values())) == len(keys)


def test_a_killed_atlas_ends_with_the_same_bytes(done):
    run, found, _ = done
    before = (run.workdir / "atlas.json").read_bytes()
    shard = sorted((run.workdir / "branches").iterdir())[0]
    bytes_before = shard.read_bytes()
    shard.unlink()
    (run.workdir / "atlas.json").unlink()
    again = atlas(run, lambda line: None)
    assert (run.workdir / "atlas.json").read_bytes() == before
    assert shard.read_bytes() == bytes_before
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(found))


def test_its_table_is_routed_as_any_other(done, tmp_path):
    run, found, _ = done
    table = shutil.copy(run.workdir / "atlas_profiles.csv", tmp_path)
    shutil.copy(run.workdir / "atlas_profiles.attempts.parquet", tmp_path)
    cell = read_profiles(table)[0]
    assert "retry" in cell.operators and "retry@0.5" in cell.operators
    assert cell.problems == tuple(row["row"] for row in found["traces"])
    assert cell.recorded is not None and cell.recorded.paired
    assert ("steer_here" in found["operators"]) == (run.ancestor is not None)


def test_the_report_fits_a_terminal_and_model_text_is_escaped(done):
    run, found, _ = done
    text = render("atlas", found)
    assert max(map(len, text.splitlines())) <= 100
    assert "points of no return" in text and "localisers" in text
    page = (run.workdir / "atlas.html").read_text()
    assert "Failed traces" in page and "<script" not in page
    hostile = Passage([("\x1b[2J<b>" + "x" * 300, 0.25, "lost")], "ground")
    shown = to_text([hostile])
    assert "\x1b" not in shown and max(map(len, shown.splitlines())) <= 100


def test_without_failures_or_retry_it_says_what_to_do(done, tmp_path):
    run, _, _ = done
    with pytest.raises(UserError, match="run scripts/sample.py"):
        atlas(dataclasses.replace(run, workdir=run.workdir / "empty"))
    config = dataclasses.replace(
        run.config, atlas=dataclasses.replace(run.config.atlas, operators=("hot",))
    )
    with pytest.raises(UserError, match="has no 'retry'"):
        atlas(dataclasses.replace(run, config=config))


# ------------------------------------------------------------- known defects
@pytest.mark.parametrize(
    "text, place",
    [
        # a false result comes first
        ("3 + 2 = 6 , 6 * 4 = 24 yes answer ( 3 + 2 ) * 4", "3 + 2"),
        # 5 and 4 make 20; the search goes up from them without it
        ("3 + 2 = 5 , 5 - 4 = 1 no 5 + 4 = 9 up 4 - 2 = 2 , 3 * 2 = 6", " 4 - 2"),
        # no state one move from the target is left: it stops
        ("4 * 3 = 12 , 12 + 2 = 14 answer 4 * 3 + 2", " answer"),
        ("3 + 2 = 5 , 5 * 4 = 20 yes answer ( 3 + 2 ) * 4", None),
    ],
)
def test_the_first_defect_of_a_search_by_hand(text, place):
    trace = visit_trace(text.partition(" answer")[0], (2, 3, 4), 20)
    found = first_defect(trace, 20)
    assert found == (None if place is None else text.index(place))
