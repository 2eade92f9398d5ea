"""What the processes of a job tell each other while they train together: values of the host, by way of the devices.

The key-value store of the coordination service would have process 0 hand every value to every process; a
collective has no such middle, and the rollouts of a step may be tens of megabytes.
"""

import pickle
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from fr.processes.barriers import index
from fr.processes.progress import waiting


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
