"""The wheel holds exactly what it runs, and runs away from the checkout."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TINY = {
    "task.problems": 6,
    "sampling.rollouts": 2,
    "sampling.slots": 8,
    "sampling.max_new_tokens": 32,
    "intervention.attempts": 2,
    "training.steps": 4,
    "training.batch": 4,
    "training.warmup_steps": 1,
    "routing.bootstrap": 20,
    "routing.splits": 4,
    "routing.permutations": 4,
}
OVERRIDES = [f"--config.{name}={value}" for name, value in TINY.items()]
QUICKSTART = ["--config=configs/quickstart.py", "--workdir=run", *OVERRIDES]


def run(command: list, cwd: pathlib.Path, **environment: str) -> str:
    """Output of a command; fails with it unless the exit code is 0."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """A wheel of the files that git tracks."""
    source = tmp_path_factory.mktemp("source")
    for name in run(["git", "ls-files"], ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run([*pip, "-q", "-w", source / "dist", "."], source)
    return next((source / "dist").iterdir())


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder with the installed wheel; its dependencies come from this process."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "-q"]
    run([*pip, "--target", folder, wheel], folder)
    return folder


def test_its_files_are_the_package_the_commands_and_their_configs(wheel):
    held = {n for n in zipfile.ZipFile(wheel).namelist() if "dist-info/" not in n}
    tracked = run(["git", "ls-files", "fr"], ROOT).splitlines()
    expected = {n for n in tracked if (ROOT / n).is_file()}
    for folder, inside in (("scripts", "commands"), ("configs", "configs")):
        expected |= {f"fr/{inside}/{p.name}" for p in (ROOT / folder).glob("*.py")}
    assert held == expected
    assert wheel.name.startswith("failed_reasoning-")


def test_its_files_import_what_it_depends_on(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"]]
    for extra in ("board", "gcs", "tasks", "view"):
        declared += project["optional-dependencies"][extra]
    plain = lambda name: re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()
    allowed = {plain(name) for name in declared} | {"jaxlib"}  # jax's own
    providers = metadata.packages_distributions()
    known = sys.stdlib_module_names | {"fr"}
    missing = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module]
                else:
                    continue
                for top in {module.split(".")[0] for module in modules} - known:
                    owners = {plain(owner) for owner in providers.get(top, [])}
                    if providers.get(top) and not owners & allowed:
                        missing.append(f"{name}: {top}")
                    if top in ("benchmarks", "tests"):
                        missing.append(f"{name}: {top}")
    assert not missing


def test_the_commands_run_from_elsewhere(site, tmp_path):
    at = {"PYTHONPATH": str(site)}
    fr = [sys.executable, "-m", "fr"]
    where = run([sys.executable, "-c", "import fr; print(fr.__file__)"], tmp_path, **at)
    assert where.startswith(str(site))
    assert "--workdir" in run([*fr, "reproduce", "--help"], tmp_path, **at)
    printed = run([*fr, "sample", "--model=countdown", *QUICKSTART], tmp_path, **at)
    assert "12 rollouts of 6 problems" in printed
    unknown = subprocess.run(
        [*fr, "reprodce"], cwd=tmp_path, capture_output=True, text=True
    )
    assert unknown.returncode == 2
    assert re.match(r"fr: unknown command 'reprodce'; .*reproduce", unknown.stderr)


@pytest.mark.slow
def test_the_main_job_runs_in_an_environment_of_its_own(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    run([bin_ / "pip", "install", "-q", wheel], tmp_path)
    assert "--workdir" in run([bin_ / "fr", "reproduce", "--help"], tmp_path)
    run([bin_ / "fr", "reproduce", *QUICKSTART], tmp_path)
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "summary.json").exists()
