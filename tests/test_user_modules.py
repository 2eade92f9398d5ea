"""A user's own modules register names, are told apart by their text, and are refused in
one line.
"""

import sys

import pytest

from fr import user_modules
from fr.bounded import Bounded
from fr.config import (
    Config,
    RewardsConfig,
    StudyConfig,
    as_dict,
    default,
    freeze,
)
from fr.config_text import check_known
from fr.errors import UserError
from fr.evaluation.study import claim_study
from fr.help import names_text
from fr.registry import own_names
from fr.rewards import TERMS
from fr.runs import stages
from fr.runs.inputs import own_parts

pytestmark = pytest.mark.usefixtures("own_modules")

TERM = '''"""Reward terms of my own."""

from fr.rewards import register_term


@register_term("short_answer")
def short_answer(batch, config):
    """Minus the number of tokens of the answer, in tens."""
    first, end = batch.answer.T
    return -(end - first) / 10
'''
ALL = """import numpy as np

from fr.diagnosis.signals import register_mean_signal
from fr.evaluation.measures import register_measure
from fr.interventions import register
from fr.models.families import FAMILIES, Family
from fr.rewards import register_term
from fr.tasks.countdown_traces import TRACES
from fr.tasks.task import TASKS


@TASKS.register("mine_task")
class Mine:
    pass


register("mine_operator")(lambda context: {})
register_mean_signal("mine_signal", "entropy")(lambda attempt, config: 0.0)
register_measure("mine_measure")(lambda problem, attempts, context: {})
register_term("mine_term")(lambda batch, config: np.zeros(len(batch.length)))
TRACES.register("mine_trace")(lambda rng, problem: "")
FAMILIES.register("mine_family")(Family("LlamaForCausalLM", {}, {}))
"""


def write(path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_registers_names_and_is_run_once(tmp_path, monkeypatch):
    file = write(tmp_path / "my_terms.py", TERM)
    monkeypatch.chdir(tmp_path)
    user_modules.load([file, "my_terms.py", "./my_terms.py"])
    assert TERMS["short_answer"].fn.__doc__.startswith("Minus")
    assert [str(place) for *_, place in own_names() if place.file == file] == [
        "my_terms.py:6"
    ]
    assert "short_answer (my_terms.py:6)" in names_text()


def test_the_script_is_no_part_of_a_module(tmp_path, monkeypatch):
    """Importing multiprocessing gives the script a second name in sys.modules."""
    main = type(sys)("__main__")
    main.__file__ = str(tmp_path / "sample.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    text = "import sys\nsys.modules['__mp_main__'] = sys.modules['__main__']\n"
    user_modules.load([write(tmp_path / "my_terms.py", text + TERM)])
    sys.modules.pop("__mp_main__")
    (held,) = user_modules._TEXTS.values()
    assert [*held] == [str(tmp_path / "my_terms.py")]


def test_what_a_config_file_registered_is_not_run_again(tmp_path):
    file = write(tmp_path / "config.py", TERM)
    exec(compile(TERM, file, "exec"), {"__name__": "config"})
    user_modules.load([file])
    assert user_modules.fingerprints().keys() == {"reward term: short_answer"}


def test_a_dotted_module_and_its_helpers(tmp_path, monkeypatch):
    lab = tmp_path / "some_lab"
    lab.mkdir()
    (lab / "__init__.py").write_text("")
    (lab / "lengths.py").write_text("TENTH = 10\n")
    term = TERM.replace(
        "from fr.rewards", "from some_lab.lengths import TENTH\n\nfrom fr.rewards"
    )
    (lab / "terms.py").write_text(term)
    monkeypatch.syspath_prepend(tmp_path)
    user_modules.load(["some_lab.terms", str(lab / "terms.py")])
    held = {
        path.rpartition("/")[2] for path in user_modules._TEXTS[str(lab / "terms.py")]
    }
    assert held == {"terms.py", "lengths.py", "__init__.py"}


def prints(tmp_path, monkeypatch, name: str, files: dict[str, str]) -> dict[str, str]:
    """Fingerprints of a module that is loaded by itself."""
    folder = tmp_path / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    for registry in {registry for registry, *_ in own_names()}:
        for key in [k for k, place in registry.places.items() if place.own]:
            registry._entries.pop(key, None)
    monkeypatch.setattr(user_modules, "_TEXTS", {})
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("lengths_of_mine", None)
    user_modules.load([str(folder / "terms.py")])
    return user_modules.fingerprints()


def test_fingerprints_are_of_texts_not_of_places(tmp_path, monkeypatch):
    files = {
        "terms.py": f"import lengths_of_mine\n{TERM}",
        "lengths_of_mine.py": "A = 1\n",
    }
    take = lambda name, **changed: prints(
        tmp_path,
        monkeypatch,
        name,
        {**files, **{f"{k}.py": v for k, v in changed.items()}},
    )
    first = take("a")
    assert first == take("b")
    assert first != take("c", lengths_of_mine="A = 2\n")
    assert first != take("d", terms=files["terms.py"].replace("/ 10", "/ 20"))


@pytest.mark.parametrize(
    "text, words",
    [
        (None, ("no such file; did you mean", "my_term.py")),
        ("", ("registers nothing", "register_term")),
        ("x = 1\nx +\n", ("my_terms.py:2", "SyntaxError")),
        ("\0", ("my_terms.py", "SyntaxError")),
        (
            "import nothing_of_this_name\n",
            ("my_terms.py:1", "ModuleNotFoundError", "nothing_of_this_name"),
        ),
        (
            "def f():\n    raise KeyError('two\\nlines')\nf()\n",
            ("my_terms.py:2", "KeyError"),
        ),
        ("import sys\nsys.exit(3)\n", ("my_terms.py:2", "SystemExit: 3")),
        ("import json\njson.loads('{')\n", ("my_terms.py:2", "JSONDecodeError")),
        (
            TERM.replace("short_answer", "pcs"),
            ("my_terms.py:6", "'pcs' is registered twice: fr/rewards/"),
        ),
        (
            TERM.replace('"short_answer"', '"x", placement="loss"'),
            ("my_terms.py:6", "placement = 'loss'"),
        ),
        (
            "from fr.tasks.task import TASKS\nTASKS.register('gcd')(int)\n",
            ("my_terms.py:2", "task 'gcd' is registered twice: fr/tasks/"),
        ),
        (
            "from fr.evaluation.measures import register_measure as r\nr('votes')(int)",
            ("my_terms.py:2", "measure 'votes' is registered twice: fr/evaluation/"),
        ),
    ],
)
def test_files_that_are_refused(tmp_path, text, words):
    file = tmp_path / "my_terms.py"
    if text is not None:
        file.write_text(text)
    else:
        (tmp_path / "my_term.py").write_text("")
    with pytest.raises(UserError) as error:
        user_modules.load([str(file)])
    line = str(error.value)
    assert line.startswith("--user_module=") and "\n" not in line
    assert all(word in line for word in words), line


def test_modules_that_cannot_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "brief.py", TERM)
    for name, said in (
        ("brief", "did you mean brief.py?"),
        ("no_such_lab.terms", "no module of this name is installed or on PYTHONPATH"),
        ("./", "is a folder"),
    ):
        with pytest.raises(UserError, match=said) as error:
            user_modules.load([name])
        assert str(error.value).startswith(f"--user_module={name}")


def test_a_name_of_two_files_is_refused_with_both_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one.py", TERM)
    write(tmp_path / "two.py", f"\n{TERM}")
    with pytest.raises(UserError, match="twice: one.py:6 and two.py:7"):
        user_modules.load(["one.py", "two.py"])


# What each stage uses: the names of one file, and the stages that a change of it ends.
USES = {
    "mine_term": {"rewards__terms": (("mine_term", 1.0),)},
    "mine_operator": {"intervention__operators": ("retry", "mine_operator@0.5")},
    "mine_trace": {"training__traces": (("mine_trace", 1.0),)},
    "mine_task": {"task__name": "mine_task"},
    "mine_measure": {"evaluation__measures": ("mine_measure",)},
    "mine_signal": {},
}
STAGES = ("ancestor", "specialist", "rollouts", "scores", "attempts", "evaluation")
ENDED = {
    "mine_term": {"specialist"},
    "mine_operator": {"attempts"},
    "mine_trace": {"specialist"},
    "mine_task": set(STAGES),
    "mine_measure": set(),
    "mine_signal": set(),
}


@pytest.mark.parametrize("name", USES)
def test_a_changed_text_ends_the_stages_that_use_it(tmp_path, monkeypatch, name):
    user_modules.load([write(tmp_path / "mine.py", ALL)])
    given = default()
    for setting, value in USES[name].items():
        group, field = setting.split("__")
        given[group][field] = value
    config = freeze(given)
    settings, before = as_dict(config), own_parts(config)
    assert [*before.get("own", {})] == [
        key for key in user_modules.fingerprints() if key.endswith(name)
    ] * bool(USES[name])
    for text in user_modules._TEXTS.values():
        monkeypatch.setitem(text, str(tmp_path / "mine.py"), b"changed")
    after, ended = own_parts(config), set()
    for stage in STAGES:
        folder = tmp_path / stage
        stages.begin(folder, stage, settings, before)
        stages.check(folder, settings, before)
        stages.check(folder, settings)
        try:
            stages.check(folder, settings, after)
        except UserError as error:
            ended.add(stage)
            assert f"{name!r} has changed since {stage}/ was made" in str(error)
            assert f"--redo={stage}" in str(error)
            stages.check(folder, settings, after, redo=[stage])
    assert ended == ENDED[name]


def test_a_study_is_bound_to_the_texts_of_each_arm(tmp_path, monkeypatch):
    user_modules.load([write(tmp_path / "mine.py", ALL)])
    terms = "(('correctness', 1.0), ('mine_term', 1.0))"
    arms = (("plain", ()), ("mine", (("rewards.terms", terms),)))
    config = Config(study=StudyConfig(arms=arms))
    claim_study(config, tmp_path / "study")
    claim_study(config, tmp_path / "study")
    for text in user_modules._TEXTS.values():
        monkeypatch.setitem(text, str(tmp_path / "mine.py"), b"changed")
    with pytest.raises(UserError, match="study/mine holds another run.*mine_term"):
        claim_study(config, tmp_path / "study")
    claim_study(Config(study=StudyConfig(arms=arms[:1])), tmp_path / "study")


def test_a_run_without_own_parts_has_the_inputs_of_before():
    assert own_parts(Config()) == {}


def test_a_function_of_a_file_runs_in_a_grader_process(tmp_path):
    text = f"{TERM}\n\ndef double(number):\n    return 2 * number\n"
    user_modules.load([write(tmp_path / "my_terms.py", text)])
    module = TERMS["short_answer"].fn.__module__
    pool = Bounded(f"{module}:double", workers=1)
    assert pool.call(21) == 42
    pool.close()


def test_names_of_a_config_are_checked_with_the_users(tmp_path):
    user_modules.load([write(tmp_path / "my_terms.py", TERM)])
    config = Config(rewards=RewardsConfig(terms=(("short_answer", 1.0),)))
    check_known(config)
    wrong = Config(rewards=RewardsConfig(terms=(("short_anwser", 1.0),)))
    with pytest.raises(UserError, match="did you mean 'short_answer'"):
        check_known(wrong)
