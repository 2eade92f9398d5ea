"""mypy is clean on `fr/`, with the settings of pyproject.toml."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="needs mypy")
def test_the_type_checker_is_clean(tmp_path):
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    assert not errors, "\n".join(errors)
