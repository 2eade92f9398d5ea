"""The regression of right answers on length and distance, on planted effects."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.optimize import minimize

from fr import tasks
from fr.config import Config, StudyConfig, TaskConfig, as_dict
from fr.config.settings import EvaluationConfig
from fr.errors import UserError
from fr.evaluation.eval_metrics import EvalMetrics
from fr.evaluation.novelty import COEFFICIENTS, covariates, novelty
from fr.evaluation.study import arm_folder, evaluated_folder
from fr.stats.logistic import fit_logistic
from fr.tasks.countdown_families import candidates

CELLS = ("two 7 8 9 10",)
SAMPLES = 40


def study(seeds: int = 3) -> Config:
    """Two arms: one left the family out, the other did not."""
    arms = (("held", (("task.hold_out", repr(CELLS)),)), ("control", ()))
    return Config(
        task=TaskConfig(problems=200),
        evaluation=EvaluationConfig(samples=SAMPLES),
        routing=dataclasses.replace(Config().routing, bootstrap=200),
        study=StudyConfig(
            arms=arms,
            seeds=tuple(range(seeds)),
            ancestor=False,
            analyses=("novelty",),
        ),
    )


def write(config: Config, workdir, effects: dict[str, tuple[float, ...]]) -> None:
    """Evaluations of models with given logits for 1, z, d and z · d."""
    held = TaskConfig(hold_out=CELLS)
    training = tasks.make(held).problems("train")
    problems = tasks.make(config.task).problems("test", 200)
    z, d = covariates(problems, training)
    design = np.column_stack([np.ones(len(z)), z, d, z * d])
    draw = np.random.default_rng(0)
    for arm, effect in effects.items():
        task = held if arm == "held" else TaskConfig()
        for seed in config.study.seeds:
            folder = arm_folder(workdir, arm, seed)
            level = draw.normal(0, 0.1)
            p = 1 / (1 + np.exp(-design @ np.array(effect) - level))
            sums = np.stack(
                [draw.binomial(SAMPLES, p), np.full(len(z), SAMPLES)], axis=1
            )
            tested = evaluated_folder(folder, "")
            tested.mkdir(parents=True)
            ids = tuple(problem.id for problem in problems)
            EvalMetrics(ids, {"accuracy": sums.astype(float)}, {}).write(tested)
            for path, own in ((folder, task), (tested, config.task)):
                made = as_dict(dataclasses.replace(config, task=own))
                (path / "config.json").write_text(json.dumps(made))


def test_planted_effects_are_found_and_the_control_has_none(tmp_path):
    effects = {"held": (1.0, 0.0, -1.2, 0.3), "control": (1.0, -0.8, 0.0, 0.0)}
    config = study()
    write(config, tmp_path, effects)
    found = novelty(config, tmp_path)["test"]
    assert found["control"] == "control" and found["problems"] == 200
    for arm, truth in effects.items():
        for name, value in zip(COEFFICIENTS, truth):
            one = found["coefficients"][arm][name]
            assert one["low"] - 0.1 < value < one["high"] + 0.1, (arm, name)
            assert abs(one["value"] - value) < 0.2
    gap = found["differences"]["held"]["distance"]
    assert gap["high"] < 0 and abs(gap["value"] + 1.2) < 0.25
    cells = found["cells"]["held"]
    assert sum(cell["problems"] for cell in cells) == 200
    assert [cell["distance"] for cell in cells] == [0, 0, 1, 1, 2, 2]
    short = {
        c["distance"]: c["right"]["value"] for c in cells if c["length"] == "short"
    }
    assert short[0] > short[1] > short[2]


def test_covariates_are_those_of_the_problems():
    problems = tasks.make(TaskConfig()).problems("test", 50)
    training = tasks.make(TaskConfig(hold_out=CELLS)).problems("train")
    z, d = covariates(problems, training)
    logs = [
        np.log(candidates(tuple(p.meta["numbers"]), p.meta["target"])) for p in problems
    ]
    assert abs(z.mean()) < 1e-9 and z.std() == pytest.approx(1)
    assert np.corrcoef(z, logs)[0, 1] == pytest.approx(1)
    large = [sum(n > 6 for n in p.meta["numbers"]) for p in problems]
    assert d.tolist() == [max(0, n - 1) for n in large]
    other = [dataclasses.replace(problems[0], task="sums")]
    with pytest.raises(UserError, match="no lengths and distances of 'sums'"):
        covariates(other, training)


def test_a_study_without_held_out_cells_is_refused(tmp_path):
    config = study()
    write(config, tmp_path, {"control": (0.0, 0.0, 0.0, 0.0)})
    plain = dataclasses.replace(config.study, arms=(("control", ()),))
    with pytest.raises(UserError, match="needs an arm that changes task.hold_out"):
        novelty(dataclasses.replace(config, study=plain), tmp_path)


def test_one_column_gives_the_difference_of_logits():
    logit = lambda p: np.log(p / (1 - p))
    design = np.array([[1.0, 0], [1, 0], [1, 1], [1, 1]])
    right, tried = np.array([1.0, 2, 6, 7]), np.full(4, 10.0)
    found = fit_logistic(design, right, tried, np.ones((1, 4)), variance=1e9)[0]
    assert found == pytest.approx([logit(0.15), logit(0.65) - logit(0.15)])
    # Weights of 2 and 0 are the rows twice and not at all.
    weights = np.array([[2.0, 0, 1, 1]])
    found = fit_logistic(design, right, tried, weights, variance=1e9)[0]
    assert found == pytest.approx([logit(0.1), logit(0.65) - logit(0.1)])


def test_the_fit_is_the_minimum_of_its_objective():
    draw = np.random.default_rng(1)
    design = np.column_stack([np.ones(80), draw.normal(size=(80, 3))])
    tried = draw.integers(1, 9, 80).astype(float)
    right = draw.binomial(tried.astype(int), 0.4).astype(float)

    def loss(b):
        logits = design @ b
        fit = right * logits - tried * np.logaddexp(0, logits)
        return -fit.sum() + (b[1:] ** 2).sum() / (2 * 0.5)

    best = minimize(loss, np.zeros(4), tol=1e-10).x
    found = fit_logistic(design, right, tried, np.ones((1, 80)), variance=0.5)[0]
    assert found == pytest.approx(best, abs=1e-4)


def test_separated_answers_have_finite_coefficients():
    x = np.linspace(-1, 1, 20)
    design = np.column_stack([np.ones(20), x])
    found = fit_logistic(design, (x > 0) * 5.0, np.full(20, 5.0), np.ones((1, 20)))
    assert np.isfinite(found).all() and 1 < found[0, 1] < 100
