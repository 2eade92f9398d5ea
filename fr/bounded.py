"""Calls to code that may hang, crash or eat memory, in a bounded pool of processes with a time limit.

The workers are started by `python -m`, not by multiprocessing: its children run the parent's script again,
jax and all, and a time-out in a thread cannot stop anything.
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
    """The called function raised, hung or died: says nothing about its argument."""


class OutOfTime(GraderFailure):
    """The called function used up its processor time or memory: its argument was too much for it."""


class Bounded:
    """`call(*args)` runs `module:function` on JSON-able arguments in one of at most `workers` processes.

    A call that spends `seconds` of processor time raises OutOfTime, and so does one that needs more than
    `memory` bytes. One that passes three times as many on the clock without spending them (the machine is busy),
    or kills its process, is tried once more in a fresh process, then raises GraderFailure. A call that raises
    raises GraderFailure at once. Safe to use from threads.
    """

    def __init__(
        self,
        target: str,
        seconds: float = 10.0,
        workers: int | None = None,
        memory: int = 4 << 30,
    ):
        self.target, self.seconds, self.memory = target, seconds, memory
        self.workers = workers or min(4, os.cpu_count() or 1)
        self._idle: queue.LifoQueue = queue.LifoQueue()
        for _ in range(self.workers):
            self._idle.put(None)  # a place; its process starts when it is first used
        atexit.register(self.close)

    def call(self, *args):
        """The function's JSON-able result; raises GraderFailure."""
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
            # An interrupted worker would answer the next call with the reply to this one.
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
        """Start a process that a later call will find ready, without waiting for it."""
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            return
        self._idle.put(worker or self._start())

    def _start(self) -> "_Worker":
        return _Worker(self.target, self.seconds, self.memory)

    def close(self) -> None:
        """Stop the processes that are idle; the next call starts new ones."""
        places = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for worker in places:
            if worker:
                worker.stop()
            self._idle.put(None)


class _Gone(Exception):
    """A worker that hung or died; `spent`: it had worked all the time that it was given."""

    def __init__(self, why: str, spent: bool = False):
        super().__init__(why)
        self.spent = spent


class _Worker:
    def __init__(self, target: str, seconds: float, memory: int):
        self.seconds, self.ready = seconds, False
        # -P: the worker sees what the parent sees, and not the current folder before it
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.process = subprocess.Popen(
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
            # One order of a set's members in every process: some makers of problems depend on it.
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )

    def ask(self, args) -> dict:
        if not self.ready:
            self._reply(START_SECONDS)
            self.ready = True
        try:
            self.process.stdin.write(json.dumps(args).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise _Gone("the process had ended") from None
        return self._reply(self.seconds, patience=3)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        # what a dead process did not read has nowhere to go
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def _reply(self, seconds: float, patience: int = 1) -> dict:
        """One line of the process: it has `seconds` of processor time, and on the clock `patience` times as much."""
        before, started = _processor_seconds(self.process.pid), time.monotonic()
        # A reply is written in one piece and short, so a ready pipe holds a whole line or the end.
        while not wait([self.process.stdout], seconds / 2):
            spent = _processor_seconds(self.process.pid) - before
            # the worker stops itself first where it can
            if (
                spent > 1.25 * seconds
                or time.monotonic() - started >= patience * seconds
            ):
                raise _Gone(f"no answer in {seconds:g} s", spent > seconds / 2)
        line = self.process.stdout.readline()
        if not line:
            raise _Gone("the process ended")
        return json.loads(line)


def _processor_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
