"""Online routing: a problem's own attempts decide what happens to it, a kill changes
nothing, and costs add up.
"""

import dataclasses
import zlib

import numpy as np
import pytest
from interval_records import check_files
from synthetic_profiles import rows_of

from fr import store
from fr.config import (
    Config,
    DiagnosisConfig,
    InterventionConfig,
    RoutingConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.diagnosis.features import problem_features
from fr.diagnosis.junction import Trace
from fr.errors import UserError
from fr.orders import routers
from fr.orders.routers import Router, fixed_router, load_router
from fr.pipeline.online import attempt_online, reads_ancestor, route_online
from fr.pipeline.online_summary import CHANCE, CHOSEN, LOGGED, TAKEN
from fr.profiles import FEATURES, Profiles
from fr.report.render import render
from fr.routing.rule import ZStatistics, make_rule
from fr.runs.attempts import make_attempts
from fr.runs.planned import plan_attempt
from fr.runs.run import Run
from fr.sampling.devices import Devices
from fr.stats.bootstrap import resample_weights
from fr.stats.budget_curves import spent_curves
from fr.stats.pass_at_k import plurality, surest, weighted
from fr.tasks.countdown import Countdown
from fr.types import RIGHT, ROLLOUT, WRONG

AFTER, MORE = 2, 3


class Lucky(Countdown):
    """Countdown, but every fourth completion is right: an untrained model solves
    nothing.
    """

    def grade(self, problem, completion):
        return WRONG if zlib.crc32(completion.encode()) % 4 else RIGHT


@pytest.fixture
def make_run(tiny_model, plain_engine, tmp_path):
    def make(name="run", problems=slice(7), verifier=True, explore=0.0):
        config = Config(
            task=TaskConfig(problems=7),
            sampling=SamplingConfig(
                max_new_tokens=10, slots=4, chunk=4, shard_rows=3 * (AFTER + MORE)
            ),
            diagnosis=DiagnosisConfig(warmup=0.1, window=0.1),
            intervention=InterventionConfig(
                ("retry", "hot", "prefix_restart"),
                MORE,
                online_after=AFTER,
                verifier=verifier,
                online_explore=explore,
            ),
            routing=RoutingConfig(bootstrap=50),
        )
        task, devices = Lucky(config.task), Devices("one")
        asked = task.problems("test", 7)[problems]
        return Run(
            config,
            tmp_path / name,
            task,
            asked,
            tiny_model,
            None,
            devices,
            _engines={(False, False, False): plain_engine},
        )

    return make


def by_dispersion(threshold=-0.5) -> Router:
    """Two operators, told apart by a feature."""
    policy = lambda given: (given[:, 0] > threshold).astype(int)
    columns = ("logit_dispersion",)
    return Router(
        "split",
        ("hot", "prefix_restart"),
        columns,
        frozenset(columns),
        policy,
        {"threshold": threshold},
    )


def by_problem(folder) -> dict[str, list[store.Attempt]]:
    groups = {}
    for attempt in store.read(folder):
        groups.setdefault(attempt.problem, []).append(attempt)
    return groups


def seen(groups) -> dict:
    return {
        p: [(a.row, a.grade, a.tokens.tolist()) for a in group]
        for p, group in groups.items()
    }


def dispersion(run, attempts) -> float:
    return problem_features(
        [Trace(a.stats, ~a.forced) for a in attempts], run.config.diagnosis
    )["logit_dispersion"]


def middle(make_run) -> float:
    """A threshold that parts the problems."""
    run = make_run("retried", verifier=False)
    groups = by_problem(attempt_online(run, fixed_router("retry"))).values()
    return float(np.median([dispersion(run, group[:AFTER]) for group in groups]))


def test_a_problem_is_routed_by_its_own_failures_and_ends_when_solved(make_run):
    run, router = make_run(), by_dispersion(middle(make_run))
    groups = by_problem(attempt_online(run, router))
    assert list(groups) == [p.id for p in run.problems]
    solved, routes = 0, []
    for group in groups.values():
        grades = [a.grade for a in group]
        assert RIGHT not in grades[:-1] and (
            grades[-1] == RIGHT or len(group) == AFTER + MORE
        )
        assert [a.operator for a in group[:AFTER]] == [ROLLOUT] * len(group[:AFTER])
        assert [a.attempt for a in group] == [*range(AFTER), *range(MORE)][: len(group)]
        solved += grades[-1] == RIGHT
        if len(group) > AFTER:
            chosen = router.choose({"logit_dispersion": dispersion(run, group[:AFTER])})
            assert {a.operator for a in group[AFTER:]} == {chosen}
            routes.append(chosen)
    assert 0 < solved < len(groups) and set(routes) == {"hot", "prefix_restart"}
    for group in groups.values():  # each is charged what was read and drawn for it
        for a in group:
            assert a.cost.prefill == len(
                a.prompt
            ) and a.cost.generated + a.cost.forced == len(a.tokens)

    # The draws are the same as in sampling: the same keys.
    plan = [
        plan_attempt(
            run, run.specialist.encode(run.task.prompt(p)), p, ROLLOUT, i, {}, False
        )
        for p in run.problems
        for i in range(AFTER)
    ]
    make_attempts(run, plan, "rollouts")
    offline = seen(by_problem(run.workdir / "rollouts"))
    for problem, attempts in seen(groups).items():
        assert attempts[:AFTER] == offline[problem][: len(attempts)]

    # For any other problems, in any order.
    other = by_problem(attempt_online(make_run("other", slice(5, 0, -2)), router))
    assert seen(other) == {problem: seen(groups)[problem] for problem in other}


def test_a_kill_loses_a_block_and_changes_nothing(make_run, monkeypatch):
    router = by_dispersion()
    whole = attempt_online(make_run("whole"), router)
    write, written = store.write_shard, []

    def dies(*args, **given):
        written.append(0)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(*args, **given)

    monkeypatch.setattr(store, "write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        attempt_online(make_run("killed"), router)
    killed = attempt_online(make_run("killed"), router)
    assert len(written) == 4  # of three blocks, one was made twice
    for path in sorted(whole.iterdir()):
        assert path.read_bytes() == (killed / path.name).read_bytes()
    with pytest.raises(UserError, match="config.threshold"):
        attempt_online(make_run("killed"), by_dispersion(9.0))


def test_without_a_verifier_no_grade_decides(make_run):
    run = make_run(verifier=False)
    summary = route_online(run, by_dispersion(middle(make_run)))
    groups = by_problem(run.workdir / "online" / "split")
    assert {len(group) for group in groups.values()} == {AFTER + MORE}
    assert sum(summary["routes"].values()) == len(groups)
    assert "right by vote within a cost" in " ".join(render("online", summary).split())


def test_a_share_of_the_problems_gets_a_drawn_operator_whose_chance_is_logged(
    make_run,
):
    router = fixed_router("hot")
    run = make_run("drawn", verifier=False, explore=0.75)
    found = route_online(run, router)
    rows = {}
    columns = ["problem", "operator", *LOGGED]
    for row in store.read_table(
        run.workdir / "online" / "fixed_hot", columns
    ).to_pylist():
        rows.setdefault(row["problem"], []).append(row)
    taken = {}
    for problem, group in rows.items():
        assert len({tuple(row[name] for name in LOGGED) for row in group}) == 1
        first, own = group[0], group[AFTER]["operator"]
        assert first[CHOSEN] == "hot" and first[TAKEN] == own
        # A quarter of the problems are the router's; the others have three operators.
        assert first[CHANCE] == pytest.approx(0.25 * (own == "hot") + 0.25)
        taken[problem] = own
    assert len(set(taken.values())) > 1
    # What is drawn follows from the problem alone.
    other = make_run("other", slice(5, 0, -2), False, 0.75)
    for problem, group in by_problem(attempt_online(other, router)).items():
        assert group[AFTER].operator == taken[problem]
    names = [row["choice"] for row in found["logged"]["values"]]
    assert names[0] == "router" and "hot" in names
    assert "known chances" in render("online", found)
    plain = route_online(make_run("plain", verifier=False), router)
    assert plain["logged"] is None


def test_the_table_of_a_policy_that_is_its_own_reference(make_run):
    summary = route_online(make_run(), fixed_router("retry"))
    assert summary["schema"] == 2 and summary["problems"] == 7
    assert not [row for row in summary["curves"] if "reference" in row]
    assert "retry" in render("online", summary)


def test_a_policy_is_held_against_another(make_run):
    hot, restart = fixed_router("hot"), fixed_router("prefix_restart")
    run = make_run()
    summary = route_online(run, hot, restart)
    check_files(run.workdir, {"online.json"})
    assert summary["reference"] == restart.name and summary["router"] == hot.name
    compared = {
        (row["policy"], row["reference"])
        for row in summary["curves"]
        if "reference" in row
    }
    assert compared == {(hot.name, restart.name)}
    assert restart.name in render("online", summary)


def test_a_router_may_stop(make_run):
    columns, stop = ("logit_dispersion",), lambda given: np.ones(len(given), int)
    never = Router("never", ("retry",), columns, frozenset(columns), stop, {})
    groups = by_problem(attempt_online(make_run(), never))
    assert max(map(len, groups.values())) == AFTER


@pytest.mark.parametrize(
    "column, probed", [("entropy_mean", False), ("confidence_last", True)]
)
def test_probes_are_made_for_a_router_that_reads_them(
    make_run, monkeypatch, column, probed
):
    asked = []  # an untrained model has no answers that could be probed
    monkeypatch.setattr(
        "fr.pipeline.online.build_probe", lambda *given: asked.append(given)
    )
    run = make_run()
    sampling = dataclasses.replace(run.config.sampling, probe_cuts=3)
    run = dataclasses.replace(
        run, config=dataclasses.replace(run.config, sampling=sampling)
    )
    columns, first = (
        ("confidence_last", "entropy_mean"),
        lambda given: np.zeros(len(given), int),
    )
    attempt_online(
        run, Router(column, ("retry",), columns, frozenset({column}), first, {})
    )
    assert bool(asked) == probed


def test_an_order_is_followed_attempt_by_attempt(make_run):
    orders = {"hot": ["hot", "prefix_restart"]}
    router = dataclasses.replace(
        fixed_router("hot"), name="order", orders=orders, record={"orders": orders}
    )
    for group in by_problem(attempt_online(make_run(verifier=False), router)).values():
        assert [a.operator for a in group] == [ROLLOUT] * AFTER + [
            "hot",
            "prefix_restart",
            "retry",
        ]
        # Operators share keys: no index is used twice along a course.
        assert [a.attempt for a in group] == [*range(AFTER), 0, 1, 2]


def test_the_ancestor_is_beside_whoever_reads_it():
    routed = lambda operator, *reads: Router(
        "r", (operator,), reads, frozenset(reads), None, {}
    )
    assert reads_ancestor(routed("retry", "demotion_mean")) and reads_ancestor(
        routed("retry", "spread")
    )
    assert reads_ancestor(routed("dense_sampled"))
    assert not reads_ancestor(
        routed("retry", "entropy_mean", "confidence_last", "logit_dispersion")
    )


def test_a_curve_by_hand():
    well = lambda at: lambda n: n >= at
    a = [(np.array([10.0, 10, 10]), well(2)), (np.array([10.0, 10, 10]), well(9))]
    b = [(np.array([20.0, 20]), well(1)), (np.array([20.0, 20]), well(2))]
    complete = {"a": np.array([True, False]), "b": np.array([True, True])}
    weights = resample_weights(2, 20, np.random.default_rng(0)) / 2
    curve = lambda declared=0.0: spent_curves(
        {"a": a, "b": b}, "b", complete, weights, declared
    )
    value = lambda rows, **where: [
        row["interval"]["value"] for row in rows_of(rows, **where)
    ]
    rows = curve()
    own = rows_of(rows, policy="b")
    # From b's first attempt to where a has spent all on its second problem.
    assert [own[0]["budget"], own[-1]["budget"]] == pytest.approx([20, 30])
    assert (
        value(rows, policy="a", reference=None)[0] == value(rows, policy="b")[0] == 50.0
    )
    assert value(rows, policy="a", reference="b")[0] == 0.0
    assert not rows_of(rows, declared=True)
    told = curve(25.0)
    assert {row["budget"] for row in rows_of(told, declared=True)} == {25.0}
    assert len(rows_of(told, policy="b")) == len(own) + 1
    assert not rows_of(curve(500.0), declared=True)
    complete["a"][:] = True  # it would make no more
    rows = curve()
    assert rows_of(rows, policy="b")[-1]["budget"] == pytest.approx(40)
    assert value(rows, policy="a", reference="b")[-1] == -50.0


def profiles(cell="m|countdown") -> Profiles:
    draw = np.random.default_rng(0)
    problems = tuple(map(str, range(20)))
    return Profiles(
        cell,
        problems,
        np.full(20, 3),
        draw.normal(size=(20, 3)),
        ("retry",),
        np.zeros((20, 1)),
    )


def test_the_rule_live_is_the_rule_on_a_table():
    operators, known = (
        ("retry", "sparse_steer", "dense_steer", "local_temp"),
        profiles(),
    )
    router = load_router("rule", operators, "x", FEATURES, known, "")
    routes = make_rule(operators, ZStatistics.fit(known.features))(known.features)
    for values, route in zip(known.features, routes):
        assert router.choose(dict(zip(FEATURES, values))) == operators[route]
    # Live failures without an ancestor have one feature, and the rule one line.
    alone = load_router("rule", operators, "x", FEATURES[2:], known, "")
    assert {alone.choose({"logit_dispersion": x}) for x in (-9.0, 9.0)} == {
        "retry",
        "local_temp",
    }
    assert (
        load_router("fixed:retry", operators, "x", FEATURES, None, "").choose({})
        == "retry"
    )


def test_a_learned_router_live(monkeypatch):
    @dataclasses.dataclass
    class Learned:
        operators: tuple = ("retry", "hot")
        columns: tuple = FEATURES[2:]
        params: dict = dataclasses.field(
            default_factory=lambda: {"a": {"b": np.ones(3)}}
        )
        statistics: dict = dataclasses.field(
            default_factory=lambda: {"known": {"logit_dispersion": (0.0, 1.0)}}
        )

        @property
        def reads(self):
            return self.columns

        def chooser(self, cell, statistics):
            mean, sd = (statistics or self.statistics[cell])["logit_dispersion"]
            return lambda given: ((given[:, 0] - mean) / sd > 1).astype(int)

    monkeypatch.setattr(routers.LearnedRouter, "restore", lambda folder: Learned())
    known = profiles()
    live = lambda cell: load_router(
        "learned", ("hot", "retry"), cell, FEATURES, known, ""
    )
    x = {
        "logit_dispersion": known.features[:, 2].mean()
        + 1.5 * known.features[:, 2].std()
    }
    assert (
        live("other").choose(x) == "hot"
        and live("other").choose({"logit_dispersion": -5.0}) == "retry"
    )
    assert live("known").choose({"logit_dispersion": 0.5}) == "retry"
    assert live("known").record != live("other").record
    with pytest.raises(UserError, match="may choose hot"):
        load_router("learned", ("retry",), "known", FEATURES, None, "f")


@pytest.mark.parametrize("policy, said", [
    ("rul", "did you mean 'rule'"),
    ("fixed:htt", "is not among those that can run"),
    ("rule", "--calibration"),
])  # fmt: skip
def test_a_policy_that_cannot_be_is_refused(policy, said):
    with pytest.raises(UserError, match=said):
        load_router(policy, ("retry", "hot"), "x", FEATURES, None, "")


def test_the_vote():
    draw = np.random.default_rng(0)
    assert plurality(["a", None, "b", "b"], draw) == 2
    assert plurality([None, None], draw) is None and plurality([], draw) is None
    assert {plurality(["b", "a", "a", "b"], draw) for _ in range(20)} == {0, 1}


def test_votes_that_confidence_weights_and_the_surest_attempt():
    draw = np.random.default_rng(0)
    answers, sure = ["a", "b", "a", None, "c"], [1.0, 2.5, 1.0, 9.0, 2.0]
    assert plurality(answers, draw) == 0 and weighted(answers, sure, draw) == 1
    assert weighted(answers, [1.0] * 5, draw) == 0  # equal weights: the plain vote
    assert (
        surest(answers, sure, draw) == 1
        and surest(answers, [3.0, *sure[1:]], draw) == 0
    )
    assert surest([None], [1.0], draw) is None and weighted([], [], draw) is None
    assert {surest(["b", "a"], [1.0, 1.0], draw) for _ in range(20)} == {0, 1}
