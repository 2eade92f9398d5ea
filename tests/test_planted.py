"""Planted causes: told where columns tell them, not told where they do not, and
lineages joined without a loss.
"""

import dataclasses

import numpy as np
import pytest
from interval_records import check_files
from synthetic_profiles import make, routing_data

from benchmarks.cause_tables import cause_tables
from benchmarks.planted_causes import as_runs, gather, summarise_causes, told_early
from fr.config import Config, RoutingConfig, StudyConfig, freeze
from fr.diagnosis.classifiers import confusion, tell_causes
from fr.errors import UserError
from fr.evaluation.method_audit import audit
from fr.evaluation.study import arm_folder
from fr.layout.text import to_text
from fr.profiles import read_profiles, write_profiles
from fr.workdir import write_json

OPERATORS = ("retry", "calculator", "wait")
CAUSES = ("control", "false_results", "premature")
CONFIG = Config(
    study=StudyConfig(arms=tuple((cause, ()) for cause in CAUSES), seeds=(0, 1, 2)),
    routing=RoutingConfig(bootstrap=400, permutations=40),
)
# The audit's accuracies need no fine p-values.
QUICK = dataclasses.replace(
    CONFIG, routing=RoutingConfig(bootstrap=100, permutations=10)
)


def write(
    workdir, told: float, rescued: float, problems: int = 60, operators=OPERATORS
) -> None:
    """Lineages whose entropy tells the cause by `told` sds, and whose remedy adds
    `rescued`; not all fail.
    """
    for seed in CONFIG.study.seeds:
        for c, cause in enumerate(CAUSES):
            draw = np.random.default_rng([seed, c])
            failed = np.sort(draw.choice(80, problems, replace=False))
            entropy = told * c + draw.normal(size=problems)
            columns = {
                "entropy_mean": entropy,
                "failed_share": 0.5,
                "mean_length": draw.normal(size=problems),
            }
            cell = make(
                problems,
                20,
                100 * seed + c,
                operators,
                cell="specialist|countdown",
                **columns,
            )
            rates = cell.rates.copy()
            if c:
                more = draw.binomial(20, np.clip(rates[:, 0] + rescued, 0, 1)) / 20
                rates[:, c] = more
            names = tuple(f"q{i}" for i in failed)
            write_profiles(
                arm_folder(workdir, cause, seed) / "profiles.csv",
                [
                    dataclasses.replace(
                        cell, problems=names, rates=rates, excluded=80 - problems
                    )
                ],
            )


def test_all_causes_of_a_seed_are_one_cell_and_a_question_is_known_again(tmp_path):
    write(tmp_path, 1.0, 0.2)
    cells = gather(CONFIG, tmp_path)
    assert [cell.cell for cell in cells] == [
        f"planted seed {i}|countdown" for i in range(3)
    ]
    assert [len(cell) for cell in cells] == [180] * 3 and cells[0].excluded == 60
    one = read_profiles(arm_folder(tmp_path, "premature", 1) / "profiles.csv")[0]
    assert np.array_equal(cells[1].rates[120:], one.rates)
    assert cells[1].problems[120] == f"premature {one.problems[0]}"
    data = routing_data(*cells, routing=RoutingConfig(bootstrap=50, splits=2))
    questions = np.array([name for cell in cells for name in cell.extras["question"]])
    assert (
        len(set(zip(questions, data.problem)))
        == len(set(questions))
        == len(set(data.problem))
        <= 80
    )
    # What is exchanged in a resample is a question with all its rows.
    weights = data.resamples
    for problem in range(5):
        assert (np.ptp(weights[:, data.problem == problem], axis=1) == 0).all()
    assert (
        0.9 < weights[1:].sum(axis=1).mean() / len(data) < 1.1
        and weights[1:].sum(axis=1).std() > 0
    )


def test_the_table_and_the_file_survive_a_round_trip(tmp_path):
    write(tmp_path, 1.0, 0.2)
    write_profiles(tmp_path / "all.csv", gather(CONFIG, tmp_path))
    again = read_profiles(tmp_path / "all.csv")
    assert summarise_causes(again, CONFIG) == summarise_causes(
        gather(CONFIG, tmp_path), CONFIG
    )


def test_what_tells_is_told_and_what_rescues_is_marked(tmp_path):
    write(tmp_path, 3.0, 0.3)
    result = summarise_causes(gather(CONFIG, tmp_path), CONFIG)
    told = {row["reads"]: row for row in result["diagnosis"]}
    assert set(told) == {
        "nuisances",
        "three features",
        "what is free",
        "signals",
        "signals and nuisances",
    }
    assert (
        told["signals"]["accuracy"]["low"] > 60 and len(told["signals"]["by_seed"]) == 3
    )
    # Neighbours are confused, the two ends are not.
    matrix = np.array(told["signals"]["confusion"])
    assert (
        np.allclose(matrix.sum(axis=1), 100, atol=0.01)
        and matrix[0, 2] < 2 < matrix[0, 1]
    )
    assert told["nuisances"]["accuracy"]["value"] < 50
    rescue = {(row["cause"], row["operator"]): row for row in result["rescue"]}
    assert rescue["false_results", "calculator"]["minus_retry"]["low"] > 5
    assert result["uses_oracle"] == ["calculator"]
    for operator in ("calculator", "wait"):
        gap = rescue["control", operator]["minus_retry"]
        assert gap["low"] < 0 < gap["high"]
    assert rescue["premature", "wait"]["attempts"] == 3 * 60 * 20
    write_json(tmp_path / "causes.json", result)
    check_files(tmp_path, {"causes.json"})
    text = to_text(cause_tables(result))
    line = next(
        line for line in text.splitlines() if line.strip().startswith("calculator")
    )
    assert (
        line.count("▲") == 1
        and "premature," in text
        and "180" in text
        and "signals and nuisances" in text
    )


def test_a_table_of_first_failures_may_lack_a_lineage(tmp_path):
    """No problem of it failed as often; the others are told apart."""
    write(tmp_path, 3.0, 0.3)
    for seed in CONFIG.study.seeds:
        for cause in CAUSES:
            folder = arm_folder(tmp_path, cause, seed)
            if (cause, seed) != ("control", 1):
                (folder / "profiles-2.csv").write_bytes(
                    (folder / "profiles.csv").read_bytes()
                )
    early = gather(CONFIG, tmp_path, "profiles-2.csv")
    assert [len(cell) for cell in early] == [180, 120, 180]
    found = {"failures": 2, **told_early(early, CONFIG)}
    assert found["problems"] == 480
    assert found["diagnosis"] == summarise_causes(early, CONFIG)["diagnosis"]
    text = to_text(
        cause_tables(
            summarise_causes(gather(CONFIG, tmp_path), CONFIG) | {"early": [found]}
        )
    )
    line = next(line for line in text.splitlines() if line.strip().startswith("2 "))
    assert "480" in line and f"{found['diagnosis'][0]['accuracy']['value']:.1f}" in line
    assert gather(CONFIG, tmp_path, "profiles-9.csv") == []


@pytest.mark.slow  # tests/test_audit.py has its parts
def test_the_audit_leaves_training_runs_out(tmp_path):
    """The cause is the method: three runs of each, which its features tell if they are
    the cause's own.
    """
    write(tmp_path, 1.0, 0.2)
    lineages = as_runs(CONFIG, tmp_path)
    assert [cell.cell for cell in lineages[:3]] == [
        f"{cause}-0|countdown" for cause in CAUSES
    ]
    told = [
        dataclasses.replace(cell, features=cell.features + 3.0 * (i % len(CAUSES)))
        for i, cell in enumerate(lineages)
    ]
    (blind,), (seen,) = (
        [row for row in audit(cells, QUICK) if row["target"] == "method"]
        for cells in (lineages, told)
    )
    assert seen["runs"] == dict.fromkeys(sorted(CAUSES), 3) and not seen["confounded"]
    assert (
        seen["leave_run_out"]["features"]["accuracy"]
        > 80
        > 60
        > blind["leave_run_out"]["features"]["accuracy"]
    )
    result = summarise_causes(gather(CONFIG, tmp_path), CONFIG) | {"audit": [seen]}
    assert "left-out" in to_text(cause_tables(result))


def test_without_a_difference_nothing_is_told(tmp_path):
    write(tmp_path, 0.0, 0.0)
    result = summarise_causes(gather(CONFIG, tmp_path), CONFIG)
    for row in result["diagnosis"]:
        assert (
            row["accuracy"]["low"] < row["chance"] + 8
            and abs(row["accuracy"]["value"] - row["chance"]) < 8
        )


def test_one_seed_has_rates_and_no_diagnosis(tmp_path):
    write(tmp_path, 1.0, 0.2)
    one = dataclasses.replace(
        CONFIG, study=dataclasses.replace(CONFIG.study, seeds=(0,))
    )
    result = summarise_causes(gather(one, tmp_path), one)
    assert result["diagnosis"] == [] and len(result["rescue"]) == len(CAUSES) * len(
        OPERATORS
    )
    assert "needs two seeds" in to_text(cause_tables(result))


def test_causes_that_met_other_operators_are_refused(tmp_path):
    write(tmp_path, 1.0, 0.2)
    path = arm_folder(tmp_path, "premature", 2) / "profiles.csv"
    write_profiles(
        path, [make(10, 20, 0, ("retry", "hot"), cell="specialist|countdown")]
    )
    with pytest.raises(
        UserError, match="cause 'premature', seed 2: was tried with retry, hot"
    ):
        gather(CONFIG, tmp_path)


def test_telling_learns_from_other_runs_and_other_questions_only():
    """A column that is the answer in one run only is of no use, and neither is one that
    knows the question.
    """
    draw = np.random.default_rng(0)
    cause, run = np.repeat([0, 1], 60), np.tile(np.arange(3), 40)
    fold = draw.integers(0, 4, 120)
    told = tell_causes(np.where(run == 1, cause, 0.5)[:, None], cause, run, fold)
    assert (
        set(told[run == 1]) != {-1}
        and (told[run == 1] == cause[run == 1]).mean() < 0.75
    )
    assert (tell_causes(cause[:, None] * 1.0, cause, run, fold) == cause).all()
    # Gaps say nothing: a column with one half of its values missing still tells the
    # other half.
    gaps = np.where(draw.random(120) < 0.5, np.nan, cause)
    told = tell_causes(gaps[:, None], cause, run, fold)
    assert (told == cause)[~np.isnan(gaps)].all() and (told == cause)[
        np.isnan(gaps)
    ].mean() < 0.8


def test_confusion_weighs_every_cause_the_same():
    told, cause = np.array([0, 0, 1, 1, -1]), np.array([0, 0, 0, 1, 1])
    (shares, other) = confusion(
        told, cause, 2, np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 0]])
    )
    assert np.allclose(shares, [[2 / 3, 1 / 3], [0, 1 / 2]]) and np.allclose(
        other, [[0, 1], [0, 1]]
    )


def test_the_config_has_the_causes_that_traces_have():
    import ast
    import importlib.util
    from pathlib import Path

    from fr.tasks.countdown_traces import DEFECTS, TRACES

    spec = importlib.util.spec_from_file_location(
        "planted", Path(__file__).parent.parent / "configs/planted.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arms = dict(freeze(module.get_config()).study.arms)
    # Two have a study of their own, configs/studies/underthinking.py.
    assert {"control", "mixed", *DEFECTS} - {"abandons", "hasty"} == set(arms)
    learned = {
        name: ast.literal_eval(dict(changes)["training.traces"])
        for name, changes in arms.items()
    }
    assert all(kind in TRACES for traces in learned.values() for kind, _ in traces)
    assert learned["control"] == (("natural", 1.0),)
