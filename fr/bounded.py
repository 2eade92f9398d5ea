"""Calls of code that may hang, crash or need too much memory, in a bounded pool of
processes.

Workers are started by `python -m`, not by multiprocessing: its children run the
parent's script again, jax included, and a time-out in a thread cannot stop anything.
"""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from multiprocessing.connection import wait

START_SECONDS = 120.0  # to import the function's module, on a machine that is busy


class GraderFailure(Exception):
    """The called function raised, hung or died, which says nothing about its
    argument."""


class OutOfTime(GraderFailure):
    """The called function used up its processor time or memory on this argument."""


class Bounded:
    """Runs `module:function` on JSON-able arguments in one of several processes.

    A call that spends `seconds` of processor time or needs more than `memory` bytes
    raises OutOfTime. A call that takes three times as long on the clock without
    spending that time (the machine is busy), or whose process dies, is tried once more
    in a fresh process, then raises GraderFailure. A call that raises, raises
    GraderFailure at once. Calls may come from several threads.
    """

    def __init__(
        self,
        target: str,
        seconds: float = 10.0,
        workers: int | None = None,
        memory: int = 4 << 30,
    ):
        """Prepare the pool; processes start at first use.

        Args:
          target: "module:function".
          seconds: of processor time per call.
          workers: most processes; None: as many as cores, at most 4.
          memory: bytes per process beyond its imports.
        """
        self.target, self.seconds, self.memory = target, seconds, memory
        self.workers = workers or min(4, os.cpu_count() or 1)
        self._idle: queue.LifoQueue = queue.LifoQueue()
        for _ in range(self.workers):
            self._idle.put(None)  # a place; its process starts at first use
        atexit.register(self.close)

    def call(self, *args):
        """Call the function.

        Args:
          *args: JSON-able.

        Returns:
          The function's JSON-able result.

        Raises:
          GraderFailure: the function raised, hung or died.
          OutOfTime: it used up its time or memory.
        """
        worker = self._idle.get()
        try:
            for last in (False, True):
                try:
                    worker = worker or self._start()
                    reply = worker.ask(args)
                    break
                except _Gone as error:
                    worker = worker and worker.stop()
                    if error.spent:
                        raise OutOfTime(f"{self.target}: {error}") from error
                    if last:
                        raise GraderFailure(f"{self.target}: {error}") from error
        except BaseException:
            # An interrupted worker would answer the next call with this call's reply.
            worker = worker and worker.stop()
            raise
        finally:
            self._idle.put(worker)
        if "limit" in reply:
            raise OutOfTime(f"{self.target}: {reply['limit']}")
        if "error" in reply:
            raise GraderFailure(f"{self.target}: {reply['error']}")
        return reply["value"]

    def warm(self) -> None:
        """Start a process for a later call, without waiting for it."""
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            return
        self._idle.put(worker or self._start())

    def _start(self) -> "_Worker":
        return _Worker(self.target, self.seconds, self.memory)

    def close(self) -> None:
        """Stop the idle processes; the next call starts new ones."""
        places = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for worker in places:
            if worker:
                worker.stop()
            self._idle.put(None)


class _Gone(Exception):
    """A worker hung or died; `spent`: it had used all of its processor time."""

    def __init__(self, why: str, spent: bool = False):
        super().__init__(why)
        self.spent = spent


class _Worker:
    def __init__(self, target: str, seconds: float, memory: int):
        self.seconds, self.ready = seconds, False
        # -P: the worker has the parent's path, without the current folder before it.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "fr.worker",
                target,
                str(seconds),
                str(memory),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Some problem generators depend on the order of a set's members.
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )
        assert process.stdin is not None and process.stdout is not None
        self.process, self.input, self.output = process, process.stdin, process.stdout

    def ask(self, args) -> dict:
        if not self.ready:
            self._reply(START_SECONDS)
            self.ready = True
        try:
            self.input.write(json.dumps(args).encode() + b"\n")
            self.input.flush()
        except BrokenPipeError:
            raise _Gone("the process had ended") from None
        return self._reply(self.seconds, patience=3)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()
        # A dead process leaves input unread.
        with contextlib.suppress(BrokenPipeError):
            self.input.close()

    def _reply(self, seconds: float, patience: int = 1) -> dict:
        """One line of the process, within `seconds` of processor time and `patience`
        times that."""
        before, started = _processor_seconds(self.process.pid), time.monotonic()
        # A reply is written in one piece and short, so a ready pipe holds a whole line
        # or the end.
        while not wait([self.output.fileno()], seconds / 2):
            spent = _processor_seconds(self.process.pid) - before
            # The worker stops itself first where it can.
            if (
                spent > 1.25 * seconds
                or time.monotonic() - started >= patience * seconds
            ):
                raise _Gone(f"no answer in {seconds:g} s", spent > seconds / 2)
        line = self.output.readline()
        if not line:
            raise _Gone("the process ended")
        return json.loads(line)


def _processor_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 where the system does not report it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
