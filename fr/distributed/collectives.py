"""Where the processes of a job meet: barriers, shares of the work, and what only process 0 does.

They meet in jax's coordination service. Its barriers and its key-value store are host calls, the same on CPU, GPU
and TPU, and they fail when a process is gone. `multihost_utils.sync_global_devices` runs a collective on
every device instead: it would hang there, and needs all devices where decoding is local. jax has no public name
for the service's client yet. Without a job there is one process, and nothing waits. `exchange` has what goes
through the devices.
"""

import json
import pickle
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from fr.distributed.watchdog import waiting

# Milliseconds: a process that is gone is noticed by its heartbeat, one that hangs by `progress.watch`.
FOREVER = 10**9
GRACE = 10  # seconds that the end of a process may wait for the others to hear of it


def index() -> int:
    """The number of this process, from 0."""
    return distributed.global_state.process_id


def client():
    """The client of jax's coordination service; None without a job."""
    return distributed.global_state.client


def is_first() -> bool:
    """Whether this process leads: it claims the folder, writes what there is one of, and prints."""
    return index() == 0


def say(text: str) -> None:
    """Print once a job."""
    if is_first():
        print(text, flush=True)


def label(name: str) -> str:
    """The name of a progress bar; it says whose it is where there are several processes."""
    several = distributed.global_state.num_processes > 1
    return f"{name}, process {index()}" if several else name


def wait(name: str) -> None:
    """Wait until every process has come to the barrier `name`; a name serves once a job."""
    if client():
        with waiting(name):
            client().wait_at_barrier(name, FOREVER)


def in_turn(name: str, call: Callable[[], None]) -> None:
    """Call on process 0, and on the others when that is done."""
    if is_first():
        call()
    wait(name)
    if not is_first():
        call()


def agree(name: str, value):
    """What process 0 says, for all: anything that JSON holds; `name` serves once a job.

    For what each could find out and might find otherwise, because it looks at another moment.
    """
    if not client():
        return value
    key = f"fr/agreed/{name}"
    if is_first():
        client().key_value_set(key, json.dumps(value))
    with waiting(name):
        return json.loads(client().blocking_key_value_get(key, FOREVER))


def share(name: str, work: Sequence[int]) -> list[int]:
    """This process's part of `work`: every n-th item of what process 0 has in hand; `name` serves once a job."""
    agreed = agree(name, list(work))
    return agreed[index() :: distributed.global_state.num_processes]


def part(items: Sequence) -> Sequence:
    """This process's run of `items`; those of all processes, one behind the other, are `items`."""
    count = jax.process_count()
    first, end = (len(items) * i // count for i in (index(), index() + 1))
    return items[first:end]


def gather(value) -> list:
    """The values of all processes, by their numbers. All must call it, and between the same programs.

    `value` is anything that pickle takes.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    with waiting("an exchange of values"):
        sizes = multihost_utils.process_allgather(np.int32(len(data)))
        # A power of two: every size is a program of its own.
        room = 1 << int(sizes.max() - 1).bit_length()
        rows = multihost_utils.process_allgather(np.pad(data, (0, room - len(data))))
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes)]
