"""A job of several processes on one `--workdir`: process 0 leads, and what ends one of them ends all.

They meet at the barriers and in the key-value store of jax's coordination service. These are host calls, the
same on CPU, GPU and TPU, and they fail when a process is gone; `multihost_utils.sync_global_devices` runs a
collective on every device instead, which would hang, and which uneven queues of work must not be tied to.
jax has no public name for the service's client yet.
"""

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
from jax._src import distributed

from fr.errors import UserError

AGAIN = "start the same command again for every process: finished shards are kept"
_FOREVER = 10**9  # milliseconds: a process that is gone is noticed by its heartbeat, not by a barrier's limit
_GRACE = 10  # seconds that the end of a process may wait for the others to hear of it
_ENDING = "fr/ending"  # the key that a process writes when it fails, and process 0 when all is done


def settings(processes: str, process: int | None, coordinator: str | None) -> dict:
    """Arguments of `jax.distributed.initialize` from the flags; UserError where they do not fit together."""
    if processes == "auto":
        if process is not None or coordinator is not None:
            raise UserError("--processes=auto finds out --process and --coordinator; leave them out")
        return {}
    if not re.fullmatch("[1-9][0-9]*", processes):
        raise UserError(f"--processes = {processes!r} must be auto or the number of processes")
    count = int(processes)
    if process is None or not 0 <= process < count:
        raise UserError(f"--process = {process} must be the number of this process, 0 to {count - 1}")
    if not re.fullmatch(r"\S+:\d+", coordinator or ""):
        raise UserError(f"--coordinator = {coordinator!r} must be host:port of process 0")
    return {
        "coordinator_address": coordinator,
        "num_processes": count,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


@contextlib.contextmanager
def job(given: dict, heartbeat: int) -> Iterator[None]:
    """Be one process of a job inside the block, which ends when every process has come to its end.

    `given` comes from `settings`; a process not heard of for `heartbeat` seconds counts as gone. What one
    process raises ends the others with one line. Call before anything else touches jax.
    """
    _watch_stderr(heartbeat)
    _connect(given, heartbeat)
    heeding = threading.Thread(target=_heed, daemon=True)
    heeding.start()
    try:
        yield
        wait("end")
    except BaseException as error:
        _announce(error, heeding)
        # Runs behind the error's own line and before jax's clean-up, which would wait for the others.
        atexit.register(_leave, _code(error))
        raise
    if is_first():
        _client().key_value_set(_ENDING, "")
    heeding.join(_GRACE)


def is_first() -> bool:
    """Whether this process leads: it trains, claims the folder, writes what there is one of, and prints."""
    return distributed.global_state.process_id == 0


def say(text: str) -> None:
    """Print once a job."""
    if is_first():
        print(text, flush=True)


def label(name: str) -> str:
    """The name of a progress bar; it says whose it is where there are several processes."""
    several = distributed.global_state.num_processes > 1
    return f"{name}, process {distributed.global_state.process_id}" if several else name


def wait(name: str) -> None:
    """Wait until every process has come to the barrier `name`; a name serves once a job."""
    if _client():
        _ask(_client().wait_at_barrier, name)


def in_turn(name: str, call: Callable[[], None]) -> None:
    """Call on process 0, and on the others when that is done."""
    if is_first():
        call()
    wait(name)
    if not is_first():
        call()


def share(name: str, work: Sequence[int]) -> list[int]:
    """This process's part of `work`: every n-th item of what process 0 has in hand; `name` serves once a job.

    Process 0's list counts, because another process may look at the store when shards are being written.
    """
    if not _client():
        return list(work)
    key = f"fr/share/{name}"
    if is_first():
        _client().key_value_set(key, json.dumps(list(work)))
    agreed = json.loads(_ask(_client().blocking_key_value_get, key))
    return agreed[distributed.global_state.process_id :: distributed.global_state.num_processes]


def _client():
    return distributed.global_state.client


def _ask(call: Callable, name: str):
    try:
        return call(name, _FOREVER)
    except jax.errors.JaxRuntimeError:
        # A process is gone: the runtime's own thread ends this one in a moment, and the witness says why.
        time.sleep(_GRACE)
        raise


def _connect(given: dict, heartbeat: int) -> None:
    # That service takes SIGTERM for a notice, after which the process would go on.
    jax.config.update("jax_enable_preemption_service", False)
    if given and given["process_id"] == 0:
        _check_port(given["coordinator_address"])
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=heartbeat)
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        advice = "" if given else "; give --processes=N --process=I --coordinator=host:port"
        raise UserError(f"this process cannot join the others ({why}){advice}") from error
    # The processes exchange their devices when a backend is made: all of them now, not each when it computes.
    jax.local_devices()


def _check_port(address: str) -> None:
    # A taken port ends jaxlib by a segmentation fault, or is shared with the other job's coordinator.
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--coordinator = {address!r}: cannot listen on that port ({error})") from error


def _watch_stderr(heartbeat: int) -> None:
    """Send what native code writes to stderr through `witness.py`; Python keeps the real one."""
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
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(witness.stdin.fileno(), 2)
    witness.stdin.close()


def _heed() -> None:
    """End this process when another one says that it fails."""
    try:
        text = _client().blocking_key_value_get(_ENDING, _FOREVER)
    except jax.errors.JaxRuntimeError:
        return  # as in `_ask`
    failure = json.loads(text or "{}")
    if failure and failure["process"] != distributed.global_state.process_id:
        print(f"\n{failure['line']}", file=sys.stderr)  # below a progress bar
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _client().wait_at_barrier(_ENDING, _GRACE * 1000)
        _leave(failure["code"])


def _announce(error: BaseException, heeding: threading.Thread) -> None:
    """Tell the others, and wait until they have heard."""
    message = " ".join(str(error).split())
    refused = isinstance(error, UserError)
    line = f": {message}" if refused else f" failed ({type(error).__name__}: {message}); {AGAIN}"
    line = f"{_program()}: process {distributed.global_state.process_id}{line}"
    failure = {"process": distributed.global_state.process_id, "code": _code(error), "line": line}
    try:
        _client().key_value_set(_ENDING, json.dumps(failure))
        _client().wait_at_barrier(_ENDING, _GRACE * 1000)
    except jax.errors.JaxRuntimeError:
        heeding.join(_GRACE)  # another one was faster, and ends this one


def _code(error: BaseException) -> int:
    return 2 if isinstance(error, UserError) else 1


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _program() -> str:
    return os.path.basename(sys.argv[0])
