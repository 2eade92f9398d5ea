"""Ctrl-C and SIGTERM end a run with one line and their own exit code, also where Python
swallows exceptions.
"""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = """
import gc, sys, time
from fr import cli
cli.define_flags()

def swallow(phase, info):
    print("in the collector", flush=True)
    time.sleep(30)

def main():
    kind = cli.flags.FLAGS.workdir.rpartition("/")[2]
    if kind == "collector":
        gc.callbacks.append(swallow)
        gc.collect()
        gc.callbacks.remove(swallow)
        time.sleep(30)
    if kind == "stubborn":
        told = "ready"
        while True:
            try:
                print(told, flush=True)
                time.sleep(30)
            except KeyboardInterrupt:
                told = "caught"
    if kind == "writing":
        from fr import workdir
        print("ready", flush=True)
        while True:
            workdir.write_whole(cli.flags.FLAGS.workdir + "/file", b"x" * 10**7)
    print("ready", flush=True)
    time.sleep(30)

cli.run(main)
"""


def start(tmp_path, kind):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "script.py", f"--workdir={tmp_path / kind}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup and in the background of a shell SIGINT is ignored, and children
        # inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdout.readline()
    return process


def end(process, number):
    process.send_signal(number)
    try:
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, told.splitlines()


@pytest.mark.parametrize("kind", ["plain", "collector", "writing"])
def test_ctrl_c_is_one_line_and_130(tmp_path, kind):
    code, lines = end(start(tmp_path, kind), signal.SIGINT)
    assert code == 130
    line = "script.py: stopped by Ctrl-C; what is finished is kept, "
    line += "the same command goes on from there"
    assert lines == [line]
    left = os.listdir(tmp_path / kind) if (tmp_path / kind).exists() else []
    assert left in ([], ["file"])


def test_sigterm_is_one_line_and_143(tmp_path):
    code, lines = end(start(tmp_path, "plain"), signal.SIGTERM)
    assert (code, len(lines)) == (143, 1) and "stopped by SIGTERM" in lines[0]


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    process = start(tmp_path, "stubborn")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "caught\n"
    code, lines = end(process, signal.SIGINT)
    assert code == 130 and "stopped at once" in lines[-1]
