"""One run by several processes of `jax.distributed`: their shares, where they wait, and how they end together."""

from fr.processes.barriers import in_turn, is_first, label, say, share, wait
from fr.processes.job import job, settings

__all__ = ["in_turn", "is_first", "job", "label", "say", "settings", "share", "wait"]
