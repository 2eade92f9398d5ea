"""A resumed folder is compared on what each stage reads, and may grow."""

import dataclasses
import json

import pytest

from fr.config import Config, as_dict
from fr.config.reads import STAGES, difference, flat, following, reads_setting
from fr.errors import UserError
from fr.runs import stages

BASE = as_dict(Config(specialist="a", ancestor="b"))


def changed(**values) -> dict:
    """BASE with settings by dotted name (two underscores for a dot)."""
    config = json.loads(json.dumps(BASE))
    for name, value in values.items():
        group, _, field = name.partition("__")
        if field:
            config[group][field] = value
        else:
            config[group] = value
    return config


@pytest.fixture
def folder(tmp_path):
    """A folder with rollouts and attempts."""
    inputs = {"questions": ["a", "b"], "specialist": "w", "grader": {"fr": "1"}}
    stages.open_folder(tmp_path, BASE, inputs)
    for stage in ("rollouts", "scores", "attempts"):
        stages.begin(tmp_path, stage, BASE, inputs)
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "shard-000000.parquet").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        {"routing__bootstrap": 7},
        {"clusters__seeds": 3},
        {"evaluation__samples": 4},
        {"training__steps": 9},
        {"task__terms": 5},
        {"sampling__slots": 8},
        {"sampling__shard_rows": 64},
        {"task__problems": 200},
        {"sampling__rollouts": 32},
        {"intervention__attempts": 17},
        {"intervention__after": 2},
        {"intervention__operators": [*BASE["intervention"]["operators"], "tip"]},
        {"diagnosis__failures": [1, 2]},
    ],
    ids=str,
)
def test_what_no_stage_reads_and_what_grows_is_no_other_run(folder, settings):
    stages.open_folder(folder, changed(**settings))
    assert json.loads((folder / "config.json").read_text()) == changed(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"sampling__temperature": 0.9},
            "temperature is 0.6 there and 0.9 here, and rollouts/ reads it",
        ),
        ({"seed": 1}, "config.seed is 0 there and 1 here"),
        ({"task__operands": 4}, "config.task.operands is 3 there and 4 here"),
        (
            {"task__problems": 100},
            "config.task.problems is 128 there and 100 here (it may only grow)",
        ),
        ({"sampling__rollouts": 2}, "it may only grow"),
        (
            {"intervention__alpha": 0.5},
            "config.intervention.alpha is 0.7 there and 0.5 here, "
            "and attempts/ reads it",
        ),
        ({"intervention__operators": ["retry"]}, "config.intervention.operators"),
        ({"diagnosis__tau": 1.0}, "config.diagnosis.tau"),
    ],
    ids=str,
)
def test_what_a_stage_reads_is_refused_by_name_with_a_remedy(folder, settings, said):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as refused:
        stages.open_folder(folder, changed(**settings))
    line = str(refused.value)
    assert (
        said in line
        and "use another --workdir, or --redo=" in line
        and "\n" not in line
    )
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_redo_removes_a_stage_and_what_follows(folder):
    stages.open_folder(folder, changed(intervention__alpha=0.5), redo=["attempts"])
    assert sorted(stages.read_stages(folder)) == ["rollouts", "scores"]
    assert not (folder / "attempts").exists() and (folder / "scores").exists()
    stages.open_folder(folder, changed(seed=4), redo=["rollouts"])
    assert stages.read_stages(folder) == {} and not (folder / "scores").exists()
    with pytest.raises(UserError, match="did you mean 'rollouts'"):
        stages.open_folder(folder, BASE, redo=["rolouts"])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            {"questions": ["a", "x"]},
            "question 2 of the task .* has changed since rollouts/ was made",
        ),
        ({"specialist": "v"}, "the weights of config.specialist have changed"),
        ({"grader": {"fr": "2"}}, "the grader or a package that it uses has changed"),
    ],
)
def test_changed_inputs_under_the_same_names_are_refused(folder, inputs, said):
    with pytest.raises(UserError, match=said):
        stages.open_folder(folder, BASE, inputs)


def test_more_questions_are_no_other_run(folder):
    stages.open_folder(
        folder, changed(task__problems=200), {"questions": ["a", "b", "c"]}
    )


def test_other_surroundings_are_told_once(folder, capsys):
    stages._told.clear()
    stages.begin(folder, "rollouts", BASE, {"surroundings": {"jax": "1", "TZ": ""}})
    for _ in range(2):
        stages.open_folder(folder, BASE, {"surroundings": {"jax": "2", "TZ": ""}})
    (line,) = capsys.readouterr().err.splitlines()
    assert "rollouts/ was made with jax = 1, and this is 2" in line


def test_a_setting_that_is_new_has_its_default_in_an_old_folder(folder):
    made = stages.read_stages(folder)["rollouts"]["settings"]
    del made["sampling"]["top_k"]
    assert difference("rollouts", made, BASE) is None
    assert difference("rollouts", made, changed(sampling__top_k=5)) == (
        "sampling.top_k",
        0,
        5,
    )
    made["sampling"]["gone"] = 1
    assert difference("rollouts", made, BASE) is None


def test_a_folder_without_stages_json_is_judged_by_its_config(folder):
    (folder / stages.FILE).unlink()
    stages.open_folder(folder, changed(routing__bootstrap=3))
    with pytest.raises(UserError, match="config.seed is 0 there and 1 here"):
        stages.open_folder(folder, changed(seed=1))


def test_what_a_stage_noted_of_its_beginning_stays(folder):
    stages.begin(folder, "attempts", BASE, {}, seen={"p": 3})
    made = stages.begin(folder, "attempts", BASE, {}, seen={"p": 9, "q": 1})
    assert made["seen"] == {"p": 3, "q": 1}
    assert stages.begin(folder, "attempts", BASE, {})["seen"] == {"p": 3, "q": 1}


def test_a_damaged_record_is_refused(folder):
    data = (folder / stages.FILE).read_bytes()
    for place in range(0, len(data), 401):
        (folder / stages.FILE).write_bytes(
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        )
        with pytest.raises(UserError):
            stages.read_stages(folder)


def test_every_setting_of_sampling_a_run_is_read_by_a_stage_or_known_to_be_idle():
    groups = {f.name for f in dataclasses.fields(Config)} - {
        "study",
        "specialist",
        "ancestor",
    }
    read = {
        name.partition(".")[0]
        for algorithm in ("sft", "grpo", "dpo", "vector")
        for stage in STAGES
        for name in flat(BASE)
        if reads_setting(stage, name, flat(changed(algorithm=algorithm)))
    }
    assert groups - read == {"routing", "clusters"}
    assert following("scores") == ["scores", "attempts", "branches"]
