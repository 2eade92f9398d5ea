"""Every study of configs/studies: its forms are valid, and the short one runs."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tomllib

import pytest

from fr.config import freeze
from fr.evaluation import study

ROOT = pathlib.Path(__file__).parent.parent
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.py"))
FORMS = ("", "short", "pod")
NAMES = [path.stem for path in STUDIES]


def settings(path: pathlib.Path, form: str):
    """The study of a file, in one of its forms."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return freeze(module.get_config(form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_a_study_is_valid_and_declares_what_it_compares(path, form, tmp_path):
    config = settings(path, form)
    study.check_study(config)
    assert config.study.primary
    for arm, seed in study.jobs_of(config):
        if seed is not None:
            found = study.config_changes(config, tmp_path, arm, seed)
            assert found["seed"] == str(seed)
    assert study.arms_of(config) and study.tests_of(config)


def test_the_overview_has_every_study():
    words = ROOT / "docs" / "results" / "data" / "failure_modes.toml"
    assert set(tomllib.loads(words.read_text())) == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=NAMES)
def test_the_short_form_runs_and_runs_again_to_the_same_bytes(path, tmp_path):
    command = [sys.executable, ROOT / "scripts" / "study.py", f"--config={path}:short"]
    command += [f"--workdir={tmp_path}", "--jobs=2"]
    subprocess.run(command, check=True)
    first = (tmp_path / "study.json").read_bytes()
    found = json.loads(first)
    assert any(row["primary"] for row in found["differences"])
    subprocess.run(command, check=True)
    assert (tmp_path / "study.json").read_bytes() == first
