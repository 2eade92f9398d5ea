"""A stored run is graded again from its store alone; what changes is shown, and written
only when asked to.
"""

import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

from fr import store, tasks
from fr.config import Config, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.evaluation.regrade import EXAMPLES, regrade
from fr.pipeline.sample import sample
from fr.report.render import render
from fr.runs import attempts as pipeline_attempts
from fr.runs import stages
from fr.runs.inputs import grader
from fr.runs.run import Run
from fr.sampling.devices import Devices
from fr.tasks.grading import grade_all
from fr.types import RIGHT, UNPARSED, WRONG

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def sampled(tiny_model, plain_engine, tmp_path_factory):
    """A run on a file of questions, graded by an older grader that knows `right` alone;
    the file is gone.
    """
    workdir = tmp_path_factory.mktemp("regraded")
    path = workdir / "q.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"{i} + 1?", "answer": i + 1}) + "\n"
            for i in range(3)
        )
    )
    config = Config(
        task=TaskConfig(name="questions", path=str(path), problems=3),
        sampling=SamplingConfig(
            rollouts=4, max_new_tokens=8, slots=4, chunk=4, shard_rows=5
        ),
    )
    task = tasks.make(config.task)
    run = Run(
        config, workdir, task, task.problems("test"), tiny_model, None, Devices("one")
    )
    run._engines[False] = plain_engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pipeline_attempts, "grade_all", lambda task, pairs: [RIGHT for _ in pairs]
        )
        patch.setattr(pipeline_attempts, "grader_version", lambda: "older")
        sample(run)
    path.unlink()
    return run


def copied(run, tmp_path) -> pathlib.Path:
    for shard in (run.workdir / "rollouts").iterdir():
        (tmp_path / "rollouts").mkdir(exist_ok=True)
        (tmp_path / "rollouts" / shard.name).write_bytes(shard.read_bytes())
    return tmp_path


def digests(folder: pathlib.Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_question_reference_answer_and_grader_are_stored_with_every_attempt(sampled):
    for a in store.read(sampled.workdir / "rollouts"):
        problem = next(p for p in sampled.problems if p.id == a.problem)
        assert (a.question, a.reference, json.loads(a.meta)) == (
            problem.question,
            problem.answer,
            problem.meta,
        )
        assert (
            a.grader == "older"
            and a.read is None
            and a.earlier_grade is a.earlier_grader is None
        )


def test_grades_are_given_again_without_the_file_of_questions(sampled, tmp_path):
    workdir = copied(sampled, tmp_path)
    old, before = store.read(workdir / "rollouts"), digests(workdir)
    problems = {problem.id: problem for problem in sampled.problems}
    expected = grade_all(sampled.task, [(problems[a.problem], a.text) for a in old])
    found = regrade(workdir)
    assert (
        digests(workdir) == before and found.wrote == 0 and found.graders == {"older"}
    )
    for grade in (RIGHT, WRONG, UNPARSED):
        key = ("rollouts", "questions", "rollout", RIGHT, grade)
        assert found.counts[key] == expected.count(grade)
    assert found.changed == sum(grade != RIGHT for grade in expected) > 0
    stages.begin(workdir, "rollouts", {}, {"grader": {"fr": "older"}, "questions": []})
    regrade(workdir, write=True)
    made = stages.read_stages(workdir)["rollouts"]["inputs"]
    assert made == {"grader": grader(), "questions": []}
    new = store.read(workdir / "rollouts")
    assert [a.grade for a in new] == expected
    for a, b in zip(old, new):
        assert (b.earlier_grade, b.earlier_grader) == (
            RIGHT,
            "older",
        ) and b.grader != "older"
        kept = {"grade": RIGHT, "grader": "older", "answer": a.answer}
        again = dataclasses.replace(b, **kept, earlier_grade=None, earlier_grader=None)
        assert (
            again.text == a.text
            and (again.tokens == a.tokens).all()
            and again.params == a.params
        )
    # there is nothing left to change
    before = digests(workdir)
    assert regrade(workdir, write=True).wrote == 0 and digests(workdir) == before


def test_what_was_made_of_the_old_grades_is_named(sampled, tmp_path):
    workdir = copied(sampled, tmp_path)
    for name in ("scores", "attempts", "plots"):
        (workdir / name).mkdir()
    for name in ("profiles.csv", "profiles-2.csv", "report.html", "evaluation.json"):
        (workdir / name).write_text("")
    found = regrade(workdir)
    stale = dict(found.stale)
    assert stale.keys() == {
        "scores",
        "attempts",
        "plots",
        "profiles.csv",
        "profiles-2.csv",
        "report.html",
    }
    assert "scripts/diagnose.py with --redo=scores" in stale["profiles.csv"]
    assert "scripts/route.py" in stale["report.html"]
    assert "other attempts failed" in stale["attempts"] and found.moved == {"rollouts"}


def test_the_script_shows_a_table_and_a_few_changes(sampled, tmp_path):
    workdir, before = copied(sampled, tmp_path), None
    before = digests(workdir)
    asked = [sys.executable, str(ROOT / "scripts" / "grade.py"), f"--workdir={workdir}"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (
        "rollouts  questions  rollout   right" in done.stdout
        and "right → " in done.stdout
    )
    assert (
        "question:  0 + 1?" in done.stdout
        and "reference: 1" in done.stdout
        and "--write" in done.stdout
    )
    assert done.stdout.count("reference:") <= EXAMPLES and digests(workdir) == before
    wrote = " ".join(render("grades", regrade(workdir, write=True)).split())
    assert "3 shards were replaced" in wrote


def test_a_folder_without_attempts_is_refused(tmp_path):
    for path, said in (
        (tmp_path, "holds no attempts"),
        (tmp_path / "none", "is not a folder"),
    ):
        with pytest.raises(UserError, match=said):
            regrade(path)


@pytest.mark.parametrize(
    "name",
    ["countdown", "sums", "questions", "gpqa", "math500", "reasoning_gym:leg_counting"],
)
def test_every_task_of_our_own_can_grade_without_its_problems(name):
    assert tasks.grader_of(name) is not None


def test_only_columns_of_grading_are_replaced(sampled, tmp_path):
    workdir = copied(sampled, tmp_path)
    with pytest.raises(ValueError, match="column 'text' of a shard cannot be changed"):
        store.regrade_shard(workdir / "rollouts", 0, {"text": []})
