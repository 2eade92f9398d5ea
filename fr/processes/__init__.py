"""One run by several processes of `jax.distributed`: their shares, where they wait, and how they end together."""

from fr.processes.barriers import agree, in_turn, is_first, label, say, share, wait
from fr.processes.exchange import gather, part
from fr.processes.job import job, settings
from fr.processes.progress import beat

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
