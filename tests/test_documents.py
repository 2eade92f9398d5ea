"""README and docs: every block of code is run or checked, and no table is stale."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pyarrow as pa
import pytest
from page_blocks import ROOT, all_blocks, blocks, commands, pages

DOCS = ROOT / "docs"
_FILES = (".py", ".json", ".jsonl", ".html")  # of names of files
GENERATE = DOCS / "generate"


def run(words: list, cwd: pathlib.Path, **more) -> subprocess.CompletedProcess:
    """A python command with this checkout on its path."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    given = {"capture_output": True, "text": True, "cwd": cwd, "env": env}
    return subprocess.run([sys.executable, *map(str, words)], **given, **more)


# ------------------------------------------------------------------ python
def test_python_blocks_run(tmp_path, monkeypatch, stored_runs):
    """A page's blocks share a namespace, and may continue README's."""
    monkeypatch.chdir(stored_runs)
    known: dict[str, dict] = {}
    for page in pages():
        space: dict = {"__name__": page.stem}
        for block in blocks(page):
            if block.language != "python" or block.title:
                continue
            if block.code in known:
                space = dict(known[block.code])
                continue
            try:
                exec(compile(block.code, str(block), "exec"), space)
            except Exception as error:
                raise AssertionError(f"{block}: {error!r}") from error
            known[block.code] = space


@pytest.fixture(scope="module")
def stored_runs(tmp_path_factory) -> pathlib.Path:
    """A folder with `runs/`, whose stores have all columns that real ones have."""
    from test_store import ATTEMPTS

    from fr import store

    folder = tmp_path_factory.mktemp("pages")
    count = len(ATTEMPTS)
    more = {"step": pa.array([0] * count), "reward": pa.array([0.5] * count)}
    for name in ("quickstart/attempts", "grpo/specialist/rollouts-train"):
        store.write_shard(folder / "runs" / name, 0, ATTEMPTS, more)
    return folder


# -------------------------------------------------------------------- bash
def test_every_command_is_checked(tmp_path):
    """Flags are parsed and configs loaded by the scripts themselves."""
    scripts, wrong = [], []
    for name in ("scripts", "benchmarks", "configs", "docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in all_blocks("python"):
        if block.title:
            (tmp_path / block.title).write_text(block.code)
    for block in all_blocks("bash"):
        for words in commands(block.code):
            if script := script_of(words):
                scripts.append((block, script))
            elif error := fault_of(words):
                wrong.append(f"{block}: {' '.join(words)}: {error}")
    given = json.dumps([words for _, words in scripts])
    done = run([ROOT / "tests/check_flags.py"], tmp_path, input=given)
    assert done.returncode == 0, done.stderr
    for (block, words), error in zip(scripts, json.loads(done.stdout), strict=True):
        if error:
            wrong.append(f"{block}: {words}: {error}")
    assert not wrong, "\n".join(wrong)


def script_of(words: list[str]) -> list[str]:
    """[path, flag, ...] of a command that is one of our scripts; [] of others."""
    program = pathlib.PurePath(words[0]).name
    if program == "fr" and len(words) > 1:
        words = [f"scripts/{words[1]}.py", *words[2:]]
    elif program in ("python", "python3") and words[1] == "-m":
        name = words[2].replace(".", "/")
        name = f"{name}/__main__" if (ROOT / name).is_dir() else name
        words = [f"{name}.py", *words[3:]]
    elif program in ("python", "python3"):
        words = words[1:]
    path = ROOT / words[0]
    ours = path.suffix == ".py" and path.exists() and "cli.run(" in path.read_text()
    return words if ours else []


def fault_of(words: list[str]) -> str:
    """The fault of a command that is not a script of ours; "" if it may be right."""
    program = pathlib.PurePath(words[0]).name
    if program in ("python", "python3"):
        if words[1] == "-m":
            program, words = words[2], words[2:]
        elif words[1] in {block.title for block in all_blocks("python")}:
            return ""  # tests/test_extending.py runs it
        elif not (ROOT / words[1]).exists():
            return "there is no such file"
        else:
            return ""
        if words[0].startswith("benchmarks"):  # one without flags of absl
            path = words[0].replace(".", "/") + ".py"
            return "" if (ROOT / path).exists() else f"there is no {path}"
    if program == "pytest":
        return _fault_of_pytest(words[1:])
    if program == "pip":
        return _fault_of_pip(words[1:])
    if program in ("venv", "git", "cd", "mkdocs", "pre-commit", "ruff", "mypy"):
        return ""
    if program in ("docker", "kubectl", "sbatch"):
        files = [word for word in words[1:] if word.startswith("docs/")]
        return "" if all((ROOT / f).is_file() for f in files) else "no such template"
    if (ROOT / words[0]).is_file():
        return ""
    return "no check knows this command"


def _fault_of_pytest(words: list[str]) -> str:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    known = [line.split(":")[0] for line in settings["ini_options"]["markers"]]
    for i, word in enumerate(words):
        if word == "-m":
            names = set(re.findall(r"\w+", words[i + 1])) - {"or", "and", "not"}
            if missing := names - set(known):
                return f"there is no marker {missing}"
        elif word.startswith("tests/"):
            if not (ROOT / word.split("::")[0]).exists():
                return f"there is no {word}"
    return ""


def _fault_of_pip(words: list[str]) -> str:
    extras = re.findall(r"\.\[([\w,]+)\]", " ".join(words))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    missing = [e for given in extras for e in given.split(",") if e not in known]
    return f"there is no extra {missing}" if missing else ""


def test_a_wrong_command_is_seen(tmp_path):
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    config = "--config=configs/quickstart.py"
    given = [
        ["scripts/sample.py", config, "--workdir=w"],
        ["scripts/sample.py", config, "--workdir=w", "--config.task.prblems=2"],
        ["scripts/sample.py", config, "--workdir=w", "--wrkdir=x"],
        ["scripts/reproduce.py", config, "--workdir=w"]
        + ["--config.intervention.operators=('retry','hottr')"],
        ["scripts/sample.py", "--config=configs/none.py", "--workdir=w"],
    ]
    done = run([ROOT / "tests/check_flags.py"], tmp_path, input=json.dumps(given))
    good, *wrong = json.loads(done.stdout)
    assert good == "" and all(wrong), done.stderr
    assert "problems" in wrong[0] and "wrkdir" in wrong[1] and "hottr" in wrong[2]
    assert fault_of(["pytest", "tests/test_none.py"]) and fault_of(["frobnicate"])
    assert fault_of(["pip", "install", "-e", ".[none]"])


# ------------------------------------------------------- text, json and csv
def test_printed_lines_are_those_of_the_stored_report():
    checked = 0
    for block in all_blocks("text"):
        name = block.note("printed")
        if name is None:
            continue
        stored = (DOCS / "results" / "data" / name).read_text().splitlines()
        for line in filter(str.strip, block.code.splitlines()):
            assert line in stored, f"{block}: {line}"
            checked += 1
    assert checked > 20


def shape(line: str) -> str:
    """A printed line without its numbers and bars."""
    return " ".join(re.sub(r"[\d.,+−%\[\]·├┤●┊─]+", " ", line).split())


@pytest.mark.slow
def test_the_quickstart_prints_lines_of_that_shape(tmp_path):
    """README's command, with a folder of its own; other machines round otherwise."""
    given = ["--config=configs/quickstart.py", f"--workdir={tmp_path}/run"]
    done = run(["scripts/reproduce.py", *given, "--full"], ROOT)
    assert done.returncode == 0, done.stderr
    printed = {shape(line) for line in done.stdout.splitlines()}
    for block in all_blocks("text"):
        if block.note("printed") == "quickstart.txt":
            lines = {shape(line) for line in block.code.splitlines()}
            assert not lines - printed, str(block)


def test_the_plain_prompt_is_that_of_the_page(tmp_path):
    from fr import tasks
    from fr.config import TaskConfig
    from fr.prompts import plain_text

    worked = "It is one more than 1.\n#### 2"
    rows = [
        {"question": "What is 1 + 1?", "answer": worked, "split": "train"},
        {"question": "What is 3 + 4?", "answer": 7, "split": "test"},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = tasks.make(TaskConfig(name="questions", path=str(path), shots=1))
    prompt = plain_text(task.prompt(task.problems("test", 1)[0]))
    (block,) = (b for b in all_blocks("text") if b.note("printed") is None)
    assert (block.page, block.code) == ("docs/tasks.md", prompt + "\n")


@pytest.mark.parametrize("language", ["json", "csv"])
def test_question_files_of_the_page_load(language, tmp_path):
    from fr import tasks
    from fr.config import TaskConfig

    (block,) = all_blocks(language)
    path = tmp_path / {"json": "q.jsonl", "csv": "q.csv"}[language]
    path.write_text(block.code)
    task = tasks.make(TaskConfig(name="questions", path=str(path)))
    assert task.problems("test")[0].answer == "7"


# ------------------------------------------------------- what is generated
@pytest.mark.parametrize("name", ["render", "configuration"])
def test_generated_pages_are_current(name):
    done = run([GENERATE / f"{name}.py", "--check"], ROOT)
    assert done.returncode == 0, (
        f"run docs/generate/{name}.py: {done.stdout}{done.stderr}"
    )


def test_figures_are_of_the_current_data(monkeypatch):
    monkeypatch.syspath_prepend(str(GENERATE))
    import figures

    for name, (data, _) in figures.DRAWINGS.items():
        drawn = (figures.FIGURES / name).read_text()
        assert figures.digest(data()) in drawn, f"run docs/generate/figures.py: {name}"


def test_a_table_follows_its_data(monkeypatch):
    monkeypatch.syspath_prepend(str(GENERATE))
    import render

    page = "<!-- table: glance -->\nold\n<!-- end of table -->\n"
    assert "old" not in render.render(page) and "planted" in render.render(page)


# ------------------------------------------------------------------- sizes
def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150 and len(text.encode()) <= 8192
    assert text.count("![") == 1
    glance = re.search(r"<!-- table: glance -->\n(.*?)<!-- end", text, re.S)[1]
    assert len(glance.splitlines()) == 2 + 6


def test_pages_are_short():
    long = {}
    for page in DOCS.rglob("*.md"):
        if (count := len(page.read_text().splitlines())) > 150:
            long[str(page.relative_to(ROOT))] = count
    assert not long


def test_readme_names_every_room():
    text = (ROOT / "README.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "fr").glob("*/__init__.py")}
    assert set(re.findall(r"`fr/(\w+)`", text)) == rooms


def test_docs_build_without_a_warning(tmp_path):
    pytest.importorskip("material")
    done = run(["-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_that_pages_name_exist():
    """Paths in backticks, below a folder of the repository."""
    folders = ("fr", "tests", "scripts", "configs", "benchmarks", "docs")
    named = re.compile(rf"`((?:{'|'.join(folders)})/[\w./-]+\.\w+)`")
    missing = []
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in named.findall(page.read_text()):
            if not (ROOT / name).exists():
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing


def test_settings_that_pages_name_exist():

    from fr.config import Config, as_dict
    from fr.config.reads import flat

    known = flat(as_dict(Config())) | {"study.arms": None}
    groups = {name.split(".")[0] for name in known if "." in name} - {"study"}
    named = re.compile(rf"`(?:config\.)?((?:{'|'.join(sorted(groups))})\.\w+)[`= ]")
    missing = []
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in named.findall(page.read_text()):
            if name not in known and not name.endswith(_FILES):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing


def test_links_of_the_root_pages_lead_to_files():
    missing = []
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (ROOT / target).exists():
                missing.append(f"{page.name}: {target}")
    assert not missing
