"""A reward model on pairs by confidence: it is trained, kept, asked by GRPO, and
refused where it does not fit.
"""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from fr import store, tasks
from fr.config import (
    Config,
    LoraConfig,
    PolicyConfig,
    PreferenceConfig,
    RewardsConfig,
    SamplingConfig,
)
from fr.errors import UserError
from fr.models import load
from fr.models.transformer import Transformer
from fr.rewards import RewardMix
from fr.runs.attempts import make_attempts
from fr.runs.run import Run
from fr.sampling.devices import Devices
from fr.training.lineage import train_lineage
from fr.training.microbatches import training_mesh
from fr.training.preference_loss import make_rewards
from fr.training.reward_model import RewardModelScorer, load_reward_model
from fr.training.rlsf import _plan, make_pairs

CONFIG = Config(
    algorithm="reward_model",
    ancestor="countdown",
    sampling=SamplingConfig(temperature=1.0, slots=16, chunk=16, max_new_tokens=64),
    preference=PreferenceConfig(
        steps=12,
        pairs=8,
        problems=16,
        candidates=6,
        confident=0.8,
        learning_rate=1e-3,
        checkpoint_every=12,
    ),
)
MESH = training_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a reward model."""
    workdir = tmp_path_factory.mktemp("judge")
    (folder,) = train_lineage(CONFIG, workdir)
    assert folder == str(workdir / "reward_model")
    return folder


def grpo(folder: str, **changes) -> Config:
    """One step of GRPO on what a reward model says."""
    policy = PolicyConfig(
        steps=1, prompts=4, rollouts=4, max_new_tokens=32, microbatch=8, eval_every=0
    )
    rewards = RewardsConfig(
        terms=(("reward_model", 1.0), ("correctness", 0.0)), model=folder
    )
    given = {"algorithm": "grpo", "policy": policy, "rewards": rewards}
    return dataclasses.replace(CONFIG, **given | changes)


def test_it_orders_pairs_of_problems_that_it_has_not_seen(made, tmp_path):
    task, model, workdir = (
        tasks.make(CONFIG.task),
        load("countdown"),
        epath.Path(tmp_path),
    )
    config = dataclasses.replace(CONFIG, specialist="countdown", ancestor="")
    run = Run(
        config,
        workdir,
        task,
        task.problems("validation", 12),
        model,
        None,
        Devices("one"),
    )
    make_attempts(run, _plan(run), "candidates")
    pairs, trained = (
        make_pairs(run, store.read(workdir / "candidates")),
        load_reward_model(made),
    )
    rewards = make_rewards(trained.model.config)(
        trained.model.params, trained.kernel, pairs.tokens
    )
    better, worse = np.asarray(rewards)[pairs.places].T
    print("PAIRS", len(better), np.mean(better > worse))
    assert len(better) > 50 and np.mean(better > worse) > 0.65


def test_the_reward_is_the_head_on_the_state_of_the_last_token(made):
    """Wherever the pads end, and a microbatch at a time."""
    trained, draw = load_reward_model(made), np.random.default_rng(0)
    tokens = draw.integers(3, 40, (16, 24)).astype(np.int32)  # of two microbatches
    tokens[::2, 17:] = -1
    found = RewardModelScorer(grpo(made), load("countdown"), MESH).read(tokens)
    apply = jax.jit(
        functools.partial(Transformer(trained.model.config).apply, method="hidden")
    )
    for rows, rewards, count in (
        (tokens[::2], found[::2], 17),
        (tokens[1::2], found[1::2], 24),
    ):
        places = np.broadcast_to(np.arange(count), (8, count))
        states, _ = apply({"params": trained.model.params}, rows[:, :count], places)
        np.testing.assert_allclose(
            rewards, states[:, -1] @ trained.kernel, rtol=1e-4, atol=1e-5
        )
    assert np.ptp(found) > 1e-3


def test_grpo_learns_from_it_without_an_answer(made, tmp_path):
    train_lineage(grpo(made), tmp_path)
    (line,) = map(
        json.loads, (tmp_path / "specialist" / "metrics.jsonl").read_text().splitlines()
    )
    assert line["reward"] == pytest.approx(line["reward/reward_model"]) != 0
    assert line["groups/flat"] == 0 and line["grad_norm"] > 0
    assert not RewardMix(grpo(made).rewards).terms[0].needs_gold


def test_adapters_are_merged_into_it(tmp_path):
    preference = dataclasses.replace(
        CONFIG.preference, steps=2, problems=2, confident=0.5
    )
    config = dataclasses.replace(CONFIG, preference=preference, lora=LoraConfig(rank=2))
    (folder,) = train_lineage(config, tmp_path)
    trained, start = load_reward_model(folder), load("countdown", dtype=jnp.float32)
    assert trained.kernel.any()
    same = jax.tree.map(np.array_equal, trained.model.params, start.params)
    assert not same["layers"]["attention"]["q"]["kernel"] and same["embed"]["embedding"]


def test_what_does_not_fit_is_refused(made, tmp_path):
    policy = load("countdown")
    with pytest.raises(UserError, match="set config.rewards.model to the folder"):
        train_lineage(grpo(""), tmp_path / "none")
    with pytest.raises(UserError, match="'nowhere' is not there"):
        train_lineage(grpo("nowhere"), tmp_path / "nowhere")
    with pytest.raises(UserError, match="12 is a checkpoint, but"):
        load(f"{made}/checkpoints/12")
    with pytest.raises(
        UserError, match="countdown is a model without reward_head.safetensors"
    ):
        RewardModelScorer(grpo("countdown"), policy, MESH)
    assert not list(tmp_path.iterdir())
    other = tmp_path / "other"
    shutil.copytree(made, other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"answer"', '"reply"'))
    with pytest.raises(
        UserError, match="a reward model must share|which a reward model must share"
    ):
        RewardModelScorer(grpo(str(other)), policy, MESH)
    head = other / "reward_head.safetensors"
    save_file({"kernel": load_file(head)["kernel"][:-1]}, head)
    with pytest.raises(
        UserError, match=r"has \(127,\) numbers, and the states of .* 128"
    ):
        RewardModelScorer(grpo(str(other)), policy, MESH)
    head.write_bytes(b"no head")
    with pytest.raises(UserError, match="is not a head of a reward"):
        RewardModelScorer(grpo(str(other)), policy, MESH)
