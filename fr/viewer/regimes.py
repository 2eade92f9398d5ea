"""Regimes of failed attempts, told in a process of their own and kept in the cache.

Rules over a whole text take a tenth of a millisecond per attempt, so a large store
takes minutes. The page goes on meanwhile.
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from fr.errors import UserError, first_line
from fr.viewer.shards import Shard
from fr.workdir import cache_folder, write_whole

_VERSION = 1  # of the rules and of the file
_COLUMNS = ["grade", "text", "answer", "truncated", "task"]


class RegimePool:
    """The process that tells regimes, made on first use."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def tell(
        self, shard: Shard, rows: Sequence[int] | None, switches: Sequence[str]
    ) -> list[tuple[int, str]]:
        """Regimes of the failed attempts of a shard.

        Args:
          shard: the file.
          rows: numbers of rows; None: all, which is kept in the cache.
          switches: words that leave a thought; (): the task's own.

        Returns:
          (row, regime) of each failed attempt.

        Raises:
          UserError: the process ended, or the shard cannot be read.
        """
        kept = _cache_file(shard, switches)
        if kept.exists():
            found = [(row, name) for row, name in json.loads(kept.read_text())]
            return found if rows is None else [f for f in found if f[0] in set(rows)]
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(1, context)
        try:
            job = self._pool.submit(_tell, str(shard.path), rows, tuple(switches))
            found = job.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            self._pool = None
            raise UserError(f"regimes: {first_line(error)}") from error
        if rows is None:
            write_whole(str(kept), json.dumps(found).encode())
        return found

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _cache_file(shard: Shard, switches: Sequence[str]) -> Path:
    told = json.dumps([_VERSION, str(shard.path), shard.stamp, list(switches)])
    name = hashlib.sha256(told.encode()).hexdigest()[:32]
    return cache_folder() / "view" / f"{name}.json"


def _tell(
    path: str, rows: Sequence[int] | None, switches: tuple[str, ...]
) -> list[tuple[int, str]]:
    """In the process: read the texts and apply the rules."""
    import pyarrow.parquet as pq

    # Imported here, because it takes seconds and the server does not wait for it.
    from fr.diagnosis.trace_regimes import regime_of
    from fr.tasks.formats import format_of
    from fr.types import is_failure

    table = pq.read_table(path, columns=_COLUMNS)
    chosen = range(table.num_rows) if rows is None else sorted(rows)
    found = []
    for row, values in zip(chosen, table.take(list(chosen)).to_pylist()):
        if is_failure(values["grade"]):
            words = switches or format_of(values["task"]).switches
            told = regime_of(
                values["text"], values["answer"], values["truncated"], words
            )
            found.append((row, told))
    return found
