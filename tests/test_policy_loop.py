"""The loop of policy optimisation on a tiny random model: what it leaves, what it
repeats, and where it stops.
"""

import dataclasses
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from absl import logging

from fr import store
from fr.boards import TensorBoard, choose_project, open_boards
from fr.config import (
    Config,
    LoraConfig,
    PolicyConfig,
    RewardsConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import ModelConfig, load, save
from fr.models.transformer import Transformer, init_params
from fr.rewards import RewardMix
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.training.checkpoints import Checkpoints
from fr.training.checks import check_terms
from fr.training.dry_run import dry_run
from fr.training.learner import Learner
from fr.training.lineage import train_lineage
from fr.training.policy_update import PolicyUpdater
from fr.training.rl_records import ROLLOUTS, alarms, entropy_fit
from fr.training.rollouts import Sampler
from fr.training.update import TrainState

ROOT = pathlib.Path(__file__).parents[1]
SHAPE = ModelConfig(
    vocab=VOCABULARY, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, ff=64
)
COMPARED = ("metrics.jsonl", "model.safetensors", "config.json", "tokenizer.json")


def settings(ancestor: str) -> Config:
    """Four steps of 4 x 4 rollouts. Correctness teaches a random model nothing; how
    sure it is does.
    """
    return Config(
        algorithm="grpo",
        ancestor=ancestor,
        task=TaskConfig(name="countdown"),
        sampling=SamplingConfig(slots=8, chunk=8, prefill=4),
        rewards=RewardsConfig(
            terms=(
                ("correctness", 1.0),
                ("self_certainty", 1.0),
                ("pcs", 0.0),
                ("thought_switch", 0.0),
            ),
            cuts=3,
        ),
        policy=PolicyConfig(
            steps=4,
            prompts=4,
            rollouts=4,
            max_new_tokens=24,
            length_buckets=2,
            minibatches=2,
            kl=0.01,
            learning_rate=1e-3,
            eval_every=2,
            eval_problems=3,
            eval_rollouts=4,
            checkpoint_every=1,
        ),
    )


def change(config: Config, **policy) -> Config:
    """The same config with other settings of the policy."""
    return dataclasses.replace(
        config, policy=dataclasses.replace(config.policy, **policy)
    )


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ancestor") / "random"
    save(folder, SHAPE, init_params(SHAPE, jax.random.key(3)), countdown_tokenizer())
    return str(folder)


@pytest.fixture(scope="module")
def trained(ancestor, tmp_path_factory):
    config, workdir = settings(ancestor), tmp_path_factory.mktemp("run") / "work"
    train_lineage(config, workdir)
    return config, workdir / "specialist"


def lines(folder: pathlib.Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


# ---------------------------------------------------------------- what a run leaves


def test_a_line_says_all_of_a_step(trained):
    config, folder = trained
    first, *steps = lines(folder)
    assert first.keys() == {"step"} | {
        f"held_out/{name}" for name in ("accuracy", "pass@2", "pass@4", "truncated")
    }
    wanted = {
        "loss",
        "entropy",
        "kl",
        "clip_share",
        "grad_norm",
        "logp_gap",
        "reward",
        "reward/correctness",
        "reward/self_certainty",
        "reward/pcs",
        "groups/flat",
        "groups/confidence_only",
        "accuracy",
        "solved",
        "length",
        "truncated",
        "repetition",
        "step_errors",
        "premature",
        "prompt_tokens",
        "rollout_tokens",
        "probe_tokens",
    }
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all(wanted <= line.keys() for line in steps)
    assert [line["step"] for line in steps if "held_out/accuracy" in line] == [2, 4]
    assert {"fit/a", "fit/b"} <= steps[-1].keys()
    # The task says which words leave a thought.
    assert min(line["reward/thought_switch"] for line in steps) < 0
    assert not any(
        "seconds" in name or "mib" in name for line in steps for name in line
    )
    assert {"seconds", "peak_mib", "buffers_mib", "rollouts", "update"} <= lines(
        folder, "timings.jsonl"
    )[-1].keys()


def test_a_log_prob_of_the_loop_is_that_of_the_update(trained):
    for line in lines(trained[1])[1:]:
        assert line["logp_gap"] < 1e-4 and line["logp_gap_wide"] == 0
        assert line["rollout_tokens"] == 16 * line["length"]
        # A prompt has six tokens; both minibatches together read every row once.
        assert line["update_tokens"] == line["rollout_tokens"] + 16 * 6


def test_a_closed_gate_leaves_rows_without_a_gradient(ancestor, tmp_path):
    """Every rollout of a random model fails."""
    config = change(
        settings(ancestor), steps=1, eval_every=0, minibatches=1, kl=0.0, gate="none"
    )
    train_lineage(config, tmp_path)
    (line,) = lines(tmp_path / "specialist")
    assert line["accuracy"] == 0 and line["reward/self_certainty"] != 0
    assert line["gated"] == 1 and line["grad_norm"] == 0
    told = [value for name, value in line.items() if name.startswith("regime/")]
    assert len(told) == 4 and sum(told) == pytest.approx(1)
    rows = pandas.read_parquet(tmp_path / "specialist" / ROLLOUTS)
    assert not any(np.any(row) for row in rows["advantage"])
    # Held back is not cut out: the rows still count in every mean.
    assert all(np.all(row) for row in rows["learnt"])


def test_what_is_learnt_is_what_is_exported_and_sampled(trained):
    config, folder = trained
    steps = lines(folder)[1:]
    # How sure the model is grows, and the model is another one.
    assert steps[-1]["reward/self_certainty"] > steps[0]["reward/self_certainty"]
    assert 0 < steps[0]["kl"] < steps[-1]["kl"]
    before, after = load(config.ancestor), load(folder)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), before.params, after.params
    )
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_nothing_is_compiled_behind_the_first_steps(ancestor, tmp_path, compilations):
    # These problems: those with more right answers than any before them have a probe of
    # another shape.
    config = change(settings(ancestor), steps=6, eval_every=0, order="drawn")
    seen, advance = [], Learner.advance

    def counted(self, *args):
        seen.append(len(compilations()))
        return advance(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "advance", counted)
        train_lineage(config, tmp_path)
    assert seen[0] < seen[2] and seen[3:] == [seen[3]] * 3


# ------------------------------------------------------ log-probs, weights, references


def test_gspo_in_bfloat16_clips_nothing_at_equal_parameters(ancestor, tmp_path):
    """Both minibatches of both steps: no update moves the parameters, and the sampler
    computes in float32.
    """
    config = dataclasses.replace(settings(ancestor), algorithm="gspo", seed=1)
    config = change(
        config, steps=2, eval_every=0, learning_rate=1e-12, dtype="bfloat16", kl=0.0
    )
    train_lineage(config, tmp_path / "trainer")
    for line in lines(tmp_path / "trainer" / "specialist"):
        assert line["clip_share"] == 0 and abs(line["ratio_max"] - 1) < 1e-4
        assert (
            1e-4
            < line["logp_gap_mean"]
            <= line["logp_gap_p99"]
            <= 1.2 * line["logp_gap"]
        )


@pytest.mark.slow
def test_strict_sums_leave_no_gap_between_sampler_and_trainer(ancestor, tmp_path):
    config = change(settings(ancestor), steps=2, eval_every=0, minibatches=1)
    sampling = dataclasses.replace(config.sampling, strict=True)
    train_lineage(dataclasses.replace(config, sampling=sampling), tmp_path)
    for line in lines(tmp_path / "specialist"):
        assert line["logp_gap"] == line["logp_gap_mean"] == line["moved"] == 0
        assert line["ratio_max"] == 1 and line["grad_norm"] > 0


def test_weights_older_rollouts_refreshed_references_and_other_optimisers(
    ancestor, tmp_path, monkeypatch
):
    config = change(
        settings(ancestor),
        steps=3,
        eval_every=0,
        lag=1,
        importance="token",
        ratio_from="trainer",
        kl=0.1,
        reference_every=2,
        reference_mix=0.5,
        entropy=0.01,
        entropy_target=9.0,
        entropy_step=0.01,
        stop_kl=1e-9,
        mask_truncated=True,
        optimizer="lion",
        moments="bfloat16",
        learning_rate=1e-4,
        mean="token",
        center_terms="group",
        rollouts_every=2,
    )
    terms = (("correctness", 1.0), ("self_certainty", 1.0), ("pcs", 0.5))
    config = dataclasses.replace(
        config, rewards=dataclasses.replace(config.rewards, terms=terms)
    )
    seen, learn = [], PolicyUpdater.learn

    def watched(self, state, rows, step):
        seen.append((jax.device_get(state.extra), jax.device_get(state.params), rows))
        return learn(self, state, rows, step)

    monkeypatch.setattr(PolicyUpdater, "learn", watched)
    train_lineage(config, tmp_path)
    found = lines(tmp_path / "specialist")
    assert [path.name for path in (tmp_path / "specialist" / ROLLOUTS).iterdir()] == [
        "shard-000002.parquet"
    ]
    assert [line["entropy_weight"] for line in found] == pytest.approx(
        [0.02, 0.03, 0.04]
    )
    # Step 2 draws with what step 1 drew with, step 3 with what step 1 made.
    assert found[0]["logp_gap"] < 1e-4 < min(line["logp_gap"] for line in found[1:])
    assert all(0.5 < line["importance"] < 2 for line in found)
    # The second update of a step is the first whose ratio may differ from 1, and ends
    # it.
    assert all(line["updates"] == 2 for line in found)
    same = lambda a, b: jax.tree.all(
        jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)
    )
    (first, start, rows), (second, after, _), (third, last, _) = seen
    assert (
        same(first["older"], start)
        and same(second["older"], start)
        and same(third["older"], after)
    )
    assert same(second["reference"], start)
    half = jax.tree.map(lambda a, b: np.abs(a + 0.5 * (b - a)), start, last)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.abs(a), b, atol=1e-6),
        third["reference"],
        half,
    )
    whole = (rows.tokens >= 0).sum(axis=1) - rows.start == config.policy.max_new_tokens
    learnt = rows.mask.any(axis=1)
    assert learnt[~whole].all() and not learnt[whole].all()


def test_terms_that_would_pay_for_length_are_refused(ancestor, tmp_path):
    config = settings(ancestor)
    config = dataclasses.replace(
        config, rewards=dataclasses.replace(config.rewards, terms=(("pcs", 1.0),))
    )
    with pytest.raises(
        UserError,
        match="'pcs' is added to advantages uncentred.*center_terms = 'group'",
    ):
        train_lineage(config, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    for told in (
        {"center_terms": "none"},
        {"center_terms": "group"},
        {"mean": "token"},
    ):
        check_terms(change(config, **told), RewardMix(config.rewards))


def test_rollouts_are_kept_with_what_they_earned(trained):
    config, folder = trained
    attempts = store.read(folder / ROLLOUTS)
    table, codec = pandas.read_parquet(folder / ROLLOUTS), load(folder)
    assert (
        len(attempts) == len(table) == 64
        and table.step.tolist() == np.repeat([1, 2, 3, 4], 16).tolist()
    )
    for (_, row), a in zip(table.iterrows(), attempts):
        assert len(row.advantage) == len(row.learnt) == len(row.tokens) == len(a.tokens)
        assert row.learnt.tolist() == (~a.forced).tolist()
        assert row.term_correctness == (a.grade == "right") and np.isfinite(
            row.term_self_certainty
        )
        assert a.question and a.text == codec.decode(
            a.tokens if a.truncated else a.tokens[:-1]
        )
    # The algorithm's advantages, of rewards that are the mix.
    rewards = table.reward.to_numpy().reshape(-1, 4)
    wanted = (rewards - rewards.mean(axis=1, keepdims=True)) / rewards.std(
        axis=1, ddof=1, keepdims=True
    )
    np.testing.assert_allclose(
        [row[0] for row in table.advantage], wanted.reshape(-1), rtol=1e-3, atol=1e-3
    )
    for step, line in enumerate(lines(folder)[1:], 1):
        assert table[table.step == step].reward.mean() == pytest.approx(
            line["reward"], rel=1e-5
        )
    # Permuted: no problem comes a second time before every one has come.
    assert len({a.problem for a in attempts}) == 16


# ------------------------------------------------------------------- what repeats


def test_interrupted_is_uninterrupted(trained, tmp_path, monkeypatch):
    config, whole = trained
    advance, calls = Learner.advance, []

    def dies(self, index, *args):
        calls.append(index)
        if calls in ([0], [0, 0, 1, 2, 3]):
            raise KeyboardInterrupt
        return advance(self, index, *args)

    monkeypatch.setattr(Learner, "advance", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_lineage(config, tmp_path)
    train_lineage(config, tmp_path)
    assert calls == [0, 0, 1, 2, 3, 3]
    for name in COMPARED:
        assert (tmp_path / "specialist" / name).read_bytes() == (
            whole / name
        ).read_bytes(), name


def start(config: Config, workdir: pathlib.Path) -> subprocess.Popen:
    """The same run by the script, in a process of its own."""
    path = workdir.with_suffix(".py")
    plain = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    text = ["from fr.config import default", "def get_config():", "    c = default()"]
    for name, value in plain.items():
        if dataclasses.is_dataclass(value):
            text += [
                f"    c.{name}.{k} = {v!r}"
                for k, v in dataclasses.asdict(value).items()
            ]
        else:
            text.append(f"    c.{name} = {value!r}")
    path.write_text("\n".join([*text, "    return c"]))
    command = [
        sys.executable,
        "scripts/train.py",
        f"--config={path}",
        f"--workdir={workdir}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(workdir.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_and_resumed_equals_uninterrupted(trained, tmp_path):
    config, whole = trained
    process, log = (
        start(config, tmp_path / "killed"),
        tmp_path / "killed" / "specialist" / "metrics.jsonl",
    )
    # With the line of a step its checkpoint is begun: the kill finds it in writing.
    while process.poll() is None and not (
        log.exists() and len(log.read_text().split("\n")) > 3
    ):
        time.sleep(0.005)
    assert process.poll() is None, (tmp_path / "killed.log").read_text()[-2000:]
    kill(process)
    train_lineage(config, tmp_path / "killed")
    for name in COMPARED:
        assert (log.parent / name).read_bytes() == (whole / name).read_bytes(), name
    # Steps that were made again have written the same rollouts.
    shards = sorted((whole / ROLLOUTS).iterdir())
    assert [path.name for path in shards] == [
        f"shard-{step:06d}.parquet" for step in (1, 2, 3, 4)
    ]
    for path in shards:
        assert (log.parent / ROLLOUTS / path.name).read_bytes() == path.read_bytes(), (
            path.name
        )


@pytest.mark.slow
def test_five_kills_at_random(ancestor, tmp_path):
    config = change(settings(ancestor), steps=60)
    began = time.monotonic()
    assert start(config, tmp_path / "whole").wait() == 0
    took, generator = time.monotonic() - began, random.Random(0)
    for _ in range(5):
        process = start(config, tmp_path / "killed")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(0.3 * took, 0.6 * took))
        kill(process)
    assert start(config, tmp_path / "killed").wait() == 0
    for name in COMPARED:
        one, other = (
            tmp_path / run / "specialist" / name for run in ("whole", "killed")
        )
        assert one.read_bytes() == other.read_bytes(), name


def test_an_error_is_not_buried_by_a_save_that_fails_with_it(tmp_path, monkeypatch):
    def fails():
        logging.error("orbax says at length what went wrong")
        raise RuntimeError("the save")

    said = []
    monkeypatch.setattr(
        logging.get_absl_handler(),
        "emit",
        lambda record: said.append(record.getMessage()),
    )
    with pytest.raises(ValueError, match="the step"):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            monkeypatch.setattr(checkpoints, "close", fails)
            raise ValueError("the step")
    assert not said
    with pytest.raises(RuntimeError, match="the save"):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            monkeypatch.setattr(checkpoints, "close", fails)


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path):
    state = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.zeros(3)}, ())
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step, score in ((1, 0.2), (2, 0.7), (3, None), (4, 0.3), (5, None)):
        checkpoints.save(
            step,
            state.replace(step=jnp.int32(step), params={"w": jnp.full(3, float(step))}),
            score,
        )
    checkpoints.close()
    assert {path.name for path in tmp_path.glob("[0-9]*")} == {"2", "5"}
    again = Checkpoints(tmp_path, keep=1)
    assert again.latest == 5 and again.restore(state).params["w"].tolist() == [5.0] * 3
    again.save(6, state, 0.1)
    again.close()
    assert {path.name for path in tmp_path.glob("[0-9]*")} == {"2", "6"}
    other = Checkpoints(tmp_path, keep=1)
    with pytest.raises(UserError, match="6 is not a checkpoint of this model"):
        other.restore(state.replace(params={"w": jnp.zeros(4)}))
    other.close()


# --------------------------------------------------------------------- the sampler


def rollouts(engine: Engine) -> list[list[int]]:
    from conftest import row

    done = engine.sample(
        [row(str(i), (5, 6, 7 + i), budget=8, temperature=1.0) for i in range(6)], 32
    )
    return [r.tokens.tolist() for r in done]


@pytest.mark.parametrize("kind", ["one", "pmap", "shard_map"])
def test_an_engine_goes_on_with_other_parameters(
    tiny_config, tiny_params, tiny_ancestor, kind, compilations
):
    model, one = Transformer(tiny_config), Devices(kind)
    make = lambda params: Engine(
        model, params, slots=4, chunk=4, prefill=2, devices=one
    )
    wanted, engine = rollouts(make(tiny_ancestor)), make(tiny_params)
    assert rollouts(engine) != wanted
    other = jax.tree.map(jnp.copy, tiny_ancestor)
    engine.update(other)
    before = len(compilations())
    # What training does to its buffers.
    jax.tree.map(lambda x: x.delete(), other)
    assert rollouts(engine) == wanted
    assert len(compilations()) == before


def test_problems_of_a_step_follow_from_seed_and_step(trained):
    config, _ = trained
    sampler = _sampler(config)
    asked = lambda step: [group[0].problem.id for group in _draw(sampler, step).groups]
    assert asked(3) == asked(3) != asked(4)
    assert len(set(asked(3))) == config.policy.prompts


def test_every_problem_is_asked_once_an_epoch_and_twice_in_a_step_with_other_keys(
    trained,
):
    config, _ = trained
    sampler = _sampler(change(config, prompts=6, rollouts=2))
    sampler._pool = sampler._pool[:8]
    asked, cursor = [], 0
    for step in (1, 2, 3, 4):
        drawn = sampler.draw(step, (), Stages(), cursor=cursor)
        asked += [group[0].problem.id for group in drawn.groups]
        cursor = drawn.cursor
        names = [attempt.rollout.row.id for group in drawn.groups for attempt in group]
        assert len(set(names)) == 12 and cursor == 6 * step
    for epoch in range(3):
        assert len(set(asked[8 * epoch : 8 * epoch + 8])) == 8


def test_problems_of_one_outcome_make_room(trained, monkeypatch):
    config, _ = trained
    # Problems of even hash are right every second time; the others always wrong.
    even = lambda problem: sum(problem.id.encode()) % 2 == 0
    grade = lambda self, problem, text: (
        "right" if even(problem) and len(text) % 2 else "wrong"
    )
    monkeypatch.setattr("fr.tasks.countdown.Countdown.grade", grade)
    sampler = _sampler(change(config, max_resample_rounds=3))
    first = _draw(sampler, 1)
    plain, once = first.groups, first.cost
    # Groups whose rewards differ: for a mix of the grade alone, groups of both
    # outcomes.
    varied = lambda groups, found: np.array(
        [0 < sum(a.right for a in group) < len(group) for group in groups]
    )
    drawn = _draw(sampler, 1, differ=varied)
    groups, cost = drawn.groups, drawn.cost
    right = [sum(attempt.right for attempt in group) for group in groups]
    assert len(groups) == len(plain) == 4
    assert sum(0 < n < 4 for n in right) > sum(
        0 < sum(a.right for a in g) < 4 for g in plain
    )
    assert cost.generated > once.generated
    assert len({group[0].problem.id for group in groups}) == 4
    # Rows that only fill a place come last and are counted: they teach nothing.
    assert first.spare == 0 and drawn.spare == sum(n in (0, 4) for n in right)
    assert all(n in (0, 4) for n in right[len(right) - drawn.spare :])


def _sampler(config: Config) -> Sampler:
    from fr import tasks

    model, task = load(config.ancestor), tasks.make(config.task)
    engine = Engine(
        Transformer(model.config),
        model.params,
        slots=8,
        chunk=8,
        prefill=4,
        devices=Devices("one"),
    )
    return Sampler(
        config, task, model, engine, {"train": task.problems("train"), "validation": []}
    )


def _draw(sampler: Sampler, step: int, differ=None, sets=()):
    return sampler.draw(step, sets, Stages(), differ)


def test_confidence_may_be_sampled_instead(ancestor, tmp_path):
    config = change(settings(ancestor), steps=1, eval_every=0)
    rewards = dataclasses.replace(config.rewards, confidence="sampled", samples=2)
    train_lineage(dataclasses.replace(config, rewards=rewards), tmp_path)
    (line,) = lines(tmp_path / "specialist")
    # Two answers after each of three cuts of sixteen rows, each after its own prompt.
    assert line["probe_tokens"] > 16 * 3 * 2 * 7 and line["reward/pcs"] == 0


@pytest.mark.slow
def test_sampled_confidence_is_scored_confidence_on_average():
    config = Config(
        ancestor="countdown",
        rewards=RewardsConfig(cuts=3, samples=16),
        policy=PolicyConfig(prompts=3, rollouts=2, max_new_tokens=96),
    )
    sampled = dataclasses.replace(
        config, rewards=dataclasses.replace(config.rewards, confidence="sampled")
    )
    sets = ("own", "gold")
    drawn, again = (
        _draw(_sampler(config), 1, sets=sets),
        _draw(_sampler(sampled), 1, sets=sets),
    )
    groups, one, cheap = drawn.groups, drawn.confidence, drawn.cost
    others, two, dear = again.groups, again.confidence, again.cost
    assert [a.text for g in groups for a in g] == [a.text for g in others for a in g]
    np.testing.assert_array_equal(one.cuts, two.cuts)
    for name in sets:
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_array_equal(a.known, b.known)
        # Sixteen draws of a probability near one half have a deviation of an eighth.
        assert np.abs(a.probability - b.probability)[a.known].mean() < 0.12, name
    assert dear.probe > 10 * cheap.probe


# ------------------------------------------------------------------ what is measured


def test_the_entropy_fit_finds_its_curve():
    past = [{"step": 0, "held_out/accuracy": 0.5}]
    for entropy in (0.9, 0.5, 0.2):
        past.append({"entropy": entropy, "accuracy": -0.3 * math.exp(entropy) + 1.1})
    fitted = entropy_fit(past[:-1], past[-1])
    assert fitted == {"fit/a": pytest.approx(0.3), "fit/b": pytest.approx(1.1)}
    assert entropy_fit(past[:2], past[2]) == {}
    assert entropy_fit([past[1]] * 2, past[1]) == {}


def test_an_alarm_says_once_what_to_do():
    config = PolicyConfig(alarm_entropy=0.5, alarm_kl=0.1, alarm_repetition=0.2)
    well = {"entropy": 1.0, "kl": 0.0, "repetition": 0.0, "logp_gap_p99": 0.01}
    bad = {"entropy": 0.4, "kl": 0.2, "repetition": 0.25, "logp_gap_p99": 0.2}
    bad["logp_gap_wide"] = 0.03
    lines = alarms([{"step": 0}, well], bad, config)
    # Without a step before, no entropy can have fallen.
    assert (
        len(lines) == 4
        and "policy.importance" in lines[3]
        and "3.0% more than 0.1" in lines[3]
        and alarms([], bad, config) == lines[1:]
    )
    assert (
        "policy.entropy" in lines[0]
        and "policy.kl" in lines[1]
        and "rewards.terms" in lines[2]
    )
    assert alarms([well, bad], bad, config) == () == alarms([well], well, config)


def test_a_board_gets_the_same_numbers(monkeypatch, tmp_path):
    seen = []
    writer = lambda folder, purge_step: types.SimpleNamespace(
        add_scalar=lambda *args: seen.append(args),
        close=lambda: seen.append((folder, purge_step)),
    )
    monkeypatch.setitem(
        sys.modules,
        "tensorboardX",
        types.SimpleNamespace(SummaryWriter=writer, __spec__=True),
    )
    board = TensorBoard(tmp_path, 4)
    board.write(5, {"loss": 0.5})
    board.close()
    assert seen == [("loss", 0.5, 5), (str(tmp_path), 5)]


def test_a_project_of_wandb_gets_them_too_and_goes_on_in_the_same_run(
    monkeypatch, tmp_path
):
    begun, seen = [], []
    run = types.SimpleNamespace(
        log=lambda values, step: seen.append((step, values)),
        finish=lambda: seen.append("finished"),
    )

    def init(**given):
        begun.append(given)
        return run

    with pytest.raises(UserError, match="pip install -e"):
        monkeypatch.setitem(sys.modules, "wandb", None)
        choose_project("rl")
    fake = types.SimpleNamespace(init=init, __spec__=True)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    choose_project("rl")
    try:
        for step in (3, 4):
            *_, board = open_boards(tmp_path / "arm" / "seed-1", step - 1)
            board.write(step, {"loss": 0.5})
            board.close()
    finally:
        choose_project("")
    first, second = begun
    assert first == second and first["project"] == "rl" and first["resume"] == "allow"
    assert first["name"].endswith("arm/seed-1")
    assert seen == [(3, {"loss": 0.5}), "finished", (4, {"loss": 0.5}), "finished"]
    assert len(open_boards(tmp_path, 0)) == 1


def test_wandb_itself_keeps_a_training_without_a_network(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    choose_project("rl")
    try:
        for step in (3, 4):
            *_, board = open_boards(tmp_path, step - 1)
            board.write(step, {"loss": 0.25 * step})
            board.close()
            time.sleep(1.1)  # W&B names a folder by the second
    finally:
        choose_project("")
    kept = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in kept}) == 1  # one id: the run goes on
    assert all(b"loss" in path.read_bytes() for path in kept)


# ------------------------------------------------------------------------ refusals


def test_nan_stops_and_leaves_the_last_good_checkpoint(ancestor, tmp_path, monkeypatch):
    learn = PolicyUpdater.learn

    def breaks(self, state, rows, step):
        state, values = learn(self, state, rows, step)
        return state, values | ({"loss": math.nan} if step == 3 else {})

    monkeypatch.setattr(PolicyUpdater, "learn", breaks)
    with pytest.raises(
        UserError,
        match=r"loss is nan at step 3; lower the learning_rate "
        r"\(checkpoint 2 is kept\)",
    ):
        train_lineage(settings(ancestor), tmp_path)
    folder = tmp_path / "specialist"
    assert max(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*")) == 2
    assert (
        lines(folder)[-1]["step"] == 2 and not (folder / "model.safetensors").exists()
    )


def test_bad_input_leaves_nothing(ancestor, tmp_path):
    good = settings(ancestor)
    for bad, why in (
        (change(good, prompts=3000), "config.policy.prompts = 3000"),
        (change(good, minibatches=3), "do not divide into minibatches"),
        (
            dataclasses.replace(
                good, rewards=RewardsConfig(terms=(("corectness", 1.0),))
            ),
            "unknown reward term",
        ),
        (
            dataclasses.replace(
                good, rewards=RewardsConfig(terms=(("reward_model", 1.0),))
            ),
            "set config.rewards.model",
        ),
        (
            dataclasses.replace(
                good,
                rewards=RewardsConfig(terms=(("reward_model", 1.0),), model=ancestor),
            ),
            "so it gives no reward",
        ),
        (change(good, max_new_tokens=9000), "config.policy.max_new_tokens"),
        (dataclasses.replace(good, ancestor="nowhere"), "is not there"),
        (
            dataclasses.replace(good, lora=LoraConfig(rank=2, targets=("quary",))),
            "is not a part of a layer",
        ),
    ):
        with pytest.raises(UserError, match=why) as refused:
            train_lineage(bad, tmp_path)
        with pytest.raises(UserError) as dry:
            dry_run(bad, tmp_path)
        assert str(dry.value) == str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_the_folder_of_another_run(trained):
    config, folder = trained
    with pytest.raises(UserError, match="config.policy.kl is 0.01 there and 0.5 here"):
        dry_run(change(config, kl=0.5), folder.parent)
    assert "optimiser" in dry_run(config, folder.parent)


def test_the_script_refuses_in_one_line(tmp_path):
    terms = tmp_path / "mine.py"
    terms.write_text("import fr.rewards")
    given = [
        "--config=configs/countdown_grpo.py",
        f"--user_module={terms}",
        f"--workdir={tmp_path / 'work'}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/train.py", *given]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and "registers nothing" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "work").exists()


def test_a_dry_run_reads_shapes_alone(ancestor, tmp_path):
    (tmp_path / "config.json").write_bytes(
        (pathlib.Path(ancestor) / "config.json").read_bytes()
    )
    config = dataclasses.replace(settings(ancestor), ancestor=str(tmp_path))
    table = dry_run(config, tmp_path / "work")
    assert (
        "assumed, without a tokenizer" in table
        and "optimiser" in table
        and "in all, a device" in table
    )
    assert "the longest of" in dry_run(settings(ancestor), tmp_path / "work")
    pairs = dry_run(dataclasses.replace(config, algorithm="dpo"), tmp_path / "work")
    assert (
        pairs.count("in all, a device") == 2
        and "64 rows of a step, reference scores" in pairs
    )
    assert "packed sequences of 128 tokens" in dry_run(
        dataclasses.replace(config, algorithm="sft"), tmp_path / "work"
    )
    with pytest.raises(UserError, match="'scratch' is not made yet"):
        dry_run(
            dataclasses.replace(config, algorithm="sft", ancestor="scratch"),
            tmp_path / "work",
        )
    assert not (tmp_path / "work").exists()


# ------------------------------------------------------------------------ adapters


def test_adapters_train_and_are_merged(ancestor, tmp_path):
    config = change(settings(ancestor), steps=2, minibatches=1, rollouts_every=0)
    config = dataclasses.replace(config, lora=LoraConfig(rank=2))
    train_lineage(config, tmp_path)
    assert not (tmp_path / "specialist" / ROLLOUTS).exists()
    steps = lines(tmp_path / "specialist")[1:]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6) and steps[1]["kl"] > 0
    # Had the sampler not got the merged parameters, its log-probs would differ from
    # the update's.
    assert all(line["logp_gap"] < 1e-4 for line in steps)
    before, after = load(ancestor).params, load(tmp_path / "specialist").params
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert (
        not moved["embed"]["embedding"] and moved["layers"]["attention"]["q"]["kernel"]
    )
