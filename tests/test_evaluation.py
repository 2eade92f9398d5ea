"""An evaluation of the packaged ancestor: its figures counted again, its two signals,
and what a kill changes.
"""

import dataclasses
import json

import numpy as np
import pytest
from interval_records import check_files
from scipy.stats import spearmanr

from fr import store
from fr.config import (
    Config,
    EvaluationConfig,
    RoutingConfig,
    SamplingConfig,
    TaskConfig,
)
from fr.errors import UserError
from fr.evaluation.accuracy import check_evaluation, evaluate
from fr.report.render import render
from fr.runs.run import Run, open_run
from fr.sampling.engine import Engine
from fr.tasks.countdown_rules import step_errors

CONFIG = Config(
    specialist="countdown",
    task=TaskConfig(problems=4),
    sampling=SamplingConfig(slots=32, chunk=16, max_new_tokens=64),
    evaluation=EvaluationConfig(
        samples=6, ks=(1, 2, 6, 16), cuts=4, sampled=True, answers=20
    ),
    routing=RoutingConfig(bootstrap=50),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished evaluation: its folder, its result, and its attempts."""
    workdir = tmp_path_factory.mktemp("evaluation") / "first"
    result = evaluate(open_run(CONFIG, workdir))
    return workdir, result, store.read(workdir / "evaluation")


def test_figures_counted_anew(done):
    workdir, result, attempts = done
    assert json.loads((workdir / "evaluation.json").read_text()) == json.loads(
        json.dumps(result)
    )
    mean = {name: figure["value"] for name, figure in result["metrics"].items()}
    right = np.array([a.grade == "right" for a in attempts])
    assert len(right) == 24 and 0 < right.mean() < 1
    by_problem = right.reshape(4, 6)
    np.testing.assert_allclose(mean["accuracy"], 100 * right.mean())
    np.testing.assert_allclose(mean["pass@6"], 100 * by_problem.any(axis=1).mean())
    np.testing.assert_allclose(
        mean["truncated"], 100 * np.mean([a.truncated for a in attempts])
    )
    assert "pass@16" not in mean and "pass@1" not in mean  # too many; the accuracy
    flawed = [step_errors(a.text).wrong > 0 for a in attempts if a.grade == "right"]
    np.testing.assert_allclose(mean["flawed"], 100 * np.mean(flawed), atol=1e-6)
    np.testing.assert_allclose(
        mean["length"], np.mean([len(a.tokens) for a in attempts])
    )
    for figure in result["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_intervals_have_one_spelling(done):
    check_files(done[0], {"evaluation.json"})


def test_premature_and_flat_shares_are_of_attempts_with_an_answer(done):
    _, result, attempts = done
    rows = [
        a.confidence["own_probability"]
        for a in attempts
        if "own_probability" in a.confidence
    ]
    assert 10 < len(rows) < 24 and all(len(row) == 4 for row in rows)
    flat = [len(set(np.round(row, 3))) == 1 for row in rows]
    early = [
        not f and np.round(spearmanr(np.round(r, 3), np.arange(4))[0], 9) < 0.4
        for r, f in zip(rows, flat)
    ]
    figures = result["metrics"]
    np.testing.assert_allclose(figures["flat"]["value"], 100 * np.mean(flat), atol=1e-6)
    np.testing.assert_allclose(
        figures["premature"]["value"], 100 * np.mean(early), atol=1e-6
    )
    np.testing.assert_allclose(
        figures["answered"]["value"], 100 * len(rows) / 24, atol=1e-6
    )


def test_reliability_is_the_error(done):
    _, result, attempts = done
    for name in ("own", "span"):
        bins = [b for b in result["reliability"][name] if b["attempts"]]
        weight = np.array([b["attempts"] for b in bins])
        error = np.average(
            [abs(b["right"] - b["confidence"]) for b in bins], weights=weight
        )
        found = result["metrics"][f"ece_{name}"]["value"]
        np.testing.assert_allclose(found, error, atol=1e-5)
        assert weight.sum() == sum("own_probability" in a.confidence for a in attempts)


def test_scored_confidence_is_what_sampling_gives(done):
    workdir, result, attempts = done
    signals, answers = result["signals"], store.read(workdir / "answers")
    assert {a.operator for a in answers} == {"forced_answer"} and signals[
        "attempts"
    ] == 8
    for name in ("own", "gold"):
        found = signals[name]
        # Hundreds of draws: the means agree, and the correlation is what the noise of a
        # share leaves of 1.
        assert abs(found["scored"] - found["sampled"]) < 5
        assert found["correlation"]["value"] > found["largest_possible"] - 0.1
    scored = sum(a.cost.probe for a in attempts if a.attempt < 2)
    prompts = {(a.problem, a.row.rsplit("/", 1)[0]): len(a.prompt) for a in answers}
    generated = sum(len(a.tokens) for a in answers)
    assert signals["tokens"] == {
        "scored": scored,
        "sampled": generated + sum(prompts.values()),
    }


@pytest.mark.slow
def test_interrupted_is_uninterrupted(tmp_path, monkeypatch):
    config = dataclasses.replace(
        CONFIG, sampling=dataclasses.replace(CONFIG.sampling, shard_rows=20)
    )
    workdir, tmp_path = tmp_path / "whole", tmp_path / "killed"
    evaluate(open_run(config, workdir))
    decode, calls = Engine.sample, []

    def dies(self, *args, **kwargs):
        calls.append(0)
        if len(calls) in (
            2,
            4,
        ):  # the second shard of attempts, then one of sampled answers
            raise KeyboardInterrupt
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "sample", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(open_run(config, tmp_path))
    evaluate(open_run(config, tmp_path))
    files = [
        p.relative_to(workdir)
        for p in workdir.rglob("*")
        if p.is_file() and "compilations" not in p.name
    ]
    assert len(files) > 5
    for name in files:
        assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes(), name


def test_a_model_against_itself_and_against_other_problems(done, tmp_path):
    workdir, result, _ = done
    again = evaluate(open_run(CONFIG, workdir), against=workdir)
    assert again["metrics"] == result["metrics"]
    for row in again["against"]["metrics"].values():
        assert set(row["difference"].values()) == {0} and row["p"] == 1
    page = " ".join(render("evaluation", again).split())
    assert "pass@6" in page and "difference" in page
    assert "largest" in page and "tokens per attempt" in page
    fewer = dataclasses.replace(CONFIG, task=TaskConfig(problems=3))
    with pytest.raises(UserError, match="was asked other problems"):
        evaluate(open_run(fewer, tmp_path), against=workdir)
    with pytest.raises(UserError, match="evaluation_problems.json is missing"):
        evaluate(open_run(fewer, tmp_path), against=tmp_path / "none")
    assert not store.finished(tmp_path / "evaluation")


def test_a_checkpoint_is_called_by_its_run_and_step():
    config = Config(
        specialist="/tmp/x/specialist/checkpoints/60", ancestor="/tmp/y/base"
    )
    assert Run(config, None, None, [], None, None, None).names == (
        "specialist/60",
        "base",
    )


# ------------------------------------------------------- operators, measures, groups
def with_evaluation(**more) -> Config:
    """A small evaluation with other settings."""
    own = EvaluationConfig(samples=3, ks=(1, 2), cuts=2, **more)
    return dataclasses.replace(CONFIG, evaluation=own)


def test_an_operator_makes_every_attempt_and_measures_are_split(tmp_path):
    config = with_evaluation(operator="hot", measures=("cost",), by=("target",))
    check_evaluation(config)
    run = open_run(config, tmp_path)
    result, attempts = evaluate(run), store.read(tmp_path / "evaluation")
    assert {a.operator for a in attempts} == {"hot"} and len(attempts) == 12
    assert {a.params["temperature"] for a in attempts} == {1.0, 1.2}
    metrics = result["metrics"]
    total = sum(
        sum(dataclasses.asdict(a.cost).values()) - a.cost.probe for a in attempts
    )
    np.testing.assert_allclose(metrics["cost"]["value"], total / 12, rtol=1e-6)
    problem = run.problems[0]
    name = f"accuracy[target={problem.meta['target']}]"
    own = [
        a.grade == "right"
        for a in attempts
        if json.loads(a.meta)["target"] == problem.meta["target"]
    ]
    np.testing.assert_allclose(metrics[name]["value"], 100 * np.mean(own))
    assert f"cost[target={problem.meta['target']}]" in metrics
    # What is measured of the same attempts may be changed later; the operator may not.
    evaluate(open_run(with_evaluation(operator="hot"), tmp_path))
    with pytest.raises(UserError, match="evaluation.operator is .hot. there"):
        open_run(with_evaluation(), tmp_path)


def test_what_an_evaluation_cannot_have_is_refused(tmp_path):
    for more, said in (
        ({"operator": "wait"}, "'wait' reads failures"),
        ({"operator": "nobody"}, "'nobody' is unknown"),
        ({"measures": ("cosd",)}, "did you mean 'cost'"),
    ):
        with pytest.raises(UserError, match=said):
            check_evaluation(with_evaluation(**more))
    run = open_run(with_evaluation(by=("colour",)), tmp_path)
    with pytest.raises(UserError, match="problems of 'countdown' have no 'colour'"):
        evaluate(run)
