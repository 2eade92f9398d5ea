"""One run by several processes of `jax.distributed`: barriers and a common end."""

from fr.distributed.collectives import (
    agree,
    count,
    gather,
    in_turn,
    index,
    is_first,
    is_joined,
    joined,
    label,
    local_slice,
    print0,
    until,
    wait,
)
from fr.distributed.job import job, settings
from fr.distributed.watchdog import beat, idle, limits

__all__ = [
    "agree",
    "beat",
    "count",
    "gather",
    "idle",
    "in_turn",
    "index",
    "is_first",
    "is_joined",
    "job",
    "joined",
    "label",
    "limits",
    "local_slice",
    "print0",
    "settings",
    "until",
    "wait",
]
