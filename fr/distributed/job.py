"""A job of several processes on one `--workdir`; the end of one process ends all."""

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

# On GPUs, autotuning waits until every process compiles the same program; here programs
# differ between processes.
OWN_FLAG = "--xla_gpu_shard_autotuning=false"

AGAIN = "start the same command again for every process: what is finished is kept"
# Key that a process writes when it fails, and process 0 when all is done.
_ENDING = "fr/ending"


def settings(processes: str, process: int | None, coordinator: str | None) -> dict:
    """Arguments of `jax.distributed.initialize` from the flags.

    Args:
      processes: "auto" or the number of processes.
      process: the number of this process, from 0.
      coordinator: host:port of process 0.

    Returns:
      Keyword arguments; empty for "auto".

    Raises:
      UserError: the flags do not fit together.
    """
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
            f"--process = {process} must be the number of this process, 0 to "
            f"{count - 1}"
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
def job(given: dict, heartbeat: int, patience: int) -> Iterator[None]:
    """Join a job for the length of the block, which ends when every process has ended
    it.

    An error in one process ends the others with one line. Enter the block before
    anything else uses jax.

    Args:
      given: from `settings`.
      heartbeat: seconds without a sign of life after which a process counts as gone.
      patience: seconds without progress after which a living process ends the job.

    Yields:
      None, once all processes have joined.

    Raises:
      UserError: this process cannot join.
    """
    watchdog.limits.heartbeat, watchdog.limits.patience = heartbeat, patience
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
        # After the error's own line, and before jax's clean-up, which would wait for
        # the other processes.
        atexit.register(_leave, _code(error))
        raise
    if is_first():
        client().key_value_set(_ENDING, "")
    heeding.join(GRACE)


def _connect(given: dict, heartbeat: int) -> None:
    # The preemption service treats SIGTERM as a notice; the process would go on.
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
    # Processes exchange their devices when a backend is made. All do it now, together.
    jax.local_devices()


def _check_port(address: str) -> None:
    # On a port in use, jaxlib crashes or joins the other job's coordinator.
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--coordinator = {address!r}: cannot listen on that port ({error})"
        ) from error


def _watch(heartbeat: int) -> None:
    """Send the output of native code through `log_filter.py` to stderr; Python keeps
    both."""
    log_filter = subprocess.Popen(
        [
            sys.executable,
            "-I",
            str(Path(__file__).with_name("log_filter.py")),
            _program(),
            str(heartbeat),
            AGAIN,
        ],
        stdin=subprocess.PIPE,
        # Ctrl-C is for the job; the filter ends with its last writer.
        start_new_session=True,
    )
    assert log_filter.stdin is not None
    pipe = log_filter.stdin
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2)
    )
    for number in (1, 2):
        os.dup2(pipe.fileno(), number)
    pipe.close()


def _heed() -> None:
    """End this process when another one announces its failure."""
    try:
        text = client().blocking_key_value_get(_ENDING, FOREVER)
    except jax.errors.JaxRuntimeError:
        return  # the runtime ends this process in a moment
    failure = json.loads(text or "{}")
    if failure and failure["process"] != index():
        print(f"\n{failure['line']}", file=sys.stderr)  # below a progress bar
        _leave(failure["code"])


def _patience(error: BaseException, heartbeat: int) -> int:
    """Seconds for the runtime to end this process first if the cause is a lost
    process."""
    if "Gloo" in str(error):
        # A collective among CPUs fails at once, before a heartbeat is missed.
        return heartbeat + GRACE
    return GRACE if isinstance(error, jax.errors.JaxRuntimeError) else 0


def _announce(error: BaseException, heeding: threading.Thread) -> None:
    """Tell the other processes why this one ends."""
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
        heeding.join(GRACE)  # another process was first and ends this one


def _give_up(why: str, heeding: threading.Thread) -> None:
    """End the job because this process hangs, or waits for a process that hangs."""
    error = UserError(f"{why}; {AGAIN}, with a larger --patience if it was at work")
    print(f"\n{_program()}: process {index()} {error}", file=sys.stderr)
    _announce(error, heeding)
    _leave(1)


def _code(error: BaseException) -> int:
    if isinstance(error, Stopped):
        return error.code
    return 2 if isinstance(error, UserError) else 1


def _leave(code: int) -> None:
    """End this process once all know why; process 0, which hosts the service, is
    last."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client().wait_at_barrier(_ENDING, GRACE * 1000)
    if is_first():
        time.sleep(1)
    os._exit(code)


def _program() -> str:
    return os.path.basename(sys.argv[0])
