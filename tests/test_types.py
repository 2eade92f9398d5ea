"""mypy is clean on `fr/`, with the settings of pyproject.toml."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Rooms with errors left: they only shrink.
PENDING = {"root"}


@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="needs mypy")
def test_the_type_checker_is_clean(tmp_path):
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    room = lambda path: path.split("/")[1] if path.count("/") > 1 else "root"
    open_ = [line for line in errors if room(line.split(":")[0]) not in PENDING]
    assert not open_, "\n".join(open_)
