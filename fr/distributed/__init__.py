"""One run by several processes of `jax.distributed`: shares, barriers and a common
end."""

from fr.distributed.collectives import (
    agree,
    assign_shards,
    gather,
    in_turn,
    is_first,
    label,
    local_slice,
    print0,
    wait,
)
from fr.distributed.job import job, settings
from fr.distributed.watchdog import beat

__all__ = [
    "agree",
    "beat",
    "gather",
    "in_turn",
    "is_first",
    "job",
    "label",
    "local_slice",
    "print0",
    "settings",
    "assign_shards",
    "wait",
]
