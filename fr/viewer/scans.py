"""Work over all shards that a request starts and does not wait for: search, regimes."""

import collections
import itertools
import threading
from collections.abc import Callable
from typing import Any

from fr.errors import UserError, first_line
from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.regimes import RegimePool
from fr.viewer.shards import Shard, root_of
from fr.workdir import read_object

_AT_ONCE = 8  # shards of one query of the search
_SEARCHES = 4  # that are kept
_PATIENCE = 0.6  # seconds that a request waits for the end of a scan
_SEARCH = """
INSERT INTO {table} SELECT f.file, r.file_row_number
FROM read_parquet($paths, filename = true, file_row_number = true) r
JOIN files f ON f.path = r.filename
WHERE contains(lower(r.text), $text) OR contains(lower(r.question), $text)
"""


class Scan:
    """One pass over the shards in a thread, with its progress.

    Attributes:
      table: of the database, which fills; its columns begin with file and row.
      done: shards that are read.
      total: shards of the store.
      error: why it ended early; "" otherwise.
    """

    def __init__(
        self,
        table: str,
        shards: list[Shard],
        step: Callable[[list[int]], None],
        at_once: int,
    ):
        """Start the thread.

        Args:
          table: that the steps fill.
          shards: of the store.
          step: reads the shards of some numbers.
          at_once: shards of one step.
        """
        self.table, self.total, self.done, self.error = table, len(shards), 0, ""
        self._step, self._at_once, self._stop = step, at_once, threading.Event()
        self._finished = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for first in range(0, self.total, self._at_once):
                if self._stop.is_set():
                    return
                last = min(first + self._at_once, self.total)
                self._step(list(range(first, last)))
                self.done = last
        except Exception as error:
            self.error = first_line(error)
        finally:
            self._finished.set()

    def wait(self, seconds: float = _PATIENCE) -> None:
        """Wait for the end, or for so long.

        Args:
          seconds: at most.

        Raises:
          UserError: the scan has failed.
        """
        self._finished.wait(seconds)
        if self.error:
            raise UserError(self.error)

    def end(self) -> None:
        """Ask it to end after the present step, and wait for that."""
        self._stop.set()
        self._finished.wait()

    def progress(self) -> dict[str, int]:
        """Shards that are read, of all."""
        return {"done": self.done, "total": self.total}


class Scans:
    """The searches and the regimes of one index."""

    def __init__(self, index: AttemptsIndex):
        """Start nothing yet.

        Args:
          index: of the attempts.
        """
        self.index, self.pool = index, RegimePool()
        self._searches: collections.OrderedDict[str, Scan] = collections.OrderedDict()
        self._regimes: Scan | None = None
        self._lock, self._names = threading.Lock(), itertools.count()
        self.reset()

    def reset(self) -> None:
        """Forget everything, after a change of the shards."""
        with self._lock:
            for scan in (*self._searches.values(), *filter(None, [self._regimes])):
                scan.end()
                self.index.cursor().execute(f"DROP TABLE IF EXISTS {scan.table}")
            self._searches.clear()
            self._regimes = None
            made = "CREATE OR REPLACE TABLE regimes (file INTEGER, row INTEGER, "
            self.index.cursor().execute(f"{made} regime VARCHAR)")

    def search(self, text: str) -> Scan:
        """The attempts whose completion or question holds a text, in any case.

        Args:
          text: to find.

        Returns:
          The scan, which may still go on.
        """
        with self._lock:
            if text in self._searches:
                self._searches.move_to_end(text)
                return self._searches[text]
            table, cursor = f"hits_{next(self._names)}", self.index.cursor()
            cursor.execute(f"CREATE TABLE {table} (file INTEGER, row INTEGER)")
            shards = self.index.shards

            def step(numbers: list[int]) -> None:
                paths = [str(shards[number].path) for number in numbers]
                given = {"paths": paths, "text": text.lower()}
                cursor.execute(_SEARCH.format(table=table), given)

            scan = self._searches[text] = Scan(table, shards, step, _AT_ONCE)
            while len(self._searches) > _SEARCHES:
                _, old = self._searches.popitem(last=False)
                old.end()
                self.index.cursor().execute(f"DROP TABLE {old.table}")
            return scan

    def regimes(self) -> Scan:
        """The regimes of all failed attempts, in the table `regimes`.

        Returns:
          The scan, which may still go on.
        """
        with self._lock:
            if self._regimes is None:
                shards, cursor = self.index.shards, self.index.cursor()

                def step(numbers: list[int]) -> None:
                    for number in numbers:
                        told = self._told(shards[number], None)
                        rows = [[number, *one] for one in told]
                        _insert(cursor, rows)

                self._regimes = Scan("regimes", shards, step, 1)
            return self._regimes

    def regimes_of(self, rows: dict[int, list[int]]) -> dict[tuple[int, int], str]:
        """Regimes of some attempts, which are waited for.

        Args:
          rows: numbers of rows by number of the shard.

        Returns:
          Regimes by (shard, row), of the failed ones.
        """
        return {
            (number, row): regime
            for number, some in rows.items()
            for row, regime in self._told(self.index.shards[number], some)
        }

    def _told(self, shard: Shard, rows: list[int] | None) -> list[tuple[int, str]]:
        path = root_of(self.index.workdir, shard.folder) / "config.json"
        rewards = read_object(path).get("rewards") if path.exists() else None
        words = rewards.get("switch_words") if isinstance(rewards, dict) else None
        switches = [str(w) for w in words] if isinstance(words, list) else []
        return self.pool.tell(shard, rows, switches)

    def close(self) -> None:
        """End the process of the regimes."""
        self.pool.close()


def _insert(cursor: Any, rows: list[list]) -> None:
    import pyarrow as pa

    if rows:
        columns = dict(zip(("file", "row", "regime"), map(list, zip(*rows))))
        fresh = pa.table(columns)
        cursor.register("fresh_regimes", fresh)
        cursor.execute("INSERT INTO regimes SELECT * FROM fresh_regimes")
        cursor.unregister("fresh_regimes")
