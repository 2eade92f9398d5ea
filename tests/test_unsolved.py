"""The problems that a start never solved, by attempts of its own."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from fr import tasks
from fr.config import Config, EvaluationConfig, TaskConfig
from fr.errors import UserError
from fr.evaluation.eval_metrics import EvalMetrics
from fr.evaluation.unsolved import only_unsolved, spread
from fr.runs.run import Run
from fr.workdir import write_json


def _run(folder, problems, seed: int = 0) -> Run:
    config = dataclasses.replace(
        Config(seed=seed), evaluation=EvaluationConfig(unsolved=str(folder))
    )
    return Run(config, epath.Path(folder), None, problems, None, None, None)


def _start(folder, right: list[int], problems) -> None:
    """An evaluation of four attempts at each problem with seed 1000."""
    sums = np.stack([right, np.full(len(right), 4)], axis=1).astype(float)
    ids = tuple(problem.id for problem in problems)
    EvalMetrics(ids, {"accuracy": sums}, {}).write(folder)
    write_json(folder / "config.json", {"seed": 1000})


def test_only_problems_without_a_right_attempt_are_asked(tmp_path):
    problems = tasks.make(TaskConfig(name="countdown")).problems("test", 5)
    folder = epath.Path(tmp_path)
    _start(folder, [0, 1, 0, 4, 2], problems)
    assert only_unsolved(_run(folder, problems)).problems == [problems[0], problems[2]]
    # Their order is the run's, and a run of fewer problems has fewer of them.
    assert only_unsolved(_run(folder, problems[:0:-1])).problems == [problems[2]]
    plain = _run("", problems)
    assert only_unsolved(plain) is plain


def test_other_draws_are_asked_for(tmp_path):
    problems = tasks.make(TaskConfig(name="countdown")).problems("test", 3)
    folder = epath.Path(tmp_path)
    _start(folder, [0, 1, 2], problems)
    with pytest.raises(UserError, match="seed = 1000 too: its attempts are the same"):
        only_unsolved(_run(folder, problems, seed=1000))
    _start(folder, [1, 1, 2], problems)
    with pytest.raises(UserError, match="solved each of 3 problems at least once"):
        only_unsolved(_run(folder, problems))
    _start(folder, [0, 1], problems[:2])
    with pytest.raises(UserError, match="was not asked 1 of 3 problems"):
        only_unsolved(_run(folder, problems))


def test_problems_that_are_not_asked_count_for_nothing(tmp_path):
    problems = tasks.make(TaskConfig(name="countdown")).problems("test", 4)
    ids = (problems[1].id, problems[3].id)
    sums = np.array([[1.0, 4.0], [3.0, 4.0]])
    bins = np.arange(12.0).reshape(2, 2, 3)
    found = spread(
        EvalMetrics(ids, {"accuracy": sums}, {"own": bins}), _run("", problems)
    )
    assert found.problems == tuple(problem.id for problem in problems)
    assert found.ratios["accuracy"].tolist() == [[0, 0], [1, 4], [0, 0], [3, 4]]
    assert found.bins["own"][[0, 2]].sum() == 0 and found.bins["own"].sum() == 66
    assert found.values()["accuracy"] == 0.5
