"""A job of several processes on one `--workdir`: process 0 leads, and what ends one of them ends all."""

import atexit
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from fr.distributed import watchdog
from fr.distributed.collectives import FOREVER, GRACE, client, index, is_first, wait
from fr.errors import UserError
from fr.interrupts import Stopped

# On GPUs the tuning of kernels waits for every process to compile the same program: here each has its own.
OWN_FLAG = "--xla_gpu_shard_autotuning=false"

AGAIN = "start the same command again for every process: what is finished is kept"
PATIENCE = 3600  # seconds without any progress; a compilation or a shard of a large model takes minutes
_ENDING = "fr/ending"  # the key that a process writes when it fails, and process 0 when all is done


def settings(processes: str, process: int | None, coordinator: str | None) -> dict:
    """Arguments of `jax.distributed.initialize` from the flags; UserError where they do not fit together."""
    if processes == "auto":
        if process is not None or coordinator is not None:
            raise UserError(
                "--processes=auto finds out --process and --coordinator; leave them out"
            )
        return {}
    if not re.fullmatch("[1-9][0-9]*", processes):
        raise UserError(
            f"--processes = {processes!r} must be auto or the number of processes"
        )
    count = int(processes)
    if process is None or not 0 <= process < count:
        raise UserError(
            f"--process = {process} must be the number of this process, 0 to {count - 1}"
        )
    if not re.fullmatch(r"\S+:\d+", coordinator or ""):
        raise UserError(
            f"--coordinator = {coordinator!r} must be host:port of process 0"
        )
    return {
        "coordinator_address": coordinator,
        "num_processes": count,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


@contextlib.contextmanager
def job(given: dict, heartbeat: int, patience: int = PATIENCE) -> Iterator[None]:
    """Be one process of a job inside the block, which ends when every process has come to its end.

    `given` comes from `settings`; a process not heard of for `heartbeat` seconds counts as gone, and one
    that lives but has done nothing for `patience` seconds ends the job. What one process raises ends the others with
    one line. Call before anything else touches jax.
    """
    _watch(heartbeat)
    _connect(given, heartbeat)
    heeding = threading.Thread(target=_heed, daemon=True)
    heeding.start()
    watchdog.watch(patience, lambda why: _give_up(why, heeding))
    try:
        yield
        wait("end")
    except BaseException as error:
        time.sleep(_patience(error, heartbeat))
        _announce(error, heeding)
        # Behind the error's own line, and before jax's clean-up, which would wait for the others to finish.
        atexit.register(_leave, _code(error))
        raise
    if is_first():
        client().key_value_set(_ENDING, "")
    heeding.join(GRACE)


def _connect(given: dict, heartbeat: int) -> None:
    # That service takes SIGTERM for a notice, after which the process would go on.
    jax.config.update("jax_enable_preemption_service", False)
    os.environ["XLA_FLAGS"] = f"{OWN_FLAG} {os.environ.get('XLA_FLAGS', '')}"
    if given and given["process_id"] == 0:
        _check_port(given["coordinator_address"])
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=heartbeat)
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        advice = (
            "" if given else "; give --processes=N --process=I --coordinator=host:port"
        )
        raise UserError(
            f"this process cannot join the others ({why}){advice}"
        ) from error
    # The processes exchange their devices when a backend is made: all of them now, not each when it computes.
    jax.local_devices()


def _check_port(address: str) -> None:
    # A taken port ends jaxlib by a segmentation fault, or is shared with the other job's coordinator.
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--coordinator = {address!r}: cannot listen on that port ({error})"
        ) from error


def _watch(heartbeat: int) -> None:
    """Send what native code writes, to stdout too, through `witness.py` to stderr; Python keeps the real ones."""
    witness = subprocess.Popen(
        [
            sys.executable,
            "-I",
            str(Path(__file__).with_name("witness.py")),
            _program(),
            str(heartbeat),
            AGAIN,
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the job; the witness ends with its last writer
    )
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2)
    )
    for number in (1, 2):
        os.dup2(witness.stdin.fileno(), number)
    witness.stdin.close()


def _heed() -> None:
    """End this process when another one says that it fails."""
    try:
        text = client().blocking_key_value_get(_ENDING, FOREVER)
    except jax.errors.JaxRuntimeError:
        return  # the runtime ends this process in a moment
    failure = json.loads(text or "{}")
    if failure and failure["process"] != index():
        print(f"\n{failure['line']}", file=sys.stderr)  # below a progress bar
        _leave(failure["code"])


def _patience(error: BaseException, heartbeat: int) -> int:
    """Seconds in which the runtime ends this process, and the witness says why, if a process that is gone was it."""
    if "Gloo" in str(error):
        return (
            heartbeat + GRACE
        )  # a collective among CPUs fails at once, before a heartbeat is missed
    return GRACE if isinstance(error, jax.errors.JaxRuntimeError) else 0


def _announce(error: BaseException, heeding: threading.Thread) -> None:
    """Tell the others."""
    message = " ".join(str(error).split())[:300]  # some hold a program
    refused = isinstance(error, (UserError, Stopped))
    line = (
        f": {message}"
        if refused
        else f" failed ({type(error).__name__}: {message}); {AGAIN}"
    )
    line = f"{_program()}: process {index()}{line}"
    failure = {"process": index(), "code": _code(error), "line": line}
    try:
        client().key_value_set(_ENDING, json.dumps(failure))
    except jax.errors.JaxRuntimeError:
        heeding.join(GRACE)  # another one was faster, and ends this one


def _give_up(why: str, heeding: threading.Thread) -> None:
    """End the job because this process hangs, or waits for one that does."""
    error = UserError(f"{why}; {AGAIN}, with a larger --patience if it was at work")
    print(f"\n{_program()}: process {index()} {error}", file=sys.stderr)
    _announce(error, heeding)
    _leave(1)


def _code(error: BaseException) -> int:
    if isinstance(error, Stopped):
        return error.code
    return 2 if isinstance(error, UserError) else 1


def _leave(code: int) -> None:
    """End this process once all have heard and said why, that of the coordination service last."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client().wait_at_barrier(_ENDING, GRACE * 1000)
    if is_first():
        time.sleep(1)
    os._exit(code)


def _program() -> str:
    return os.path.basename(sys.argv[0])
