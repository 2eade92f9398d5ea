"""Bad input ends with exit code 2 and one line on stderr that names the thing; nothing
is written.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from fr.config import Config, with_texts
from fr.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted(
    path
    for path in (ROOT / "scripts").glob("*.py")
    if "cli.define_flags(" in path.read_text()
)

# What every script does before it computes. Faults of the config need no jax, hence the
# late imports.
SCRIPT = """
from absl import flags
from fr import cli

cli.define_flags()


def main():
    config = cli.frozen_config()
    from fr import tasks
    from fr.config import as_dict
    from fr.workdir import claim_workdir

    tasks.make(config.task).problems(config.task.split)
    claim_workdir(flags.FLAGS.workdir, as_dict(config))
    print("fine")


cli.run(main)
"""
CONFIG = """
from fr.config import default


def get_config():
    c = default()
    c.task.name = "gcd"
    {line}
    return c
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the script, a good config and configs with a fault."""
    (tmp_path / "script.py").write_text(SCRIPT)
    for name, line in {
        "good": "",
        "misspelt": "c.task.prblems = 3",
        "unknown": 'c.task.name = "gdc"',
        "kind": 'c.sampling.temperature = "hot"',
        "range": "c.sampling.top_p = 1.5",
        "syntax": "c.task.name = = 1",
        "questions": 'c.task.name = "questions"',
    }.items():
        (tmp_path / f"{name}.py").write_text(CONFIG.format(line=line))
    (tmp_path / "no_function.py").write_text("x = 1\n")
    return tmp_path


def call(folder, *flags, script="script.py"):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, str(script), *flags],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, *flags, script="script.py"):
    """The one line that the call wrote."""
    before = files(folder)
    done = call(folder, *flags, script=script)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert files(folder) == before
    assert not (folder / "run").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config=misspelt.py"], ["prblems", "problems"]),
        (["--config=good.py", "--config.task.prblems=3"], ["prblems"]),
        (["--config=good.py", "--config.tsak.problems=3"], ["tsak"]),
        (["--config=good.py", "--config.task.problems=many"], ["many"]),
        (
            ["--config=good.py", "--config.task.problems=0"],
            ["config.task.problems = 0 must be positive"],
        ),
        (
            ["--config=good.py", "--config.task.split=tset"],
            ["config.task.split = 'tset'", "did you mean 'test'"],
        ),
        (["--config=unknown.py"], ["unknown task 'gdc'", "did you mean 'gcd'"]),
        (["--config=kind.py"], ["temperature"]),
        (["--config=range.py"], ["config.sampling.top_p = 1.5 must be in (0, 1]"]),
        (["--config=none.py"], ["none.py"]),
        (["--config=syntax.py"], ["syntax.py"]),
        (["--config=no_function.py"], ["no_function.py"]),
        ([], ["--config is missing"]),
        (["--config=good.py", "--wrokdir=x"], ["wrokdir"]),
        (["--config=good.py", "more"], ["unexpected argument 'more'"]),
    ],
)
def test_bad_settings(folder, flags, said):
    line = refused(folder, *flags, *([] if "more" in flags else ["--workdir=run"]))
    assert line.startswith("script.py: ")
    assert not [part for part in said if part not in line], line


def test_missing_workdir(folder):
    assert "--workdir is missing" in refused(folder, "--config=good.py")


def test_line_without_an_answer(folder):
    (folder / "q.jsonl").write_text(
        '{"question": "a", "answer": "1"}\n{"question": "b"}\n'
    )
    line = refused(
        folder, "--config=questions.py", "--config.task.path=q.jsonl", "--workdir=run"
    )
    assert "q.jsonl:2: field 'answer' is missing" in line


def test_missing_question_file(folder):
    line = refused(
        folder,
        "--config=questions.py",
        "--config.task.path=none.jsonl",
        "--workdir=run",
    )
    assert "config.task.path = 'none.jsonl'" in line


def test_folder_of_another_run(folder):
    first = call(folder, "--config=good.py", "--workdir=mine")
    assert first.returncode == 0 and first.stdout == "fine\n", first.stderr
    assert (
        json.loads((folder / "mine" / "config.json").read_text())["task"]["name"]
        == "gcd"
    )
    line = refused(
        folder,
        "--config=good.py",
        "--workdir=mine",
        "--config.sampling.temperature=0.8",
    )
    assert (
        "config.sampling.temperature is 0.6 there and 0.8 here; use another --workdir"
        in line
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_refuses_in_one_line(folder, script):
    good = f"--config={folder / 'good.py'}"
    where = [] if script.name == "config.py" else ["--workdir=run"]
    line = refused(folder, good, *where, "--config.task.prblems=3", script=script)
    assert line.startswith(f"{script.name}: ") and "prblems" in line
    if where:
        assert "--workdir is missing" in refused(folder, good, script=script)


OWN_TERM = """
from fr.rewards import register_term

register_term("own_term")(lambda batch, config: -batch.length / 10)
"""
OWN_TASK = """
from fr.tasks.task import TASKS
from fr.tasks.arithmetic import Gcd


@TASKS.register("own_gcd")
class Own(Gcd):
    pass
"""


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "-h"])
def test_help_lists_every_setting_and_name_without_jax(flag, tmp_path):
    (tmp_path / "own.py").write_text(OWN_TERM)
    given = ["train.py", flag, f"--user_module={tmp_path / 'own.py'}"]
    code = f"import runpy, sys; sys.argv = {given}\n"
    script = str(ROOT / "scripts" / "train.py")
    code += f"try: runpy.run_path({script!r}, run_name='__main__')\n"
    code += "except SystemExit as end: print('code', end.code, 'jax' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "code 0 False", done.stderr
    for said in (
        "Train the models of a lineage",
        "--workdir",
        "--config.sampling.top_k=0",
        "tokens that are kept; 0: all",
        "dapo",
        "own_term",
        "premature_share",
        "gemma3_text",
    ):
        assert said in done.stdout


def test_the_names_of_the_help_are_those_that_are_registered():
    from fr.diagnosis.signals import SIGNALS
    from fr.evaluation.measures import MEASURES
    from fr.help import KINDS, _routers, fields, registered
    from fr.interventions import OPERATORS
    from fr.models.families import FAMILIES
    from fr.orders.routers import ROUTERS
    from fr.rewards import TERMS
    from fr.tasks import countdown_traces, maze_traces
    from fr.tasks.task import TASKS

    traces = (countdown_traces.TRACES, maze_traces.TRACES)
    every = (TASKS, OPERATORS, SIGNALS, TERMS, MEASURES, *traces, FAMILIES)
    packaged: dict[str, set] = {}
    for registry in every:
        registry.complete()
        names = packaged.setdefault(registry.kind, set())
        names |= {n for n in registry if not registry.places[n].own}
    assert packaged == {kind: set(registered(kind)) for kind in KINDS}
    assert tuple(_routers()) == ROUTERS
    assert not [name for name, _, meaning in fields(Config(), "config") if not meaning]


# What makes several runs of one config, each in a process and a folder of its own.
PARENT = """
import functools, pathlib

from absl import flags
from etils import epath
from fr import children, cli

cli.define_flags()


def child(seed):
    folder = epath.Path(flags.FLAGS.workdir) / str(seed)
    arguments = [f"--config.seed={seed}", f"--workdir={folder}"]
    children.run_script(pathlib.Path("script.py").absolute(), arguments, folder)


def main():
    cli.frozen_config()
    jobs = {seed: functools.partial(child, seed) for seed in (0, 1)}
    children.run_jobs(jobs, 2, "child")


cli.run(main)
"""


def test_children_get_the_config_and_what_was_overridden(folder):
    (folder / "parent.py").write_text(PARENT)
    (folder / "own.py").write_text(OWN_TASK)
    given = [
        "--user_module=own.py",
        "--config.task.name=own_gcd",
        "--config.task.problems=5",
        "--config.study.seeds=(7,)",
        "--config.rewards.switch_words=('a','b')",
    ]
    done = call(
        folder, "--config=good.py", "--workdir=both", *given, script="parent.py"
    )
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        assert (folder / "both" / str(seed) / "log.txt").read_text() == "fine\n"
        config = json.loads((folder / "both" / str(seed) / "config.json").read_text())
        assert (config["seed"], config["task"]["name"], config["task"]["problems"]) == (
            seed,
            "own_gcd",
            5,
        )
        assert config["rewards"]["switch_words"] == ["a", "b"]
        # An arm that is added later is no other run.
        assert "study" not in config


def test_a_child_that_fails_ends_the_parent_with_its_line(folder):
    (folder / "parent.py").write_text(PARENT)
    done = call(folder, "--config=unknown.py", "--workdir=both", script="parent.py")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "unknown task 'gdc'" in line and "log.txt" in line


def test_texts_change_settings_as_flags_do():
    changed = with_texts(
        Config(),
        {
            "seed": "3",
            "task.name": "maze",
            "evaluation.temperature": "1",
            "lora.vectors": "True",
            "evaluation.measures": "('stepless', 'cost')",
            "training.traces": "(('natural', 1),)",
        },
    )
    assert (changed.seed, changed.task.name) == (3, "maze")
    assert changed.evaluation.temperature == 1.0 and changed.lora.vectors is True
    assert changed.evaluation.measures == ("stepless", "cost")
    assert changed.training.traces == (("natural", 1.0),)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("task.prblems", "3", "config.task.prblems is not a setting"),
        ("tsak.problems", "3", "config.tsak.problems is not a setting"),
        ("task.problems", "many", "config.task.problems = 'many' must be of type int"),
        ("lora.vectors", "maybe", "config.lora.vectors = 'maybe' must be of type bool"),
        ("evaluation.ks", "(1,", "config.evaluation.ks = '(1,' must be of type tuple"),
        ("task.problems", "0", "config.task.problems = 0 must be positive"),
    ],
)
def test_texts_that_are_no_values_are_refused(name, text, said):
    with pytest.raises(UserError) as error:
        with_texts(Config(), {name: text})
    assert str(error.value).startswith(said)


def test_tests_of_an_evaluation_need_folders_and_texts(folder):
    (folder / "tests.json").write_text('{"tests": [{"folder": "a", "seed": 3}]}')
    line = refused(
        folder,
        "--config=good.py",
        "--workdir=run",
        "--model=countdown",
        "--tests=tests.json",
        script=ROOT / "scripts" / "evaluate.py",
    )
    assert '{"tests": [{"folder": NAME, SETTING: TEXT}]}' in line


def test_a_resolved_config_is_printed_without_jax(folder):
    (folder / "own.py").write_text(OWN_TERM)
    script = ROOT / "scripts" / "config.py"
    code = "import runpy, sys; sys.argv = ['config.py', *sys.argv[1:]]\ntry: "
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    code += "finally: assert 'jax' not in sys.modules"
    (folder / "run.py").write_text(code)
    given = ["--config=good.py", "--user_module=own.py"]
    given.append("--config.rewards.terms=(('own_term', 1.0),)")
    given += ["--model=models/mine", "--config.rewards.switch_words=('a\\n','\x1b[2J')"]
    done = call(folder, *given, script="run.py")
    assert done.returncode == 0, done.stderr
    changed, _, whole = done.stdout.partition("\n\n")
    lines = [line for line in changed.splitlines() if line[2:6].strip()]
    assert [line.split(":")[0] for line in lines[1:]] == [
        "# specialist",
        "# task.name",
        "# rewards.terms",
        "# rewards.switch_words",
    ]
    assert lines[0].startswith("# 4 of ") and "\x1b" not in done.stdout
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(done.stdout)
    assert found["rewards"]["terms"] == [["own_term", 1.0]]
    assert found["specialist"] == "models/mine"
    assert found["rewards"]["switch_words"][0] == "a\n"
    told = json.loads(call(folder, *given, "--json", script=script).stdout)
    assert told["config"] == found
    assert told["changes"]["task.name"] == {
        "value": "gcd",
        "default": "countdown",
        "meaning": "a task, a data set of the hub, or reasoning_gym:NAME",
    }


def test_a_misspelt_name_of_a_config_has_the_nearest(folder):
    script = ROOT / "scripts" / "config.py"
    line = refused(folder, "--config=unknown.py", script=script)
    assert "config.task.name: unknown task 'gdc'; did you mean 'gcd'?" in line
