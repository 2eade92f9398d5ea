"""The demo: what it prints, without jax; coloured text that no model output breaks."""

import io
import json
import os
import re
import resource
import subprocess
import sys
import zipfile

import pytest
from page_blocks import ROOT

from fr.layout.coloured import shows_colours, to_coloured
from fr.layout.tables import Passage
from fr.layout.text import WIDTH

CODES = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> str:
    """The demo's output, run elsewhere; its last line says which modules were there."""
    script = str(ROOT / "scripts" / "demo.py")
    code = "import json, runpy, sys\nsys.argv = ['demo.py']\n"
    code += f"try: runpy.run_path({script!r}, run_name='__main__')\n"
    code += "finally: print(json.dumps(sorted(sys.modules)))"
    folder = tmp_path_factory.mktemp("demo")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 15
    assert not list(folder.iterdir()) and not done.stderr
    return done.stdout


def test_it_prints_a_verdict_a_table_and_a_trace_without_jax(printed):
    *lines, modules = printed.splitlines()
    loaded = set(json.loads(modules))
    assert not loaded & {"jax", "jaxlib", "flax", "transformers", "duckdb"}
    assert len(lines) <= 60 and max(map(len, lines)) <= WIDTH
    assert lines[2].startswith("  verdict: ")
    assert any(
        re.match(r"  best fixed, per model and task +6\d\.\d \[", x) for x in lines
    )
    assert any(
        "24 - 5 = 19 yes ◂ junction" in line.replace("[", "").replace("]", "")
        for line in lines
    )
    assert "\x1b" not in printed


def test_its_data_are_small_in_a_wheel():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in (ROOT / "fr" / "assets" / "demo").iterdir():
            wheel.write(path, path.name)
    assert len(packed.getvalue()) <= 150_000


HOSTILE = "\x1b[2J\x1b]0;x\x07\x00\u202e\u200f\x9b31m<script>\r\x7f"


def bare(text: str) -> str:
    """The text as a terminal shows it."""
    return CODES.sub("", text)


@pytest.mark.parametrize("colours", [False, True])
def test_no_code_of_a_model_reaches_the_terminal(colours):
    parts = [(HOSTILE, 1.0, HOSTILE), (f"{HOSTILE}\n{HOSTILE}", 0.0, ""), ("", 0.3, "")]
    shown = to_coloured(Passage(parts, "shares"), colours)
    assert all(c.isprintable() or c == "\n" for c in bare(shown))
    assert bare(shown).count("␛[2J") == 4
    assert all(len(line) <= WIDTH for line in bare(shown).splitlines())


def test_shares_are_grounds_and_the_text_stays_the_same():
    words = [f" word{i}" for i in range(60)]
    parts = [(word, i / 59, "here" if i == 7 else "") for i, word in enumerate(words)]
    shown = to_coloured(Passage(parts, "what it is"), True)
    text, legend = bare(shown).split("\n\n")
    assert " ".join(text.split()) == "".join(words).strip().replace(
        " word7", " word7 ◂ here"
    )
    assert max(map(len, text.splitlines())) <= WIDTH and "from 17 %" in legend
    grounds = re.findall(r"48;5;(\d+);", shown.split("\n\n")[0])
    assert list(dict.fromkeys(grounds)) == ["189", "153", "75", "32", "25"]
    assert grounds.count("189") == grounds.count("32") == 10
    plain = to_coloured(Passage(parts, "what it is"), False)
    assert "word29 [word30]" in plain and "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= WIDTH


@pytest.mark.parametrize("text", ["x" * 1_000_000, "字" * 300, "a\n" * 9])
def test_long_and_wide_texts_keep_the_width(text):
    shown = to_coloured(Passage([(text, 0.9, ""), ("end", None, "")], "it"), True)
    wide = 2 if text[0] == "字" else 1
    lines = bare(shown).split("\n\n")[0].splitlines()
    assert max(len(line.strip()) * wide for line in lines) <= WIDTH
    assert len(shown) < 40_000
    if "\n" in text:
        assert [line.strip() for line in lines] == ["a"] * 9 + ["end"]


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert shows_colours(Terminal()) and not shows_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shows_colours(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_colours(Terminal())
