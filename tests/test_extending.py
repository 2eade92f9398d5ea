"""The examples of docs/extending.md and docs/extending_more.md work as described."""

import dataclasses
import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import random_params
from page_blocks import ROOT, all_blocks, commands
from reward_batches import batch
from synthetic_profiles import make
from test_store import ATTEMPTS

from fr import tasks, user_modules
from fr.config import RewardsConfig, TaskConfig
from fr.diagnosis.signals import SIGNALS
from fr.interventions import OPERATORS
from fr.models import load, save
from fr.profiles import write_profiles
from fr.rewards import TERMS
from fr.types import RIGHT, UNPARSED, WRONG

FILES = {block.title: block.code for block in all_blocks("python") if block.title}


@pytest.fixture
def example(own_modules, tmp_path):
    """A function that loads a file of the pages as `--user_module` does."""

    def run(name: str) -> ModuleType:
        (tmp_path / name).write_text(FILES[name])
        user_modules.load([str(tmp_path / name)])
        return next(
            module
            for module in map(sys.modules.get, list(sys.modules))
            if getattr(module, "__file__", None) == str(tmp_path / name)
        )

    return run


def test_a_task(example):
    example("parity_task.py")
    task = tasks.make(TaskConfig(name="parity"))
    splits = [task.problems(split) for split in ("train", "validation", "test")]
    assert [len(split) for split in splits] == [300] * 3
    assert len({problem.id for split in splits for problem in split}) == 900
    problem = task.problems("train", 1)[0]
    assert problem.question in task.prompt(problem)[0]["content"]
    grades = [
        task.grade(problem, text) for text in ("Answer: odd", "Answer: even", "?")
    ]
    assert grades == [RIGHT, WRONG, UNPARSED]


def test_operators(example):
    example("hotter_operator.py")
    change = OPERATORS["hotter"].fill(SimpleNamespace(attempt=4))
    assert change == {"temperature": 1.1}
    failure = SimpleNamespace(written=SimpleNamespace(tokens=[5, 6, 7, 8]))
    kept = OPERATORS["keep_first_half"].fill(SimpleNamespace(failure=failure)).kept
    assert kept == (5, 6)


def test_a_signal(example):
    entropy_late = example("late_entropy_signal.py").entropy_late
    assert SIGNALS["entropy_late"].group == "entropy"
    attempt = ATTEMPTS[2]  # six tokens, of which the first is forced
    expected = attempt.stats["entropy"][-1:].mean()
    assert entropy_late(attempt, None) == pytest.approx(expected)


def test_a_reward_term(example):
    example("short_answer_term.py")
    given = batch(truth=None)
    value = TERMS["short_answer"].fn(given, RewardsConfig())
    assert value.tolist() == (-(given.answer[:, 1] - given.answer[:, 0]) / 10).tolist()


def test_a_family(example, tiny_config, char_tokenizer, tmp_path):
    config = dataclasses.replace(tiny_config, qk_norm=True)
    params = random_params(config)
    save(tmp_path, config, params, char_tokenizer)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"qwen3"', '"normed_llama"'))
    with pytest.raises(Exception, match="normed_llama"):
        load(tmp_path)
    example("normed_llama_family.py")
    model = load(tmp_path)
    path.write_text(path.read_text().replace('"normed_llama"', '"qwen3"'))
    other = load(tmp_path)
    assert model.config.qk_norm and model.config == other.config
    jax.tree.map(np.testing.assert_array_equal, model.params, other.params)


def test_a_router(tmp_path, capsys):
    cell = make(problems=40)
    lengths = np.random.default_rng(0).integers(10, 99, len(cell))
    cell.extras["mean_length"] = tuple(map(str, lengths))
    write_profiles(tmp_path / "profiles.csv", [cell])
    space = {"__name__": "by_length_router"}
    exec(FILES["by_length_router.py"], space)
    space["main"](str(tmp_path / "profiles.csv"))
    printed = capsys.readouterr().out
    for reference in ("rescued, %", "best_fixed_per_model", "permuted"):
        assert f"all cells {reference} Interval(" in printed


@pytest.mark.parametrize("page, name", [("README.md", "brief_term.py")])
def test_the_term_of_the_first_page(example, page, name):
    module = example(name)
    given = batch(truth=None)
    assert module.brief(given, RewardsConfig()).shape == given.length.shape
    assert TERMS["brief"].fn is module.brief


def command_of(name: str) -> list[str]:
    """The words of the first command of the pages with this user module alone."""
    found = [
        words
        for block in all_blocks("bash")
        for words in commands(block.code)
        if [w for w in words if "user_module" in w] == [f"--user_module={name}"]
    ]
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "parity_task.py",
        "hotter_operator.py",
        "late_entropy_signal.py",
        "short_answer_term.py",
        "normed_llama_family.py",
    ],
)
def test_the_commands_of_the_pages_run(name, tmp_path, tiny_config, char_tokenizer):
    config = dataclasses.replace(tiny_config, qk_norm=True)
    model = tmp_path / "models" / "normed"
    save(model, config, random_params(config), char_tokenizer)
    if name == "normed_llama_family.py":
        path = model / "config.json"
        path.write_text(path.read_text().replace('"qwen3"', '"normed_llama"'))
    (tmp_path / name).write_text(FILES[name])
    for folder in ("scripts", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    small = ["--config.task.problems=4", "--config.sampling.max_new_tokens=16"]
    small += ["--config.training.steps=22", "--config.intervention.attempts=2"]
    small += ["--config.policy.steps=1", "--config.policy.prompts=8"]
    small += ["--config.policy.rollouts=4", "--config.policy.microbatch=0"]
    small += ["--config.policy.max_new_tokens=16", "--config.policy.length_buckets=1"]
    small += ["--config.policy.eval_every=0", "--workdir=w"]
    if name == "parity_task.py":
        small.append(f"--model={model}")
    command = [sys.executable, *command_of(name)[1:], *small]
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if name == "hotter_operator.py":
        summary = json.loads((tmp_path / "w/summary.json").read_text())
        assert {"hotter", "keep_first_half"} < set(summary["attempts"]["operators"])
    if name == "late_entropy_signal.py":
        header = (tmp_path / "w/profiles.csv").read_text().splitlines()[0]
        assert "entropy_late" in header.split(",")
    if name == "short_answer_term.py":
        metrics = (tmp_path / "w/specialist/metrics.jsonl").read_text()
        assert "reward/short_answer" in metrics
