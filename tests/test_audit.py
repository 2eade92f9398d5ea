"""The audit: what tells a method, what only tells a run, and that the two are not
confused.
"""

import dataclasses
import pathlib

import numpy as np
import pytest
from synthetic_profiles import make

from fr.config import Config, RoutingConfig
from fr.diagnosis.classifiers import CLASSIFIERS, fold_accuracy, leave_run_out
from fr.evaluation import method_audit as rooms
from fr.evaluation.method_audit import audit, training_method, training_run
from fr.profiles import read_cells
from fr.report.render import render

RELEASED = pathlib.Path(__file__).parents[2] / "shared" / "data" / "failure_profiles"
METHODS = ("sft",) * 4 + ("grpo",) * 4
CONFIG = Config(routing=RoutingConfig(folds=2, permutations=60))


def failures(of_method=0.0, of_run=0.0, problems=40, seed=0):
    """Features, run and fold of the failures of eight runs on the same problems;
    effects in units of their noise.

    As many features as runs, so that any labelling of the runs is separable.
    """
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(len(METHODS)), problems)
    x = (
        rng.normal(size=(len(run), 8))
        + of_run * rng.normal(size=(len(METHODS), 8))[run]
    )
    x[:, 0] += of_method * (run < 4)
    return x, run, np.tile(np.arange(problems) % 2, len(METHODS))


def accuracies(draws=40, **effects):
    """Mean accuracy over folds, and with runs left out."""
    x, run, fold = failures(**effects)
    folds = fold_accuracy(x, np.array(METHODS)[run], fold, "logistic").mean()
    return folds, leave_run_out(x, run, METHODS, fold, draws, np.random.default_rng(0))


def test_a_method_that_shows_is_told_in_runs_that_were_not_learned_from():
    folds, left = accuracies(of_method=5.0, of_run=0.3)
    assert folds > 0.9 and left.accuracy.min() > 0.8
    # Four and four can be dealt in 70 ways, of which two are the true one: no p is far
    # below 2 / 70.
    assert left.labellings == 70 and left.p < 0.1 and left.low <= left.null < 0.7


def test_runs_that_differ_look_like_methods_until_one_is_left_out():
    over = [accuracies(draws=1, of_run=4.0, seed=s) for s in range(12)]
    assert np.mean([folds for folds, _ in over]) > 0.9
    assert np.mean([left.accuracy.mean() for _, left in over]) < 0.6
    # Methods that are dealt to the runs by chance are told as well.
    assert accuracies(of_run=4.0)[1].p > 0.1


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_shuffled_labels_are_at_chance(classifier):
    x, run, fold = failures(of_method=3.0)
    target = np.array(METHODS)[run]
    assert fold_accuracy(x, target, fold, classifier).mean() > 0.9
    shuffled = np.random.default_rng(0).permutation(target)
    assert abs(fold_accuracy(x, shuffled, fold, classifier).mean() - 0.5) < 0.1


def test_trees_tell_what_no_line_does():
    rng = np.random.default_rng(0)
    x, fold = rng.normal(size=(400, 3)), np.arange(400) % 2
    ring = np.where((x[:, :2] ** 2).sum(axis=1) > 1.4, "out", "in")
    line, trees = (
        fold_accuracy(x, ring, fold, name).mean() for name in ("logistic", "trees")
    )
    assert line < 0.65 and trees > 0.85


def test_a_single_run_of_a_method_cannot_be_left_out():
    x, run, fold = failures()
    with pytest.raises(ValueError, match="two or more runs"):
        leave_run_out(
            x, run, ("sft",) * 7 + ("grpo",), fold, 1, np.random.default_rng(0)
        )


def cells(
    runs=("sft-0", "sft-1", "grpo-0", "grpo-1"),
    tasks=("sums",),
    problems=40,
    effect=6.0,
):
    """Cells of the same problems in another order each; the first feature shows the
    method.
    """
    found = []
    for i, (run, task) in enumerate((run, task) for task in tasks for run in runs):
        profiles = make(problems, seed=i, cell=f"{run}|{task}")
        features = profiles.features.copy()
        features[:, 0] += effect * run.startswith("sft")
        order = np.random.default_rng(i).permutation(problems)
        names = tuple(profiles.problems[j] for j in order)
        found.append(dataclasses.replace(profiles, features=features, problems=names))
    return found


def test_no_fold_divides_a_problem(monkeypatch):
    seen = []

    def record(x, target, fold, classifier):
        if (
            x.shape[1] == 3
        ):  # the features, of which the first is the number of the problem
            seen.append((x[:, 0], fold))
        return np.ones(2)

    monkeypatch.setattr(rooms, "fold_accuracy", record)
    numbered = []
    for profiles in cells(tasks=("sums", "gcd")):
        features = profiles.features.copy()
        features[:, 0] = [int(name[1:]) for name in profiles.problems]
        if profiles.cell.endswith("gcd"):
            features[:, 0] += 1000  # another problem, though of the same name
        numbered.append(dataclasses.replace(profiles, features=features))
    records = audit(numbered, CONFIG)
    assert [(r["target"], r["scope"]) for r in records] == [
        ("method", "sums"),
        ("method", "gcd"),
        ("method", "all tasks"),
        ("run", "all tasks"),
    ]
    for problem, fold in seen:
        for name in np.unique(problem):
            assert len(set(fold[problem == name])) == 1
        assert set(fold) == {0, 1}


def test_several_runs_a_method_are_left_out_one_by_one():
    method, run = audit(cells(), CONFIG)
    assert (
        method["why"] is None
        and method["confounded"] == []
        and method["runs"] == {"grpo": 2, "sft": 2}
    )
    left = method["leave_run_out"]["features"]
    assert (
        left["accuracy"] > 80
        and left["labellings"] == 6
        and set(left["by_run"]) == {"sft-0", "sft-1", "grpo-0", "grpo-1"}
    )
    assert method["leave_run_out"]["nuisances"]["accuracy"] < 70
    assert (
        run["leave_run_out"] is None
        and run["folds"]["features"]["logistic"]["accuracy"] < 75
    )
    text = " ".join(render("audit", [method, run]).split())
    assert "6 ways to deal" in text and "CONFOUNDED" not in text


def test_one_run_a_method_is_called_confounded():
    method = audit(cells(("sft1p7b", "grpo1p7b")), CONFIG)[0]
    assert (
        method["folds"]["features"]["logistic"]["accuracy"] > 85
        and method["leave_run_out"] is None
    )
    assert method["confounded"] == ["training run"]
    text = " ".join(render("audit", [method]).split())
    assert (
        "CONFOUNDED with the training run" in text
        and "one training run of grpo and of sft" in text
    )


def test_a_task_of_one_method_is_called_confounded():
    mixed = cells(("sft-0", "sft-1"), ("sums",)) + cells(("grpo-0", "grpo-1"), ("gcd",))
    method, run = audit(mixed, CONFIG)
    assert (
        method["scope"] == "all tasks"
        and method["confounded"] == ["task"] == run["confounded"]
    )


def test_what_cannot_be_audited_says_so():
    assert audit(cells(("countdown",)), CONFIG) == []
    assert render("audit", []) == ""
    (few,) = audit(cells(("sft1p7b", "grpo1p7b"), problems=3), CONFIG)
    assert few["folds"] is None and "needs 4 failed problems" in render("audit", [few])


@pytest.mark.parametrize(
    "name, columns, method, run",
    [
        ("sft1p7b|gpqa", {}, "sft", "sft1p7b"),
        ("GRPO-seed-3|sums", {}, "grpo", "GRPO-seed-3"),
        ("dr_grpo_1|sums", {}, "dr_grpo", "dr_grpo_1"),
        ("softmax|sums", {}, "", "softmax"),
        ("sfty|sums", {}, "", "sfty"),
        ("a|sums", {"method": "noisy", "run": "7"}, "noisy", "7"),
        ("a|sums", {"model": "dpo1"}, "dpo", "dpo1"),
    ],
)
def test_methods_and_runs_by_column_or_by_name(name, columns, method, run):
    profiles = make(problems=2, cell=name, **columns)
    assert (training_method(profiles), training_run(profiles)) == (method, run)


@pytest.mark.skipif(
    not RELEASED.exists(), reason="the released profiles are not beside the checkout"
)
def test_the_released_methods_are_told_apart_and_that_is_called_confounded():
    (task, everywhere, run) = audit(
        read_cells(sorted(RELEASED.glob("*.csv"))), Config()
    )
    assert (task["scope"], task["confounded"]) == ("gpqa", ["training run"])
    assert (
        task["folds"]["features"]["logistic"]["accuracy"] > 99
        and task["majority"] == 50
    )
    assert abs(task["folds"]["nuisances"]["logistic"]["accuracy"] - 50) < 5
    assert everywhere["confounded"] == ["training run", "task"] and run[
        "confounded"
    ] == ["task"]
    assert (
        run["folds"]["features"]["logistic"]["accuracy"] > 85
        and run["leave_run_out"] is None
    )
