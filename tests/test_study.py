"""Trainings compared over seeds and problems, on sums that are made here."""

import dataclasses
import json

import numpy as np
import pytest
from interval_records import check_files

from fr.config import Config, StudyConfig
from fr.config.experiment import validate
from fr.config.studies import ANCESTOR
from fr.errors import UserError
from fr.evaluation.eval_metrics import EvalMetrics, read_metrics
from fr.evaluation.study import (
    EVALUATED,
    arm_folder,
    check_study,
    claim_study,
    config_changes,
    evaluated_folder,
    jobs_of,
)
from fr.evaluation.study_summary import summarise
from fr.report.render import render
from fr.workdir import write_json

ARMS = (("plain", ()), ("better", (("rewards.terms", "(('pcs', 1.0),)"),)))


def config(seeds: int, primary=("better", "plain", "accuracy")) -> Config:
    """A study of two arms."""
    study = StudyConfig(
        arms=ARMS, seeds=tuple(range(seeds)), primary=primary, ancestor=False
    )
    return Config(study=study)


def write(
    workdir,
    seeds: int,
    lift: float,
    spread: float,
    problems: int = 300,
    samples: int = 32,
) -> None:
    """Evaluations in which `better` is ahead by `lift`, and a seed moves both arms, and
    each, by `spread`.
    """
    draw = np.random.default_rng(0)
    ids = tuple(str(i) for i in range(problems))
    hard = draw.uniform(0.2, 0.6, problems)
    for seed in range(seeds):
        shared = draw.normal(0, spread)
        for arm, more in (("plain", 0.0), ("better", lift)):
            p = np.clip(hard + more + shared + draw.normal(0, spread / 8), 0, 1)
            right = np.stack(
                [draw.binomial(samples, p), np.full(problems, samples)], axis=1
            ).astype(float)
            # A figure that nothing carries: no attempt had an answer.
            empty = np.zeros((problems, 2))
            folder = arm_folder(workdir, arm, seed)
            EvalMetrics(ids, {"accuracy": right, "premature": empty}, {}).write(
                folder / EVALUATED
            )
            lines = [
                {
                    "step": 1,
                    "rollout_tokens": 100 + seed,
                    "probe_tokens": 7 * (arm == "better"),
                }
            ] * 2
            (folder / "specialist").mkdir()
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "specialist" / "metrics.jsonl").write_text(text)


def calibrated(workdir, arm: str, seed: int, confidence: float, right: float) -> None:
    """An evaluation of 20 problems of 10 attempts each, all of one confidence."""
    sums = np.zeros((20, 10, 3))
    sums[:, int(confidence * 10)] = 10, 10 * confidence, 10 * right
    ratio = np.tile([10 * right, 10.0], (20, 1))
    ids = tuple(map(str, range(20)))
    EvalMetrics(ids, {"accuracy": ratio}, {"own": sums}).write(
        arm_folder(workdir, arm, seed) / EVALUATED
    )


def row(result: dict, figure: str = "accuracy") -> dict:
    """The difference of a figure of the better arm."""
    return next(
        r
        for r in result["differences"]
        if (r["arm"], r["metric"]) == ("better", figure)
    )


def test_arms_may_be_added_to_a_study_and_none_be_changed(tmp_path):
    study = config(2)
    claim_study(study, tmp_path)
    more = dataclasses.replace(
        study.study, arms=(*ARMS, ("third", ())), seeds=(0, 1, 2), primary=()
    )
    claim_study(dataclasses.replace(study, study=more), tmp_path)
    other = dataclasses.replace(
        study.study, arms=(("plain", (("policy.steps", "3"),)),)
    )
    with pytest.raises(
        UserError,
        match=r"plain holds another run: config.settings.policy.steps is absent there",
    ):
        claim_study(dataclasses.replace(study, study=other), tmp_path)
    with pytest.raises(
        UserError, match="holds another run: config.seed is 0 there and 1 here"
    ):
        claim_study(dataclasses.replace(study, seed=1), tmp_path)


def test_a_planted_lift_is_found_and_pairing_takes_away_what_arms_share(tmp_path):
    write(tmp_path, seeds=6, lift=0.10, spread=0.08)
    result = summarise(config(6), tmp_path)
    found = row(result)["difference"]
    assert 0 < found["low"] < 10 < found["high"] and row(result)["p"] < 0.05
    assert row(result)["primary"] and not row(result, "premature")["primary"]
    # Each arm alone is known far less well than their difference.
    alone = result["arms"]["plain"]["metrics"]["accuracy"]
    assert alone["high"] - alone["low"] > 1.5 * (found["high"] - found["low"])
    by_seed = result["arms"]["better"]["by_seed"]["accuracy"]
    assert result["arms"]["better"]["metrics"]["accuracy"]["value"] == pytest.approx(
        np.mean(by_seed)
    )


def test_without_a_lift_the_interval_has_zero(tmp_path):
    write(tmp_path, seeds=6, lift=0.0, spread=0.05)
    found = row(summarise(config(6), tmp_path))
    assert found["difference"]["low"] < 0 < found["difference"]["high"]
    assert found["p"] > 0.05


def test_seeds_are_resampled_too(tmp_path):
    write(tmp_path, seeds=4, lift=0.1, spread=0.0)
    quiet = row(summarise(config(4), tmp_path))["difference"]
    write(tmp_path / "loud", seeds=4, lift=0.1, spread=0.3)
    loud = row(summarise(config(4), tmp_path / "loud"))["difference"]
    assert loud["high"] - loud["low"] > 2 * (quiet["high"] - quiet["low"])


def test_what_a_training_spent_is_a_mean_over_seeds(tmp_path):
    write(tmp_path, seeds=3, lift=0.1, spread=0.0)
    arms = summarise(config(3), tmp_path)["arms"]
    assert arms["better"]["tokens"] == {
        "prompt_tokens": 0.0,
        "rollout_tokens": pytest.approx(202.0),
        "probe_tokens": pytest.approx(14.0),
        "scored_tokens": 0.0,
        "update_tokens": 0.0,
    }
    assert arms["plain"]["tokens"]["probe_tokens"] == 0.0


def test_the_table_says_what_was_chosen_beforehand_and_what_is_not_known(tmp_path):
    write(tmp_path, seeds=3, lift=0.1, spread=0.0)
    result = summarise(config(3), tmp_path)
    write_json(tmp_path / "study.json", result)
    check_files(tmp_path, {"study.json"})
    text = render("study", result)
    lines = [
        line for line in text.splitlines() if line.strip().startswith("better − plain")
    ]
    assert (
        lines[0].endswith("primary")
        and lines[1].endswith("exploratory")
        and "n/a" not in text
    )
    result = summarise(config(3, primary=()), tmp_path)
    assert not any(r["primary"] for r in result["differences"])


def test_a_calibration_error_is_of_each_model_alone(tmp_path):
    """Two models that err by 20 points on opposite sides are not a calibrated pair."""
    write(tmp_path, seeds=2, lift=0.0, spread=0.0)  # for the tokens of their trainings
    for seed, right in ((0, 0.75), (1, 0.35)):
        calibrated(tmp_path, "plain", seed, 0.55, right)
        calibrated(tmp_path, "better", seed, 0.55, 0.55)
    result = summarise(config(2, primary=("better", "plain", "ece_own")), tmp_path)
    plain, better = (result["arms"][arm] for arm in ("plain", "better"))
    assert plain["metrics"]["ece_own"]["value"] == pytest.approx(20)
    assert plain["by_seed"]["ece_own"] == pytest.approx([20, 20])
    assert plain["metrics"]["accuracy"]["value"] == pytest.approx(55)
    assert better["metrics"]["ece_own"]["value"] == pytest.approx(0, abs=1e-6)
    found = row(result, "ece_own")
    assert found["primary"]
    assert list(found["difference"].values()) == pytest.approx([-20] * 3)


def chained() -> Config:
    """A study in which an arm starts from the model of another."""
    mended = (("from", "plain"), ("algorithm", "dpo"))
    study = StudyConfig(
        arms=(*ARMS, ("twice", mended), ("third", ())), seeds=(3, 4), ancestor=False
    )
    return Config(study=study)


def test_an_arm_starts_from_another_ones_model_of_the_same_seed(tmp_path):
    study = chained()
    order = jobs_of(study)
    assert len(order) == 8 and order[-2:] == [("twice", 3), ("twice", 4)]
    start = str(arm_folder(tmp_path, "plain", 4) / "specialist")
    assert config_changes(study, tmp_path, "twice", 4) == {
        "algorithm": "dpo",
        "ancestor": start,
        "seed": "4",
    }
    assert config_changes(study, tmp_path, "plain", 4) == {"seed": "4"}
    for name, known in (("twice", "plain"), ("better", "nobody")):
        arms = ((name, (("from", known),)), *(arm for arm in ARMS if arm[0] != name))
        with pytest.raises(
            UserError, match=f"study.arms: 'from' of '{name}' = '{known}' is not known"
        ):
            validate(Config(study=StudyConfig(arms=arms)))


def test_what_a_training_spent_counts_what_it_started_from(tmp_path):
    write(tmp_path, seeds=2, lift=0.1, spread=0.0)
    arms = (("plain", ()), ("better", (("from", "plain"),)))
    study = StudyConfig(arms=arms, seeds=(0, 1), ancestor=False)
    tokens = summarise(Config(study=study), tmp_path)["arms"]["better"]["tokens"]
    assert tokens["rollout_tokens"] == pytest.approx(2 * 201) and tokens[
        "probe_tokens"
    ] == pytest.approx(14)


def test_trainings_that_were_asked_other_problems_are_refused(tmp_path):
    write(tmp_path, seeds=2, lift=0.1, spread=0.0)
    EvalMetrics(("other",), {"accuracy": np.ones((1, 2))}, {}).write(
        arm_folder(tmp_path, "plain", 1) / EVALUATED
    )
    with pytest.raises(UserError, match="'plain' was not asked the same problems"):
        summarise(config(2), tmp_path)


def test_the_ancestor_is_an_arm_that_cost_nothing_and_has_no_seeds(tmp_path):
    write(tmp_path, seeds=6, lift=0.2, spread=0.0)
    plain = read_metrics(arm_folder(tmp_path, "plain", 0) / EVALUATED)
    plain.write(tmp_path / ANCESTOR / EVALUATED)
    study = dataclasses.replace(
        config(6).study, ancestor=True, primary=("better", ANCESTOR, "accuracy")
    )
    result = summarise(Config(study=study), tmp_path)
    assert set(result["arms"][ANCESTOR]["tokens"].values()) == {0.0}
    assert len(set(result["arms"][ANCESTOR]["by_seed"]["accuracy"])) == 1
    assert row(result)["reference"] == ANCESTOR
    assert row(result)["difference"]["low"] > 0


# ------------------------------------------------------- tests, contrasts, other arms
TESTS = (("plain", ()), ("hard", (("task.operands", "4"), ("arms", "better"))))


def judged(workdir, arm: str, seed: int | None, test: str, right: int, ids: str = "ab"):
    """An evaluation in which every problem was right `right` times of 10."""
    sums = np.tile([float(right), 10.0], (len(ids), 1))
    EvalMetrics(tuple(ids), {"accuracy": sums}, {}).write(
        evaluated_folder(arm_folder(workdir, arm, seed), test)
    )


def with_tests(**more) -> Config:
    """A study of two arms and two tests, one of which is of one arm only."""
    return Config(
        study=StudyConfig(arms=ARMS, tests=TESTS, seeds=(0, 1), ancestor=False, **more)
    )


def test_a_test_has_metrics_and_problems_of_its_own(tmp_path):
    for seed in (0, 1):
        judged(tmp_path, "plain", seed, "plain", 2)
        judged(tmp_path, "better", seed, "plain", 5)
        judged(tmp_path, "better", seed, "hard", 1, "xyz")
    study = with_tests(
        primary=("better", "plain", "plain:accuracy"),
        contrasts=(
            (
                "loss",
                ((1, "better", "hard:accuracy"), (-1, "better", "plain:accuracy")),
            ),
            (
                "halves",
                ((0.5, "better", "plain:accuracy"), (0.5, "plain", "plain:accuracy")),
            ),
        ),
        declared=(("contrast", "loss", ""),),
    )
    validate(study)
    result = summarise(study, tmp_path)
    assert result["problems"] == {"plain": 2, "hard": 3}
    assert "hard:accuracy" not in result["arms"]["plain"]["metrics"]
    rows = {(r["arm"], r["reference"]): r for r in result["differences"]}
    value = lambda *key: rows[key]["difference"]["value"]
    assert value("better", "plain") == pytest.approx(30)
    assert value("contrast", "loss") == pytest.approx(-40)
    assert value("contrast", "halves") == pytest.approx(35)
    assert [r["declared"] for r in rows.values()] == [True, True, False]
    text = render("study", result)
    assert "loss" in text and "hard:accuracy" in text


def test_a_comparison_must_name_what_exists():
    for more, said in (
        ({"primary": ("better", "plain", "accuracy")}, "must name its test"),
        ({"primary": ("better", "nobody", "plain:accuracy")}, "is not known"),
        ({"declared": (("contrast", "gain", ""),)}, "is not known"),
        ({"contrasts": (("g", ((1.0, "better", "soft:accuracy"),)),)}, "hard"),
    ):
        with pytest.raises(UserError, match=said):
            validate(with_tests(**more))
    tests = (("hard", (("task.operandz", "4"),)),)
    study = dataclasses.replace(with_tests().study, tests=tests)
    with pytest.raises(UserError, match="did you mean 'task.operands'"):
        check_study(Config(study=study))


def test_holm_is_over_declared_comparisons_and_apart_over_the_others(tmp_path):
    write(tmp_path, seeds=4, lift=0.1, spread=0.1)
    result = summarise(config(4), tmp_path)
    first = row(result)
    assert first["declared"] and first["p_holm"] == first["p"]


def test_a_model_that_is_tested_as_it_is_has_no_seeds_and_problems_carry_it(tmp_path):
    arms = (("given", (("model", "smollm2"),)),)
    study = Config(study=StudyConfig(arms=arms, seeds=(0, 1), ancestor=False))
    validate(study)
    assert jobs_of(study) == [("given", None)]
    draw = np.random.default_rng(0)
    sums = np.stack([draw.binomial(8, 0.5, 200), np.full(200, 8)], axis=1) * 1.0
    ids = tuple(map(str, range(200)))
    EvalMetrics(ids, {"accuracy": sums}, {}).write(tmp_path / "given" / EVALUATED)
    found = summarise(study, tmp_path)["arms"]["given"]
    interval = found["metrics"]["accuracy"]
    # The standard error is about 1.3 points: problems carry it, not the two seeds.
    assert 4 < interval["high"] - interval["low"] < 6
    assert set(found["tokens"].values()) == {0.0}


MODEL_OF = ("rewards.model", "{workdir}/x")


def test_an_arm_learns_from_the_run_of_another(tmp_path):
    arms = (
        ("collect", (("makes", "run"), ("task.split", "train"))),
        ("learnt", (("run", "collect"), ("training.source", "rescued"), MODEL_OF)),
        ("again", (("from", "learnt"), ("run", "collect"))),
    )
    study = Config(study=StudyConfig(arms=arms, seeds=(5,), ancestor=False))
    validate(study)
    assert jobs_of(study) == [("collect", 5), ("learnt", 5), ("again", 5)]
    folder = str(arm_folder(tmp_path, "collect", 5))
    assert config_changes(study, tmp_path, "learnt", 5) == {
        "rewards.model": f"{tmp_path}/x",
        "training.source": "rescued",
        "training.run": folder,
        "seed": "5",
    }
    changes = config_changes(study, tmp_path, "again", 5)
    assert changes["training.run"] == folder
    assert changes["ancestor"].endswith("learnt/seed-5/specialist")
    wrong = (("learnt", ()), ("again", (("run", "learnt"),)))
    with pytest.raises(UserError, match="makes no run"):
        validate(Config(study=StudyConfig(arms=wrong, ancestor=False)))
