"""Analyses of both loops and of the crossover, on sums that are made here."""

import json
import types

import numpy as np
import pytest

from fr.config import Config, EvaluationConfig, RoutingConfig, StudyConfig
from fr.evaluation import crossover_analysis
from fr.evaluation.analyses import known_analyses
from fr.evaluation.decodings import loop_alarm
from fr.evaluation.eval_metrics import EvalMetrics
from fr.evaluation.exploration import entropy_points
from fr.evaluation.study import arm_folder, evaluated_folder
from fr.stats.bootstrap import Interval

CONTINUED = (("evaluation.decoding", "continued"), ("evaluation.continuations", "2"))
PROBLEMS = 6


def config(ancestor=False, **study) -> Config:
    """A study of two seeds."""
    own = StudyConfig(seeds=(0, 1), ancestor=ancestor, **study)
    return Config(
        ancestor="countdown",
        study=own,
        evaluation=EvaluationConfig(ks=(2, 4)),
        routing=RoutingConfig(bootstrap=50),
    )


def write(workdir, arm, seed, test, **values):
    """An evaluation in which all problems have the same values, of ten attempts."""
    sums = {
        name.replace("_at_", "@"): np.tile([10.0 * value, 10.0], (PROBLEMS, 1))
        for name, value in values.items()
    }
    ids = tuple(map(str, range(PROBLEMS)))
    folder = evaluated_folder(arm_folder(workdir, arm, seed), test)
    EvalMetrics(ids, sums, {}).write(folder)


def write_lines(workdir, arm, seed, entropy):
    """Metrics of a training on the line R = 0.9 - 0.2 exp(H), looked at every step."""
    folder = arm_folder(workdir, arm, seed) / "specialist"
    folder.mkdir(parents=True)
    lines = [{"step": 0, "held_out/accuracy": 0.9 - 0.2 * np.exp(entropy[0])}]
    for step, h in enumerate(entropy, 1):
        after = entropy[min(step, len(entropy) - 1)]
        held = {"held_out/accuracy": 0.9 - 0.2 * np.exp(after)}
        lines.append({"step": step, "entropy": h} | held)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def test_points_pair_an_accuracy_with_the_entropy_of_the_same_policy():
    lines = [
        {"step": 0, "held_out/accuracy": 0.1},
        {"step": 1, "entropy": 0.9},
        {"step": 2, "entropy": 0.8, "held_out/accuracy": 0.3},
        {"step": 3, "entropy": 0.7, "held_out/accuracy": 0.4},
    ]
    # The policy after the last step has drawn nothing, so its entropy is not known.
    assert entropy_points(lines) == ([0.9, 0.7], [0.1, 0.3])


def test_an_alarm_names_its_loop_and_needs_both_changes():
    fall, rise = Interval(-9.0, -12.0, -3.0), Interval(0.4, 0.1, 0.6)
    line = loop_alarm(fall, rise, 3)
    assert "inference loop" in line and "3 forced" in line and "vote" in line
    unsure = Interval(-9.0, -12.0, 1.0)
    assert loop_alarm(unsure, rise, 3) == loop_alarm(fall, fall, 3) == ""
    assert loop_alarm(Interval(-9.0), rise, 3) == ""


def test_both_loops_of_every_arm_are_told_apart(tmp_path):
    arms = (("collapses", ()), ("explores", ()))
    c = config(arms=arms, tests=(("sampled", ()), ("continued_2", CONTINUED)))
    votes = {"vote_at_2": 0.6, "vote_at_4": 0.8}
    for seed in (0, 1):
        for arm, entropy in (
            ("collapses", [1.0, 0.5, 0.2, 0.05]),
            ("explores", [1, 0.9, 0.8, 0.7]),
        ):
            write_lines(tmp_path, arm, seed, entropy)
            plain = {"accuracy": 0.6, "answer_entropy": 0.5, "cost": 50.0}
            write(tmp_path, arm, seed, "sampled", **plain, **votes)
            falls = 0.4 if arm == "explores" else 0.6
            more = {"accuracy": falls, "answer_entropy": 1.0, "cost": 150.0}
            write(tmp_path, arm, seed, "continued_2", **more)
    found = known_analyses()["exploration"](c, tmp_path)
    training = found["collapses"]["training"]
    assert (
        training["collapsed"] == 2 and found["explores"]["training"]["collapsed"] == 0
    )
    assert training["a"]["value"] == pytest.approx(0.2)
    assert training["b"]["value"] == pytest.approx(0.9)
    assert training["entropy_last"]["value"] == pytest.approx(0.05)
    (line,) = found["collapses"]["alarms"]
    assert line.startswith("training loop") and "2 of 2 seeds" in line
    (line,) = found["explores"]["alarms"]
    assert line.startswith("inference loop") and "2 forced" in line
    sampled, continued = found["explores"]["inference"]
    assert (sampled["continuations"], continued["continuations"]) == (0, 2)
    # Three attempts' cost: half way between votes of two and of four.
    assert continued["vote"]["value"] == pytest.approx(70)
    assert continued["vote_ahead"]["value"] == pytest.approx(30)
    assert sampled["vote_ahead"]["value"] == pytest.approx(0)


def test_crossover_and_perplexity_by_hand(tmp_path, monkeypatch):
    c = config(ancestor=True, arms=(("rl", ()),))
    ids = tuple(map(str, range(4)))
    right = {"ancestor": [1, 1, 1, 1], "rl": [4, 4, 0, 0]}
    for arm, seeds in (("ancestor", [None]), ("rl", [0, 1])):
        for seed in seeds:
            sums = np.stack([right[arm], [4] * 4], axis=1).astype(float)
            folder = evaluated_folder(arm_folder(tmp_path, arm, seed), "")
            EvalMetrics(ids, {"accuracy": sums}, {}).write(folder)
    attempt = types.SimpleNamespace(
        problem="0", tokens=np.zeros(4), stats={"logp": np.full(4, -0.5)}
    )
    monkeypatch.setattr(crossover_analysis, "_right", lambda folder: [attempt])
    monkeypatch.setattr(
        crossover_analysis._Base, "nats", lambda self, attempts: [8.0] * len(attempts)
    )
    found = known_analyses()["crossover"](c, tmp_path)["rl"]
    # pass@k of the base is k / 4, of the trained model 1/2 at every k.
    assert found["k_star"]["value"] == 3 and 0 <= found["k_star"]["never"] < 1
    assert found["pass"] == [
        {"k": 1, "base": 0.25, "trained": 0.5},
        {"k": 2, "base": 0.5, "trained": 0.5},
        {"k": 4, "base": 1.0, "trained": 0.5},
    ]
    perplexity = {name: each["value"] for name, each in found["perplexity"].items()}
    assert perplexity == pytest.approx(
        {"new_to_base": np.exp(2), "own": np.exp(0.5), "base": np.exp(0.5)}, abs=1e-5
    )


def test_an_arm_without_a_training_has_no_trained_parameters(tmp_path):
    c = config(arms=(("real", (("model", "countdown"),)), ("lost", ())))
    found = known_analyses()["parameters"](c, tmp_path)
    assert found == {"real": 0, "lost": 0}
