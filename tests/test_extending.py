"""The examples of docs/extending.md and docs/extending_more.md work as described."""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import random_params
from page_blocks import ROOT, all_blocks
from reward_batches import batch
from synthetic_profiles import make
from test_store import ATTEMPTS

from fr import tasks
from fr.config import RewardsConfig, TaskConfig
from fr.diagnosis.signals import SIGNALS
from fr.interventions import OPERATORS
from fr.models import load, save
from fr.models.families import FAMILIES
from fr.profiles import write_profiles
from fr.rewards import TERMS
from fr.tasks import grader_of
from fr.tasks.task import TASKS
from fr.types import RIGHT, UNPARSED, WRONG

FILES = {block.title: block.code for block in all_blocks("python") if block.title}


@pytest.fixture
def example(monkeypatch):
    """A function that runs a file of the pages; its registrations end with the test."""
    grader_of("sums")  # registers the package's own tasks, which stay after the test
    for registry in (TASKS, OPERATORS, SIGNALS, TERMS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr("fr.models.families.FAMILIES", dict(FAMILIES))

    def run(name: str) -> dict:
        space = {"__name__": name.removesuffix(".py")}
        exec(compile(FILES[name], name, "exec"), space)
        return space

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
    entropy_late = example("late_entropy_signal.py")["entropy_late"]
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


def test_a_router(example, tmp_path, capsys):
    cell = make(problems=40)
    lengths = np.random.default_rng(0).integers(10, 99, len(cell))
    cell.extras["mean_length"] = tuple(map(str, lengths))
    write_profiles(tmp_path / "profiles.csv", [cell])
    example("by_length_router.py")["main"](str(tmp_path / "profiles.csv"))
    printed = capsys.readouterr().out
    for reference in ("rescued, %", "best_fixed_per_model", "permuted"):
        assert f"all cells {reference} Interval(" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parity_task.py", "hotter_operator.py"])
def test_a_run_uses_what_its_config_file_registers(name, tmp_path, tiny_model):
    model = tmp_path / "model"
    save(model, tiny_model.config, tiny_model.params, tiny_model.tokenizer)
    (tmp_path / name).write_text(FILES[name])
    script, more = (
        "reproduce.py",
        ["--config.training.steps=22", "--config.task.problems=4"],
    )
    if name == "parity_task.py":
        script, more = "sample.py", [f"--model={model}", "--config.task.problems=2"]
    command = [
        sys.executable,
        ROOT / "scripts" / script,
        f"--config={name}",
        "--workdir=w",
    ]
    more += ["--config.sampling.max_new_tokens=16", "--config.intervention.attempts=2"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, *more], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if name == "hotter_operator.py":
        summary = json.loads((tmp_path / "w/summary.json").read_text())
        assert set(summary["attempts"]["operators"]) == {
            "retry",
            "hotter",
            "keep_first_half",
        }
