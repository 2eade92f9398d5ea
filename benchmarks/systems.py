"""The parent's side of the protocol: one process per system, one job at a time."""

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
    """A system's process ended or sent no reply; the message is its last error line."""


@dataclasses.dataclass(frozen=True)
class Command:
    """Start of a system: name, interpreter and driver."""

    name: str  # of the system
    python: str  # path of its interpreter
    driver: Path  # the file that it runs


def peer_command(flag: str) -> Command:
    """Parse a --peer flag.

    Args:
        flag: `name:/path/to/python`.

    Returns:
        The peer's command.

    Raises:
        UserError: for an unknown name or a missing file.
    """
    name, _, python = flag.partition(":")
    if name not in (*PEERS, *LEARNERS):
        known = ", ".join((*PEERS, *LEARNERS))
        raise UserError(f"--peer={flag}: {name!r} is not a peer; there are: {known}")
    if not os.access(python, os.X_OK):
        raise UserError(
            f"--peer={flag}: there is no interpreter; benchmarks/make_peers.sh FOLDER "
            "makes the peers' and "
            "prints the flags"
        )
    return Command(name, python, DRIVERS / f"{name}_peer.py")


class System:
    """A running driver. Every method raises SystemFailed once its process is gone."""

    def __init__(self, command: Command, settings: dict):
        self.name = command.name
        self._errors = tempfile.TemporaryFile()
        # On a GPU several processes share the memory that JAX would take whole at its
        # start.
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
        """Send one line and wait for one line.

        Args:
            request: the job.

        Returns:
            The reply.

        Raises:
            SystemFailed: if the process is gone.
        """
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
        """End the process, after at most ten seconds by force."""
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
