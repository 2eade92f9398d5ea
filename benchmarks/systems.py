"""The parent's side of the protocol: a process for each system, asked for one job at a time."""

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from fr.errors import UserError

DRIVERS = Path(__file__).parent / "peers"
PEERS = ("transformers", "llama_cpp", "tunix")  # they sample: a verdict needs them all
LEARNERS = ("trl",)  # they make updates


class SystemFailed(Exception):
    """A system's process ended or said nothing sensible; the message is its last line on stderr."""


@dataclasses.dataclass(frozen=True)
class Command:
    """How a system is started: its name, its interpreter and the file of its driver."""

    name: str
    python: str
    driver: Path


def peer_command(flag: str) -> Command:
    """The peer that `name:/path/to/python` names; raises UserError for an unknown one and for a missing file."""
    name, _, python = flag.partition(":")
    if name not in (*PEERS, *LEARNERS):
        known = ", ".join((*PEERS, *LEARNERS))
        raise UserError(f"--peer={flag}: {name!r} is no peer; there are: {known}")
    if not os.access(python, os.X_OK):
        raise UserError(
            f"--peer={flag}: there is no interpreter; benchmarks/make_peers.sh FOLDER makes the peers' and "
            "prints the flags"
        )
    return Command(name, python, DRIVERS / f"{name}_peer.py")


class System:
    """A running driver. Every method raises SystemFailed once its process is gone."""

    def __init__(self, command: Command, settings: dict):
        self.name = command.name
        self._errors = tempfile.TemporaryFile()
        # On a GPU several processes share the memory that JAX would take whole at its start.
        environment = {
            **os.environ,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTHONPATH": str(DRIVERS.parents[1]),
        }
        self._process = subprocess.Popen(
            [command.python, str(command.driver)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.about = self.ask(settings)["about"]

    def ask(self, request: dict) -> dict:
        """Send one line, wait for one line."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            raise SystemFailed(self._last_words())
        return json.loads(reply)

    def stop(self) -> None:
        """End the process; it is not waited for longer than a few seconds."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return lines[-1].strip() if lines else f"ended with exit code {status}"
