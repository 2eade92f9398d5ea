"""Training on the attempts of a run: which of them, which of their tokens, and what is
refused.
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

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_of_the_past import TASK, config, lines, make_run

from fr import tasks
from fr.config import LoraConfig, PreferenceConfig, TaskConfig, TrainingConfig
from fr.errors import UserError
from fr.models import ModelConfig, load, save
from fr.models.transformer import init_params
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.training import trainer
from fr.training.dry_run import dry_run
from fr.training.examples import examples_of
from fr.training.lineage import train_lineage
from fr.training.lora import partition
from fr.training.microbatches import training_mesh
from fr.training.pairs import common_prefix, failed_and_rescued, pairs_of
from fr.training.past_runs import PastRun
from fr.training.preference_loss import make_preference_update
from fr.training.trainer import Evaluator, Step, fit
from fr.training.update import TrainState, init_state

ROOT = pathlib.Path(__file__).parents[1]
SHAPE = ModelConfig(
    vocab=VOCABULARY, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, ff=64
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("past")
    save(
        folder / "random",
        SHAPE,
        init_params(SHAPE, jax.random.key(3)),
        countdown_tokenizer(),
    )
    return folder / "run", make_run(folder / "run", start=str(folder / "random"))


@pytest.fixture(scope="module")
def model(run):
    return load(run[0].parent / "random")


def past(run, model, algorithm="sft", source="rescued", **training) -> PastRun:
    return PastRun(config(run[0], algorithm, source, **training), model)


def test_what_is_trained_are_the_stored_ids_under_the_plain_prompt(run, model):
    task = tasks.make(TASK)
    plain = {
        p.id: list(model.encode(task.prompt(p))) for p in task.problems("train", 12)
    }
    stored = {(tuple(a.tokens.tolist()), tuple(a.forced.tolist())): a for a in run[1]}
    for one in past(run, model, max_per_problem=0).rescued():
        tokens, prompt = one.tokens.tolist(), one.prompt.tolist()
        assert prompt == plain[one.problem] and tokens[-1] == model.stop_tokens[0]
        key = tuple(tokens), tuple((~one.learnt).tolist())
        a = stored.get(key) or stored[key[0][4:], key[1][4:]]
        assert a.grade == "right"
        if a.operator == "prefix_restart":
            # What was kept of a failure begins the completion, and is the model's own.
            assert [*prompt, *tokens] == [*a.prompt, *a.tokens] and one.learnt.all()
        else:
            assert (
                tokens == a.tokens.tolist()
                and one.learnt.tolist() == (~a.forced).tolist()
            )
    assert all(one.learnt.all() for one in past(run, model, pushed="learn").rescued())


def test_operators_and_numbers_of_a_problem_are_kept_to(run, model):
    everything = past(run, model, max_per_problem=0).rescued()
    assert len({(one.problem, tuple(one.tokens)) for one in everything}) == len(
        everything
    )
    only = past(run, model, max_per_problem=0, operators=("calculator",)).rescued()
    assert 0 < len(only) < len(everything) and not any(one.learnt.all() for one in only)
    two = past(run, model, max_per_problem=2).rescued()
    assert max(sum(one.problem == each.problem for one in two) for each in two) == 2
    # Twelve problems, one right rollout of each.
    assert len(past(run, model, source="rollouts").right()) == 12
    by_answer = past(run, model, max_per_problem=0, distinct="answer").rescued()
    assert (
        len({(one.problem, one.answer) for one in by_answer})
        == len(by_answer)
        <= len(everything)
    )
    with pytest.raises(
        UserError, match="has no attempt by 'calculater'; did you mean 'calculator'"
    ):
        past(run, model, operators=("calculater",)).rescued()


def pairs(run, model, source, **training):
    c = config(run[0], "dpo", source, **training)
    return failed_and_rescued(PastRun(c, model), c)


def test_pairs_are_of_one_problem_and_each_attempt_stands_in_one(run, model):
    whole, parted = pairs(run, model, "pairs"), pairs(run, model, "pairs_parted")
    assert len(whole) == 24  # two failures of each problem
    for better, worse in whole:
        assert better.problem == worse.problem and (better.prompt == worse.prompt).all()
    sides = [{(one.problem, tuple(one.tokens)) for one in side} for side in zip(*whole)]
    assert [len(side) for side in sides] == [24, 24]
    assert len(pairs(run, model, "pairs", max_per_problem=1)) == 12
    for pair, (better, worse) in zip(whole, parted):
        common = common_prefix(better.tokens, worse.tokens)
        assert not better.learnt[:common].any() and not worse.learnt[:common].any()
        assert [(one.learnt[common:]).tolist() for one in pair] == [
            one.learnt[common:].tolist() for one in (better, worse)
        ]
        assert pair[0].learnt[:common].tolist() == pair[1].learnt[:common].tolist()
    assert (
        max(common_prefix(better.tokens, worse.tokens) for better, worse in whole) >= 4
    )


def test_the_control_pairs_problems_of_like_length(run, model):
    shuffled = pairs(run, model, "pairs_shuffled")
    assert len(shuffled) >= 20
    for better, worse in shuffled:
        assert better.problem != worse.problem
    sides = [
        {(one.problem, tuple(one.tokens)) for one in side} for side in zip(*shuffled)
    ]
    assert len(sides[0]) == len(sides[1]) == len(shuffled)
    own = {
        (worse.problem, tuple(worse.tokens)): len(better.tokens)
        for better, worse in pairs(run, model, "pairs")
    }
    far = [
        abs(len(better.tokens) - own[worse.problem, tuple(worse.tokens)])
        for better, worse in shuffled
    ]
    assert np.median(far) <= 2


def test_the_common_beginning_of_a_pair_has_no_gradient(run, model):
    """The log ratios of what two rows begin with cancel, and `pairs_parted` masks them:
    one gradient, one way.
    """
    c, mesh = (
        PreferenceConfig(steps=1, pairs=4, clip_norm=1e9, dtype="float32"),
        training_mesh(),
    )

    def moments(found):
        batch = pairs_of(found[:4]).batch(range(4), None)
        batch = batch.replace(
            ref_logp=np.where(batch.mask, -1.0, 0.0).astype(np.float32)
        )
        trained, _ = partition(
            model.config, jax.tree.map(jnp.copy, model.params), LoraConfig(), 0
        )
        update = make_preference_update(model.config, "dpo", c, LoraConfig(), mesh)
        state, metrics = update(init_state(trained, c), batch)
        return jax.tree.leaves(jax.device_get(state.optimizer)), metrics

    common = sorted(
        pairs(run, model, "pairs"),
        key=lambda pair: -common_prefix(pair[0].tokens, pair[1].tokens),
    )
    masked = sorted(
        pairs(run, model, "pairs_parted"),
        key=lambda p: -common_prefix(p[0].tokens, p[1].tokens),
    )
    assert common_prefix(common[3][0].tokens, common[3][1].tokens) >= 4
    (whole, first), (parted, second) = moments(common), moments(masked)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    for one, other in zip(whole, parted):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    # Pairs that have nothing but their beginning teach nothing at all.
    cut = lambda one, n: dataclasses.replace(one, learnt=np.arange(len(one.tokens)) < n)
    only = [
        tuple(cut(one, common_prefix(*(o.tokens for o in pair))) for one in pair)
        for pair in common[:4]
    ]
    state, metrics = moments(only)
    assert float(metrics["grad_norm"]) < 1e-4 and metrics["gap"] == pytest.approx(
        0, abs=1e-4
    )


def test_evaluated_questions_other_tokenizers_and_missing_folders_are_refused(
    run, model, tiny_model, tmp_path
):
    c = config(run[0], "sft", "rescued")
    with pytest.raises(
        UserError, match="asked 12 of the questions of config.task.split = 'train'"
    ):
        PastRun(dataclasses.replace(c, task=TASK), model)
    with pytest.raises(
        UserError, match="train a model that has the run's tokenizer|gives id"
    ):
        PastRun(c, tiny_model)
    with pytest.raises(UserError, match="has no rollouts/ to learn from"):
        PastRun(config(tmp_path, "sft", "rescued"), model)
    for bad, workdir, why in (
        (config(tmp_path / "none", "sft", "rescued"), None, "not the folder of a run"),
        (c, run[0], "is config.training.run itself"),
        (
            config(run[0], "sft", "pairs"),
            *(None, "'pairs' is not for config.algorithm = 'sft'.*'dpo'"),
        ),
        (config("", "dpo", "pairs"), None, "are taken from a run"),
        (config(run[0], "sft", "rescued", sequence=8), None, "sequence = 8; raise it"),
    ):
        with pytest.raises(UserError, match=why) as refused:
            train_lineage(bad, workdir or tmp_path / "made")
        with pytest.raises(UserError) as dry:
            dry_run(bad, workdir or tmp_path / "made")
        assert str(dry.value) == str(refused.value)
    assert not (tmp_path / "made").exists()
    assert not (run[0] / "specialist").exists()


@pytest.fixture(scope="module")
def rescued(run, tmp_path_factory):
    """SFT on rescued attempts, with adapters."""
    settings = {
        "steps": 8,
        "batch": 4,
        "sequence": 160,
        "microbatch": 2,
        "remat": True,
        "warmup_steps": 0,
        "keep": 1,
        "schedule": "constant",
        "eval_every": 2,
        "export": "best",
        "learning_rate": 3e-3,
        "checkpoint_every": 2,
    }
    c = dataclasses.replace(
        config(run[0], "sft", "rescued", **settings), lora=LoraConfig(rank=4)
    )
    workdir = tmp_path_factory.mktemp("rescued")
    train_lineage(c, workdir)
    return c, workdir / "specialist"


def test_rescued_attempts_are_learnt_and_the_best_checkpoint_is_exported(rescued):
    _, folder = rescued
    seen = {
        line["step"]: line["held_out/loss"]
        for line in lines(folder)
        if "held_out/loss" in line
    }
    assert list(seen) == [0, 2, 4, 6, 8] and min(list(seen.values())[1:]) < seen[0]
    read = [line["update_tokens"] for line in lines(folder) if line["step"]]
    assert 0.5 < min(read) / (4 * 160) <= max(read) / (4 * 160) <= 1
    record = json.loads((folder / "export.json").read_text())
    best = min((step for step in seen if step), key=seen.get)
    assert record == {
        "exported": "best",
        "metric": "held_out/loss",
        "lower_is_better": True,
        "first": {"step": 0, "value": seen[0]},
        "last": {"step": 8, "value": seen[8]},
        "best": {"step": best, "value": seen[best]},
    }
    exported, kept = load(folder), load(folder / "checkpoints" / str(best))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        exported.params,
        kept.params,
    )


def test_a_dry_run_knows_training_on_a_run(run, rescued, tmp_path):
    told = dry_run(rescued[0], tmp_path)
    assert "packed sequences of 160 tokens" in told and "adapters of rank 4" in told
    told = dry_run(config(run[0], "dpo", "pairs"), tmp_path)
    assert "pairs per step" in told and "candidates" not in told


def test_what_is_exported_is_the_best_and_not_the_last(tmp_path):
    """Losses 3, 1, 2: the second of three states."""
    state = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.zeros(2)}, ())
    advance = lambda i, state, _: Step(
        state.replace(params={"w": state.params["w"] + 1}), {"loss": 0.0}
    )
    losses = {0: 4.0, 1: 3.0, 2: 1.0, 3: 2.0}
    exam = Evaluator(
        1,
        lambda state: {"held_out/loss": losses[int(state.params["w"][0])]},
        "held_out/loss",
        lower=True,
    )
    pace = TrainingConfig(steps=3, keep=1, export="best")
    for _ in range(2):  # the second time from the checkpoints alone
        assert fit(state, advance, pace, tmp_path, exam).params["w"].tolist() == [2, 2]
    record = json.loads((tmp_path / "export.json").read_text())
    assert record["best"] == {"step": 2, "value": 1.0} and record["last"] == {
        "step": 3,
        "value": 2.0,
    }
    last = dataclasses.replace(pace, export="last")
    assert fit(state, advance, last, tmp_path, exam).params["w"].tolist() == [3, 3]
    raised = dataclasses.replace(exam, lower=False)
    assert fit(state, advance, pace, tmp_path / "high", raised).params[
        "w"
    ].tolist() == [1, 1]


def test_interrupted_training_on_a_run_ends_with_the_same_bytes(
    rescued, tmp_path, monkeypatch
):
    c, whole = rescued
    calls, heard = [], trainer.check

    def dies():
        calls.append(len(calls))
        if len(calls) == 6:
            raise KeyboardInterrupt
        heard()

    monkeypatch.setattr(trainer, "check", dies)
    with pytest.raises(KeyboardInterrupt):
        train_lineage(c, tmp_path)
    train_lineage(c, tmp_path)
    for name in ("metrics.jsonl", "model.safetensors", "export.json"):
        assert (tmp_path / "specialist" / name).read_bytes() == (
            whole / name
        ).read_bytes(), name


def test_pairs_are_learnt_and_the_margin_of_held_out_ones_grows(run, tmp_path):
    c = config(run[0], "dpo", "pairs_parted", held_out=0.25)
    c = dataclasses.replace(
        c,
        preference=PreferenceConfig(
            steps=8, pairs=4, learning_rate=3e-3, eval_every=4, checkpoint_every=4
        ),
    )
    train_lineage(c, tmp_path)
    seen = lines(tmp_path / "specialist")
    assert seen[0]["held_out/gap"] == pytest.approx(0, abs=1e-4)
    assert seen[0]["held_out/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert seen[-1]["held_out/gap"] > 0.05 and seen[-1]["held_out/loss"] < math.log(2)
    assert seen[-1]["loss"] < seen[1]["loss"]
    stages = json.loads((tmp_path / "stages.json").read_text())["stages"]
    assert set(stages["specialist"]["inputs"]) >= {"examples", "start"}
    assert not (tmp_path / "candidates").exists()


def test_solutions_of_any_task_are_learnt(model, char_tokenizer, tiny_model, tmp_path):
    path = tmp_path / "asked.jsonl"
    rows = [
        {"question": f"What is {i} + 1?", "answer": f"one more than {i} #### {i + 1}"}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    c = config("", "sft", "solutions")
    task = TaskConfig(name="questions", path=str(path), split_shares=(1.0, 0.0, 0.0))
    c = dataclasses.replace(c, task=task)
    examples = examples_of(c, dataclasses.replace(c.training, sequence=256), tiny_model)
    ids, prompt = examples.make(None, 0)
    assert examples.total == 8 and ids[-1] == char_tokenizer.eos_token_id
    assert tiny_model.decode(ids[prompt:-1]).startswith(
        "one more than"
    ) and "Answer:" in tiny_model.decode(ids)
    # Without a solution its reference, and Countdown at once.
    sums = dataclasses.replace(c, task=TaskConfig(name="sums"))
    sums_examples = examples_of(
        sums, dataclasses.replace(c.training, sequence=512), tiny_model
    )
    ids, prompt = sums_examples.make(None, 0)
    assert "Answer:" in tiny_model.decode(ids[prompt:])
    game = examples_of(
        dataclasses.replace(c, task=TaskConfig(name="countdown")), c.training, model
    )
    ids, prompt = game.make(random.Random(0), 0)
    assert model.decode(ids[prompt:]).startswith("answer")


@pytest.mark.slow
def test_the_loop_from_a_failure_to_a_signal_by_the_scripts(tmp_path):
    """A lineage fails on training problems, and its failures teach it; a training that
    is killed is the same.
    """
    quick = [
        "--config=configs/quickstart.py",
        "--config.task.problems=64",
        "--config.sampling.rollouts=6",
        "--config.task.split=train",
        "--config.intervention.attempts=6",
        "--config.intervention.operators=('retry','prefix_restart','calculator')",
    ]
    for name in ("train", "sample", "diagnose", "intervene"):
        script(name, *quick, f"--workdir={tmp_path / 'run'}")
    learn = [
        "--config=configs/quickstart.py",
        f"--config.training.run={tmp_path / 'run'}",
        "--config.training.steps=30",
        "--config.training.learning_rate=0.0003",
        "--config.training.warmup_steps=3",
        "--config.training.eval_every=10",
        "--config.training.sequence=256",
        "--config.preference.steps=20",
        "--config.preference.pairs=8",
        "--config.preference.eval_every=10",
        "--config.preference.microbatch=8",
        "--config.preference.checkpoint_every=3",
    ]
    script(
        "train",
        *learn,
        "--config.training.source=rescued",
        f"--workdir={tmp_path / 'sft'}",
    )
    seen = lines(tmp_path / "sft" / "specialist")
    assert seen[-1]["held_out/loss"] < seen[0]["held_out/loss"]
    pairs = [*learn, "--config.algorithm=dpo", "--config.training.source=pairs"]
    script("train", *pairs, f"--workdir={tmp_path / 'whole'}")
    log = tmp_path / "killed" / "specialist" / "metrics.jsonl"
    begun = lambda: log.exists() and log.read_text().count("\n") > 5
    script("train", *pairs, f"--workdir={tmp_path / 'killed'}", until=begun)
    script("train", *pairs, f"--workdir={tmp_path / 'killed'}")
    for name in ("metrics.jsonl", "model.safetensors"):
        one, other = (
            tmp_path / folder / "specialist" / name for folder in ("whole", "killed")
        )
        assert one.read_bytes() == other.read_bytes(), name
    seen = lines(tmp_path / "whole" / "specialist")
    assert (
        seen[-1]["held_out/gap"] > 0
        and seen[-1]["held_out/loss"] < seen[0]["held_out/loss"]
    )


def script(name: str, *flags: str, until=None) -> None:
    """Run a script, or kill it as soon as `until` is true."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, f"scripts/{name}.py", *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    while until and process.poll() is None and not until():
        time.sleep(0.005)
    if until:
        process.kill()
    assert process.wait() == (-signal.SIGKILL if until else 0)
