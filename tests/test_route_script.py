"""`scripts/route.py` as a person runs it: files in, files out, one line for bad input."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from synthetic_profiles import make

from fr.config import Config
from fr.pipeline.route import route
from fr.routing.profiles import write_profiles

ROOT = pathlib.Path(__file__).parents[1]


def run(*flags, code="scripts/route.py"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *([code] if code.endswith(".py") else ["-c", code]), *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "profiles.csv"
    cost = {name: 50.0 for name in ("retry_cost", "local_temp_cost", "diagnosis_cost")}
    lonely = make(problems=30, operators=("retry", "local_temp"), cell="lonely", **cost)
    write_profiles(path, [make(problems=30), lonely])
    return path


def test_tables_plots_and_json_need_no_config(profiles, tmp_path):
    (tmp_path / "profiles.csv").write_bytes(profiles.read_bytes())
    result = run(f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "model|task" in result.stdout and "split halves" in result.stdout and "Holm p" in result.stdout
    text = (tmp_path / "routing.json").read_text()
    cells = json.loads(text, parse_constant=pytest.fail)["cells"]
    assert [cell["cell"] for cell in cells] == ["model|task", "lonely"]
    assert str(tmp_path) not in text and str(profiles) not in text
    assert "without sparse_steer, sparse_steer_random, dense_steer" in result.stdout
    assert cells[1]["protocols"]["source"]["rates"]["dense_steer"] is None
    assert cells[0]["cost"] is None and cells[1]["cost"]["curve"][0]["solved"]["routed"] == 0
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    plots = [f"{kind}_{cell}.png" for kind in ("landscape", "rescue") for cell in ("lonely", "model_task")]
    assert names == sorted([*plots, "profiles.csv", "routing.json"])

    # Again, by another process from another folder: the same bytes.
    again = tmp_path / "again"
    result_again = route([profiles], Config(), again)
    assert "\n\n".join(result_again["tables"]) in result.stdout
    for name in ("routing.json", *(f"plots/{plot}" for plot in plots)):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes(), name


@pytest.mark.parametrize(
    "text, told",
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("cell,problem_id\na,b\n", "column 'n_failed_rollouts' is missing"),
    ],
)
def test_bad_input_is_one_line_code_2_and_no_files(text, told, tmp_path):
    bad, out = tmp_path / "bad.csv", tmp_path / "out"
    if text is not None:
        bad.write_text(text)
    result = run(f"--profiles={bad}", f"--workdir={out}")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "bad.csv" in result.stderr and told in result.stderr
    assert not out.exists()


def test_without_workdir_it_says_so():
    result = run("--profiles=a.csv")
    assert result.returncode == 2 and "--workdir is missing" in result.stderr


def test_routing_does_not_wait_for_jax():
    code = "import sys, fr.cli, fr.pipeline.route; sys.exit('jax' in sys.modules)"
    assert run(code=code).returncode == 0
