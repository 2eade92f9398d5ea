"""Barriers and slices of work for the processes of a job, and what only process 0 does.

Barriers and single values go through jax's coordination service: host calls that are
the same on CPU, GPU and TPU, and fail when a process is gone.
`multihost_utils.sync_global_devices` runs a collective on every device instead: it
would hang then, and it needs all devices, while decoding uses the local ones. jax has
no public name for the service's client yet. Without a job there is one process, and
nothing waits. `gather` is the exception: its values go through the devices.
"""

import contextlib
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from fr.distributed.watchdog import limits, waiting
from fr.errors import UserError

# Milliseconds. The heartbeat notices a process that is gone, `watchdog.watch` one that
# hangs.
FOREVER = 10**9
GRACE = 10  # seconds that an ending process waits for the others to learn of it
_LOOK = 1.0  # seconds between two looks for what another process writes


class _Joined:
    yes = False


@contextlib.contextmanager
def joined(
    heartbeat: float, patience: float, used: Sequence[str] = ()
) -> Iterator[None]:
    """Make this process a helper, which makes shards of another run's workdir.

    It writes no other file, holds no lock, and is not of the other run's job.

    Args:
      heartbeat: seconds without a sign of life after which its claims are free.
      patience: seconds without progress after which they are free, too, and that it
        waits for the other run to begin a stage.
      used: flags that are given, and that a helper does not take.

    Yields:
      None.

    Raises:
      UserError: such a flag is given.
    """
    if used:
        raise UserError(f"--join helps another run; leave --{used[0]} to that one")
    limits.heartbeat, limits.patience = heartbeat, patience
    _Joined.yes = True
    try:
        yield
    finally:
        _Joined.yes = False


def is_joined() -> bool:
    """True in a process that helps another run."""
    return _Joined.yes


def until(ready: Callable[[], bool], what: str) -> None:
    """Wait for the run that this process helps.

    Args:
      ready: says whether it has come that far.
      what: it has to do; ends a line.

    Raises:
      UserError: it has not within the patience of a run.
    """
    end, told = time.monotonic() + limits.patience, False
    while not ready():
        if time.monotonic() > end:
            raise UserError(
                f"--join: no run has {what} within {limits.patience:.0f} s; start it, "
                "then this one again"
            )
        if not told:
            line = f"waiting until a run has {what}"
            print(line, file=sys.stderr, flush=True)
        told = True
        time.sleep(_LOOK)


def index() -> int:
    """The number of this process, from 0; 0 without a job."""
    return distributed.global_state.process_id


def count() -> int:
    """Number of processes of the job; 1 without a job."""
    return distributed.global_state.num_processes or 1


def client():
    """The client of jax's coordination service; None without a job."""
    return distributed.global_state.client


def is_first() -> bool:
    """True in process 0, which claims the folder, writes single files and prints."""
    return index() == 0 and not is_joined()


def print0(text: str) -> None:
    """Print once per job, in process 0.

    Args:
      text: the line or lines.
    """
    if is_first():
        print(text, flush=True)


def label(name: str) -> str:
    """The name of a progress bar.

    Args:
      name: of the work.

    Returns:
      The name, with the number of the process where there are several.
    """
    if is_joined():
        return f"{name}, joined"
    return f"{name}, process {index()}" if count() > 1 else name


def wait(name: str) -> None:
    """Wait until every process has reached a barrier.

    Args:
      name: of the barrier; each name can be used once per job.
    """
    if client():
        with waiting(name):
            client().wait_at_barrier(name, FOREVER)


def in_turn(name: str, call: Callable[[], None]) -> None:
    """Call on process 0, then on the others.

    Args:
      name: of the barrier between; each name can be used once per job.
      call: what to do.
    """
    if is_first():
        call()
    wait(name)
    if not is_first():
        call()


def agree(name: str, value):
    """The value of process 0, in every process.

    It is for values that each process could find out but might find differently,
    because it looks at another moment.

    Args:
      name: of the value; each name can be used once per job.
      value: this process's own; anything that JSON holds.

    Returns:
      The value of process 0.
    """
    if not client():
        return value
    key = f"fr/agreed/{name}"
    if is_first():
        client().key_value_set(key, json.dumps(value))
    with waiting(name):
        return json.loads(client().blocking_key_value_get(key, FOREVER))


def local_slice(items: Sequence) -> Sequence:
    """This process's contiguous slice; the slices in process order make up the whole.

    Args:
      items: the same in all processes.

    Returns:
      The slice of this process; lengths differ by at most 1.
    """
    count = jax.process_count()
    first, end = (len(items) * i // count for i in (index(), index() + 1))
    return items[first:end]


def gather(value) -> list:
    """The values of all processes. All must call it, between the same programs.

    Args:
      value: this process's own; anything that pickle takes.

    Returns:
      The values in the order of the processes.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    with waiting("an exchange of values"):
        sizes = multihost_utils.process_allgather(np.int32(len(data)))
        # A power of two, because every size is a program of its own.
        room = 1 << int(sizes.max() - 1).bit_length()
        rows = multihost_utils.process_allgather(np.pad(data, (0, room - len(data))))
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes)]
