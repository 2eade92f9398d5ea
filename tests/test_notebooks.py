"""The tutorials run from their first cell to their last, in a folder of their own."""

import json
import os
import re
import subprocess
import sys

import pytest
from page_blocks import ROOT

from fr.config import Config, as_dict
from fr.config.reads import flat

NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
# Shows of figures would block.
_BEFORE = "import matplotlib\nmatplotlib.use('Agg')\n"


def code_of(path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def test_every_tutorial_is_listed():
    page = (ROOT / "docs/tutorials/index.md").read_text()
    assert len(NOTEBOOKS) == 3
    assert not [path.name for path in NOTEBOOKS if f"({path.name})" not in page]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_parses_and_imports_names_that_exist(path):
    code = "\n".join(code_of(path))
    compile(code, path.name, "exec")
    lines = [
        line for line in code.splitlines() if line.startswith(("import ", "from "))
    ]
    exec("\n".join(lines), {})
    known = flat(as_dict(Config()))
    assert not set(re.findall(r"--config\.([\w.]+)=", code)) - known.keys()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path):
    (tmp_path / "cells.py").write_text("\n".join([_BEFORE, *code_of(path)]))
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") > 3
