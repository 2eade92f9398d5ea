"""Barriers and slices of work for the processes of a job, and what only process 0 does.

Barriers and single values go through jax's coordination service: host calls that are
the same on CPU, GPU and TPU, and fail when a process is gone.
`multihost_utils.sync_global_devices` runs a collective on every device instead: it
would hang then, and it needs all devices, while decoding uses the local ones. jax has
no public name for the service's client yet. Without a job there is one process, and
nothing waits. `gather` is the exception: its values go through the devices.
"""

import json
import pickle
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from fr.distributed.watchdog import waiting

# Milliseconds. The heartbeat notices a process that is gone, `watchdog.watch` one that
# hangs.
FOREVER = 10**9
GRACE = 10  # seconds that an ending process waits for the others to learn of it


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
    return index() == 0


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
