"""Models from scratch: a task's own vocabulary and its own traces."""

import random

import pytest

from fr.config import ArchitectureConfig, Config, TaskConfig, TrainingConfig
from fr.errors import UserError
from fr.registry import Registry
from fr.runs.names import check_names
from fr.tasks.task import TASKS
from fr.tasks.vocabulary import as_transformers, word_level
from fr.training.examples import examples_of
from fr.training.supervised import random_model
from fr.types import Problem

SHAPE = ArchitectureConfig(width=16, layers=2, heads=2, ff=24)


class Echo:
    """Say the word of the question; its traces say it twice."""

    traces = Registry("trace kind")

    def __init__(self, config):
        self.config = config

    def problems(self, split, count=None):
        return [Problem(f"echo-{word}", word, word, "echo") for word in "xyz"][:count]

    def prompt(self, problem):
        return problem.question

    def tokenizer(self):
        return as_transformers(word_level(["x", "y", "z"], 8))


@Echo.traces.register("twice")
def twice(rng, problem):
    return f"{problem.answer} {problem.answer}"


@Echo.traces.register("answer_first")
def once(rng, problem):
    return problem.answer


def test_a_task_may_bring_its_vocabulary_and_its_traces(monkeypatch):
    monkeypatch.setitem(TASKS._entries, "echo", Echo)
    config = Config(
        ancestor="scratch", architecture=SHAPE, task=TaskConfig(name="echo")
    )
    model = random_model(config)
    assert model.config.vocab == 8 and model.stop_tokens == (1,)
    learnt = {}
    for source in ("traces", "solutions"):
        training = TrainingConfig(source=source, traces=(("twice", 1.0),))
        found = examples_of(config, training, model)
        learnt[source] = [found.make(random.Random(0), i) for i in range(found.total)]
    # x, y, z have the ids after pad, eos and unknown
    assert learnt["traces"] == [([i, i, i, 1], 1) for i in (3, 4, 5)]
    assert learnt["solutions"] == [([i, i, 1], 1) for i in (3, 4, 5)]
    # the default kinds are Countdown's
    with pytest.raises(UserError, match="pretraining.traces: unknown kind .*'natural'"):
        check_names(config, training=True)
    with pytest.raises(UserError, match="'gcd' has no vocabulary .* name a model"):
        random_model(Config(task=TaskConfig(name="gcd")))
