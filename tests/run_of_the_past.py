"""A finished run on Countdown, written without a model: failed rollouts, right ones,
and rescued attempts.
"""

import dataclasses
import json
import random

import numpy as np

from fr import store, tasks
from fr.config import Config, TaskConfig
from fr.models import load
from fr.runs.attempts import graded_columns
from fr.tasks.countdown_traces import TRACES
from fr.types import RIGHT, Cost, Problem
from fr.workdir import write_json

TASK = TaskConfig(name="countdown", split="train")


def attempt(
    model,
    problem: Problem,
    operator: str,
    number: int,
    prompt,
    tokens,
    forced=(),
    kept=0,
) -> store.Attempt:
    """A record as `make_attempts` leaves it; the last `kept` tokens of the prompt are
    read by the grader too.
    """
    tokens = np.array(tokens, np.int32)
    text = model.decode(tokens[:-1])
    read = model.decode([*prompt[len(prompt) - kept :], *tokens[:-1]])
    grade = tasks.make(TASK).grade(problem, read)
    pushed = np.isin(np.arange(len(tokens)), forced)
    return store.Attempt(
        **graded_columns(problem, text, read, grade),
        row=f"{problem.id}/{operator}/{number}",
        attempt=number,
        specialist="made",
        ancestor="",
        operator=operator,
        seed=0,
        truncated=False,
        params={},
        cost=Cost(prefill=len(prompt), generated=len(tokens)),
        key=np.zeros(2, np.uint32),
        prompt=np.array(prompt, np.int32),
        tokens=tokens,
        forced=pushed,
        fired=np.zeros(len(tokens), bool),
        sample_logp=np.full(len(tokens), -1.0, np.float32),
        stats={name: np.ones(len(tokens), np.float32) for name in store.TOKEN_STATS},
    )


def make_run(
    folder, problems: int = 12, start: str = "countdown"
) -> list[store.Attempt]:
    """Write a run into `folder`; returns its attempts by operators: two of each on
    every problem.

    `prefix_restart` keeps four tokens of the first failure, `calculator` has its third
    token pushed, `hint` has another prompt.
    """
    model, task, rollouts, attempts = load("countdown"), tasks.make(TASK), [], []
    stop = model.stop_tokens[0]
    for problem in task.problems("train", problems):
        prompt, chance = model.encode(task.prompt(problem)), random.Random(problem.id)
        write = lambda kind, chance=chance, problem=problem: [
            *model.encode(TRACES[kind](chance, problem)),
            stop,
        ]
        failed = []
        while len(failed) < 2:
            one = write("gives_up")
            if (
                one not in failed
                and task.grade(problem, model.decode(one[:-1])) != RIGHT
            ):
                failed.append(one)
        for number, tokens in enumerate([*failed, write("correct")]):
            rollouts.append(attempt(model, problem, "rollout", number, prompt, tokens))
        for number in range(2):
            kept, rest = failed[0][:4], write("answer_first")
            attempts += [
                attempt(
                    model,
                    problem,
                    "prefix_restart",
                    number,
                    (*prompt, *kept),
                    rest,
                    kept=4,
                ),
                attempt(
                    model,
                    problem,
                    "calculator",
                    number,
                    prompt,
                    write("correct"),
                    forced=[2],
                ),
                attempt(
                    model,
                    problem,
                    "hint",
                    number,
                    (prompt[1], *prompt),
                    write("correct"),
                ),
            ]
    store.write_shard(folder / "rollouts", 0, rollouts)
    store.write_shard(folder / "attempts", 0, attempts)
    write_json(
        folder / "config.json", {"specialist": start, "algorithm": "sft", "seed": 0}
    )
    return attempts


def config(run, algorithm: str, source: str, **training) -> Config:
    """Training on that run, evaluated on test problems."""
    base = Config(
        algorithm=algorithm, ancestor="countdown", task=TaskConfig(name="countdown")
    )
    given = dataclasses.replace(base.training, source=source, run=str(run), **training)
    return dataclasses.replace(base, training=given)


def lines(folder) -> list[dict]:
    """The lines of metrics.jsonl."""
    return [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
