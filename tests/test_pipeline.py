"""Stages of a run on a tiny random lineage: what they leave, what they charge, and what
an interruption changes.
"""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from interval_records import check_files, other_spellings

from benchmarks.retrofit import retrofit
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
from fr.interventions import OPERATORS
from fr.models import ModelConfig, save
from fr.models.transformer import init_params
from fr.pipeline.diagnose import diagnose
from fr.pipeline.intervene import intervene
from fr.pipeline.route import route
from fr.pipeline.sample import sample
from fr.profiles import WEIGHT, read_profiles
from fr.runs.run import open_run
from fr.sampling.engine import Engine
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer

ATTEMPTS = 4
# that read no ancestor
PLAIN = ("retry", "calculator", "repair", "prefix_restart", "wait", "tip", "hot")


def _save(folder, seed: int):
    config = ModelConfig(
        vocab=VOCABULARY, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, ff=64
    )
    save(
        folder, config, init_params(config, jax.random.key(seed)), countdown_tokenizer()
    )
    return str(folder)


@pytest.fixture(scope="module")
def lineage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage")
    return _save(folder / "child", 1), _save(folder / "parent", 2)


def _config(specialist: str, ancestor: str) -> Config:
    return Config(
        specialist=specialist,
        ancestor=ancestor,
        task=TaskConfig(problems=6),
        diagnosis=DiagnosisConfig(failures=(1, 2)),
        sampling=SamplingConfig(
            rollouts=3, slots=8, chunk=8, max_new_tokens=24, shard_rows=9, prefill=4
        ),
        intervention=InterventionConfig(
            (*InterventionConfig().operators, *PLAIN[1:]), ATTEMPTS
        ),
        routing=RoutingConfig(
            bootstrap=50, splits=10, permutations=10, nulls=19, splittings=1
        ),
    )


def _stages(config: Config, workdir) -> dict:
    run = open_run(config, workdir)
    summaries = {
        "rollouts": sample(run),
        "failures": diagnose(run),
        "attempts": intervene(run),
    }
    return {**summaries, "routing": route([workdir / "profiles.csv"], config, workdir)}


@pytest.fixture(scope="module")
def done(lineage, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "work"
    config = _config(*lineage)
    return config, workdir, _stages(config, workdir)


def test_intervals_have_one_spelling(done):
    _, workdir, summaries = done
    check_files(workdir, {"routing.json"})
    stages = {name: summaries[name] for name in ("rollouts", "failures", "attempts")}
    assert list(other_spellings(stages)) == []


def test_every_failure_meets_every_operator(done):
    config, workdir, summaries = done
    attempts = store.read(workdir / "attempts")
    failed = {a.problem for a in store.read(workdir / "scores")}
    assert summaries["failures"]["failed_problems"] == len(failed) > 0
    for name in config.intervention.operators:
        own = [a for a in attempts if a.operator == name]
        expected = 1 if OPERATORS[name].deterministic else ATTEMPTS
        assert {p: sum(a.problem == p for a in own) for p in failed} == dict.fromkeys(
            failed, expected
        )
    (profiles,) = read_profiles(workdir / "profiles.csv")
    assert set(profiles.operators) == set(config.intervention.operators) and len(
        profiles
    ) == len(failed)


def test_a_table_of_first_failures_knows_nothing_of_the_later_ones(done):
    config, workdir, _ = done
    (whole,), scores = (
        read_profiles(workdir / "profiles.csv"),
        store.read(workdir / "scores"),
    )
    failed = {p: [a for a in scores if a.problem == p] for p in whole.problems}
    assert max(map(len, failed.values())) > 2  # else there is nothing to leave out
    for first in config.diagnosis.failures:
        (table,) = read_profiles(workdir / f"profiles-{first}.csv")
        assert table.problems == tuple(
            p for p in whole.problems if len(failed[p]) >= first
        )
        assert set(table.n_failed) == {first} and set(
            table.numbers("failed_share")
        ) == {1.0}
        rows = [whole.problems.index(p) for p in table.problems]
        np.testing.assert_array_equal(table.rates, whole.rates[rows])
        seen = [failed[p][:first] for p in table.problems]
        lengths = [np.mean([len(a.tokens) for a in group]) for group in seen]
        np.testing.assert_allclose(table.numbers("mean_length"), lengths, rtol=1e-5)
        features = [
            problem_features([Trace(a.stats, ~a.forced) for a in g], config.diagnosis)
            for g in seen
        ]
        np.testing.assert_allclose(
            table.features[:, 0], [f["spread"] for f in features], rtol=1e-5
        )
        # Everybody has made these failures; reading them again, under two models, costs
        # extra.
        read = [sum(a.cost.scored + a.cost.ancestor for a in group) for group in seen]
        np.testing.assert_allclose(table.numbers("diagnosis_cost"), read, rtol=1e-5)
        assert not table.numbers("failures_cost").any()
    made = {p: 0 for p in whole.problems}
    for a in store.read(workdir / "rollouts"):
        if a.problem in made:
            made[a.problem] += a.cost.prefill + a.cost.generated
    np.testing.assert_allclose(
        whole.numbers("failures_cost"), list(made.values()), rtol=1e-5
    )


def test_the_attempts_behind_a_table_can_be_found_again_from_the_store(done, tmp_path):
    config, workdir, _ = done
    assert retrofit(workdir, tmp_path) == [
        "profiles-1.csv",
        "profiles-2.csv",
        "profiles.csv",
    ]
    for name in ("profiles-1.csv", "profiles-2.csv", "profiles.csv"):
        (made,), (again,) = (
            read_profiles(workdir / name),
            read_profiles(tmp_path / name),
        )
        assert made.deterministic == again.deterministic == ("dense_steer",)
        assert np.array_equal(made.recorded.right, again.recorded.right)
        for axis in ("forward", "generated"):
            costs = made.recorded.costs[axis][made.recorded.made]
            assert again.recorded.costs[axis][made.recorded.made] == pytest.approx(
                costs, rel=1e-4
            )
        assert made.extras.get(WEIGHT) == again.extras.get(WEIGHT)
        assert made.extras["question_bag_3"] == again.extras["question_bag_3"]
    with pytest.raises(UserError, match="holds no run"):
        retrofit(tmp_path, tmp_path / "x")


def test_a_specialist_is_called_by_its_training(lineage, tmp_path):
    made = tmp_path / "made"
    shutil.copytree(lineage[0], made / "specialist")
    (made / "config.json").write_text(json.dumps({"algorithm": "grpo", "seed": 2}))
    config = _config(str(made / "specialist"), lineage[1])
    assert open_run(config, tmp_path / "work").names == ("grpo-2", "parent")
    (made / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert open_run(config, tmp_path / "other").names == ("specialist", "parent")


def test_retry_does_not_pay_for_the_ancestor(done):
    attempts = store.read(done[1] / "attempts")
    assert {a.operator for a in attempts if not a.ancestor} == set(PLAIN)
    assert all(bool(a.cost.ancestor) == bool(a.ancestor) for a in attempts)


def test_cost_counts_positions(done):
    for a in store.read(done[1] / "attempts"):
        assert a.cost.prefill == len(a.prompt)
        assert (
            a.cost.generated + a.cost.forced == len(a.tokens)
            and a.cost.forced == a.forced.sum()
        )
    for a in store.read(done[1] / "scores"):
        assert a.cost.scored == a.cost.ancestor == len(a.prompt) + len(a.tokens)


def test_what_is_kept_of_a_failure_is_read_and_not_drawn(done):
    """The prompt of an attempt that goes on from a trace is the problem's own and the
    beginning of that trace.
    """
    failed = {}
    for a in store.read(done[1] / "scores"):
        failed.setdefault(a.problem, []).append(a)
    kept = 0
    for a in (
        a for a in store.read(done[1] / "attempts") if a.operator == "prefix_restart"
    ):
        trace = failed[a.problem][a.attempt % len(failed[a.problem])]
        own, more = len(trace.prompt), len(a.prompt) - len(trace.prompt)
        np.testing.assert_array_equal(a.prompt[:own], trace.prompt)
        np.testing.assert_array_equal(a.prompt[own:], trace.tokens[:more])
        kept += more
    assert kept > 0


def test_attempts_differ_and_repeat(done, tmp_path):
    config, workdir, _ = done
    retries = [a for a in store.read(workdir / "attempts") if a.operator == "retry"]
    assert len({tuple(a.tokens) for a in retries}) > len(retries) / 2
    sample(open_run(config, tmp_path / "again"))
    again, first = (
        (w / "rollouts" / "shard-000000.parquet").read_bytes()
        for w in (tmp_path / "again", workdir)
    )
    assert again == first


def test_scores_are_those_of_the_loop(done):
    """The specialist's half of the scores was computed while sampling, too."""
    sampled = {a.row: a for a in store.read(done[1] / "rollouts")}
    for scored in store.read(done[1] / "scores"):
        for name in store.TOKEN_STATS:
            np.testing.assert_allclose(
                scored.stats[name],
                sampled[scored.row].stats[name],
                atol=1e-4,
                err_msg=name,
            )


def test_a_detector_may_be_calibrated_in_the_loop_that_uses_it(lineage, done, tmp_path):
    config = _config(*lineage)
    with pytest.raises(UserError, match="'loop'|\"loop\""):
        shutil.copytree(done[1] / "rollouts", tmp_path / "plain" / "rollouts")
        loop = dataclasses.replace(
            config, diagnosis=dataclasses.replace(config.diagnosis, statistics="loop")
        )
        diagnose(open_run(loop, tmp_path / "plain"))
    run = open_run(loop, tmp_path / "work")
    sample(run)
    diagnose(run)
    sampled = {a.row: a for a in store.read(tmp_path / "work" / "rollouts")}
    scores, theirs = (
        store.read(tmp_path / "work" / "scores"),
        store.read(done[1] / "scores"),
    )
    assert len(scores) == len(theirs) > 0
    for mine, scored in zip(scores, theirs):
        # To the bit what the loop saw, and in float32 what the scorer sees of the same
        # tokens.
        for name in ("demotion", "logit_var", "logp"):
            np.testing.assert_array_equal(
                mine.stats[name], sampled[mine.row].stats[name]
            )
            np.testing.assert_allclose(mine.stats[name], scored.stats[name], atol=1e-3)
        assert mine.cost.scored == 0 and mine.tokens.tolist() == scored.tokens.tolist()


def test_interrupted_is_uninterrupted(done, tmp_path, monkeypatch):
    config, workdir, _ = done
    decode, calls = Engine.sample, []

    def dies(self, *args, **kwargs):
        calls.append(0)
        if len(calls) in (2, 7):  # the second shard of rollouts, then one of attempts
            raise KeyboardInterrupt
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "sample", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _stages(config, tmp_path)
    _stages(config, tmp_path)
    for folder in ("rollouts", "scores", "attempts"):
        names = sorted(p.name for p in (workdir / folder).iterdir())
        assert names == sorted(p.name for p in (tmp_path / folder).iterdir())
        assert all(
            (workdir / folder / n).read_bytes() == (tmp_path / folder / n).read_bytes()
            for n in names
        )
    for name in ("profiles.csv", "routing.json"):
        assert (workdir / name).read_bytes() == (tmp_path / name).read_bytes()


def test_without_an_ancestor(lineage, tmp_path):
    config = dataclasses.replace(_config(*lineage), ancestor="")
    summaries = _stages(config, tmp_path)
    assert set(summaries["attempts"]["operators"]) == {"local_temp", *PLAIN}
    assert summaries["attempts"]["left_out"]["dense_steer"] == "needs an ancestor"
    (profiles,) = read_profiles(tmp_path / "profiles.csv")
    assert (
        np.isnan(profiles.features[:, :2]).all()
        and np.isfinite(profiles.features[:, 2]).all()
    )


def test_another_vocabulary_is_refused(lineage, tmp_path):
    tokenizer = countdown_tokenizer()
    folder = tmp_path / "stranger"
    _save(folder, 3)
    text = (folder / "tokenizer.json").read_text()
    first, second = (tokenizer.convert_ids_to_tokens(i) for i in (20, 21))
    swapped = text.replace(f'"{first}": 20', f'"{second}": 20').replace(
        f'"{second}": 21', f'"{first}": 21'
    )
    assert swapped != text
    (folder / "tokenizer.json").write_text(swapped)
    with pytest.raises(UserError, match="must share the vocabulary"):
        open_run(_config(lineage[0], str(folder)), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_another_config_is_refused(done):
    config, workdir, _ = done
    with pytest.raises(UserError, match="config.seed"):
        open_run(dataclasses.replace(config, seed=1), workdir)
