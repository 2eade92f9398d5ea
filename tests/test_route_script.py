"""`scripts/route.py` as a person runs it: files in, files out, one line for bad
input."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from PIL import Image
from synthetic_profiles import make, rows_of

from fr.config import Config, RoutingConfig
from fr.pipeline.route import route
from fr.profiles import OPERATORS, write_profiles
from fr.report.page import small_picture
from fr.report.render import render
from fr.routing.learned import LearnedRouter

ROOT = pathlib.Path(__file__).parents[1]


def run(*flags, code="scripts/route.py"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        *([code] if code.endswith(".py") else ["-c", code]),
        *flags,
    ]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )


def colours(png):
    """Counts of pixels and their colours."""
    return Image.open(io.BytesIO(png)).convert("RGB").getcolors(1 << 24)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "profiles.csv"
    cost = {name: 50.0 for name in ("retry_cost", "local_temp_cost", "diagnosis_cost")}
    lonely = make(problems=30, operators=("retry", "local_temp"), cell="lonely", **cost)
    write_profiles(path, [make(problems=30), lonely])
    return path


# As few fits as show that every part is there; the settings' own values are minutes of
# a busy machine.
SHORT = RoutingConfig(
    bootstrap=100,
    splits=10,
    folds=2,
    inner_folds=2,
    seeds=1,
    steps=20,
    penalties=(0.01,),
    nulls=19,
    splittings=1,
)


def test_tables_plots_and_json_by_the_profiles_of_a_run(profiles, tmp_path):
    (tmp_path / "profiles.csv").write_bytes(profiles.read_bytes())
    config = tmp_path.parent / "short.py"
    changed = "".join(
        f"    c.routing.{f} = {getattr(SHORT, f)!r}\n" for f in vars(SHORT)
    )
    config.write_text(
        "from fr.config import default\n\ndef get_config():\n    c = "
        f"default()\n{changed}    return c\n"
    )
    result = run(f"--config={config}", f"--workdir={tmp_path}")
    assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
    assert "model|task" in result.stdout
    text = (tmp_path / "routing.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    cells = found["cells"]
    assert [cell["cell"] for cell in cells] == ["model|task", "lonely"]
    assert str(tmp_path) not in text and str(profiles) not in text
    assert not rows_of(found["rows"], cell="lonely", policy="always_dense_steer")
    assert cells[0]["cost"] is None
    ruled = rows_of(
        found["curves"], cell="lonely", policy="rule_z_population", reference=None
    )
    assert ruled[0]["diagnosis"] == "paid" and ruled[0]["interval"]["value"] == 0
    names = sorted(
        path.name
        for path in tmp_path.rglob("*")
        if path.is_file() and not {"router", "schedule"} & {*path.parts}
    )
    plots = ["landscape_lonely.png", "landscape_model_task.png", "cost_lonely.png"]
    assert names == sorted(
        [*plots, "declaration.json", "profiles.csv", "report.html", "routing.json"]
    )
    # Four cells have four such pictures, in base64, beside 116 kB of tables: at most
    # 300 kB together; and each colour of dots is still one.
    landscape = (tmp_path / "plots" / "landscape_model_task.png").read_bytes()
    small = small_picture(landscape)
    assert len(small) <= 34_000
    kept = [colour for _, colour in colours(small)]
    dots = [c for n, c in colours(landscape) if n >= 100 and max(c) - min(c) >= 80]
    assert len(dots) >= 3
    for dot in dots:
        near = min(max(abs(a - b) for a, b in zip(dot, other)) for other in kept)
        assert near <= 50, dot
    heads = re.findall(r"── (.*)", result.stdout)
    assert heads[:3] == [
        "What was found",
        *("Is there anything to route", "What it costs"),
    ]
    assert "verdict: " in result.stdout and "learned router" in result.stdout
    assert len(result.stdout.splitlines()) <= 60
    assert "leave one family out" not in result.stdout and "Labels" not in heads
    assert LearnedRouter.restore(tmp_path / "router").operators == OPERATORS

    # Again, by another process from another folder: the same bytes.
    again = tmp_path / "again"
    summary = route([profiles], Config(routing=SHORT), again, learned=True)
    assert render("routing", summary, full=False) in result.stdout
    every = render("routing", summary)
    assert "leave one family out" in every and "── Labels" in every
    assert "split halves" in every and "Holm p" in every
    assert "without sparse_steer, sparse_steer_random, dense_steer" in every
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
    assert (
        result.stderr.count("\n") == 1
        and "bad.csv" in result.stderr
        and told in result.stderr
    )
    assert not out.exists()


def test_without_workdir_it_says_so():
    result = run("--profiles=a.csv")
    assert result.returncode == 2 and "--workdir is missing" in result.stderr


def test_without_learned_routers_nothing_waits_for_jax(profiles, tmp_path):
    code = (
        "import sys; from fr.config import Config; from fr.pipeline.route import "
        "route; "
        f"route([{str(profiles)!r}], Config(), {str(tmp_path)!r}); sys.exit('jax' in "
        "sys.modules)"
    )
    assert run(code=code).returncode == 0
    assert (
        run(f"--profiles={profiles}", "--nolearned", f"--workdir={tmp_path}").returncode
        == 0
    )
    assert not (tmp_path / "router").exists()


def test_every_comparison_is_a_row(profiles, tmp_path):
    summary = route([profiles], Config(routing=SHORT), tmp_path)
    rates = [row for row in summary["rows"] if "reference" not in row]
    comparisons = [row for row in summary["rows"] if "reference" in row]
    always = {"protocol", "population", "cell", "policy", "interval", "n"}
    compared = always | {
        "reference",
        "p",
        "p_holm",
        "cost",
        "kept",
        "folds",
        "detectable",
    }
    rated = always | {
        "cost",
        "cost_per_rescue",
        "route_entropy",
        "departures",
        "routes",
    }
    assert all(always <= row.keys() <= rated for row in rates)
    assert all(always <= row.keys() <= compared for row in comparisons)
    protocols = {row["protocol"] for row in comparisons}
    assert protocols == {
        "source",
        "split_halves",
        "kfold",
        "leave_cell_out",
        "leave_family_out",
    }
    for row in comparisons:
        value, low, high = (row["interval"][end] for end in ("value", "low", "high"))
        assert low is None or low <= value + 1e-6 and value <= high + 1e-6
        assert ("p" in row) == (low is not None)
    for row in rates:
        if row["protocol"] in ("source", "split_halves"):
            continue
        assert (
            row["policy"] == "random_operator"
            or sum(row["routes"].values()) == row["n"]
        )
        assert row["policy"] != "best_fixed_per_cell" or row["departures"] == 0
        value, cost = row["interval"]["value"], row.get("cost")
        known = cost and value
        assert not known or row["cost_per_rescue"] == pytest.approx(
            100 * cost / value, rel=1e-4
        )
    # Reading the failures is charged to those that read them.
    costs = {
        row["policy"]: row["cost"]
        for row in rates
        if row["cell"] == "lonely" and "cost" in row
    }
    assert costs["rule"] == 100 and costs["retry"] == costs["best_fixed_per_cell"] == 50


def intervals(value, path="") -> list[str]:
    """Places where an end of an interval is not spelled as one, anywhere in a JSON
    value.
    """
    if isinstance(value, list):
        return [
            place for i, v in enumerate(value) for place in intervals(v, f"{path}[{i}]")
        ]
    if not isinstance(value, dict):
        return []
    bad = (
        [path]
        if {"low", "high"} & value.keys() and value.keys() != {"value", "low", "high"}
        else []
    )
    return bad + [
        place for name, v in value.items() for place in intervals(v, f"{path}.{name}")
    ]


def test_an_interval_has_one_spelling(profiles, tmp_path):
    summary = route([profiles], Config(routing=SHORT), tmp_path, learned=True)
    assert intervals({"a": [{"low": 1, "high": 2}]}) == [".a[0]"]
    assert intervals({"a": {"value": 1, "low": 1, "high": 2}}) == []
    mine = {
        name: table
        for name, table in summary.items()
        if name not in ("clusters", "audit")
    }
    assert intervals(mine) == [] and summary["schema"] == 2


def test_an_old_flag_is_refused_with_the_new_one(tmp_path):
    result = run("--nohead", f"--workdir={tmp_path}")
    assert result.returncode == 2 and "--head is now --learned" in result.stderr


def test_a_table_without_a_line_of_the_rule_is_judged_without_it(tmp_path, capsys):
    path = tmp_path / "profiles.csv"
    costs = {f"{name}_cost": 50.0 for name in ("retry", "hot", "diagnosis")}
    more = {"entropy_mean": 1.5, "entropy_mena": 2.5, "spread_1e-2": 0.1}
    more |= {"note": "by hand", "empty": ""}
    write_profiles(
        path, [make(problems=30, operators=("retry", "hot"), **costs, **more)]
    )
    summary = route([path], Config(routing=SHORT), tmp_path)
    # A signal, a misspelt name, a spread (a feature by tolerance) and two texts.
    warned = [line for line in capsys.readouterr().err.splitlines() if "warn" in line]
    assert len(warned) == 1 and "no router reads entropy_mena: not" in warned[0]
    assert "the rule has no line and retries every failure" in " ".join(
        render("routing", summary).split()
    )
    policies = {row["policy"] for row in rows_of(summary["rows"], protocol="kfold")}
    assert "rule" not in policies and "best_fixed_per_cell" in policies
