"""One run by several processes of `jax.distributed`: their shares, where they wait, and how they end together."""

from fr.distributed.collectives import (
    agree,
    gather,
    in_turn,
    is_first,
    label,
    part,
    say,
    share,
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
    "part",
    "say",
    "settings",
    "share",
    "wait",
]
