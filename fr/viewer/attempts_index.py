"""A table of single columns of all attempts, in memory, for lists and filters."""

import threading
from pathlib import Path
from typing import Any

from fr.config import RoutingConfig
from fr.errors import UserError, first_line
from fr.types import RIGHT
from fr.viewer.shards import Shard, check_shard, find_shards, root_of
from fr.workdir import read_object

_MEMORY, _THREADS = "600MB", 2
_QUESTION = 400  # characters of a question in the list
_TABLES = {
    "files": "file INTEGER, folder VARCHAR, shard INTEGER, path VARCHAR",
    "attempts": "file INTEGER, row INTEGER, problem INTEGER, operator VARCHAR, "
    "attempt INTEGER, grade VARCHAR, truncated BOOLEAN, fired BOOLEAN, tokens INTEGER",
    "problems": "problem INTEGER, task VARCHAR, name VARCHAR, question VARCHAR",
    "labels": "folder VARCHAR, problem INTEGER, label VARCHAR",
}
# Names stand in requests and links, so a long one is cut and ends in a digest. What is
# cut is longer than any name that is not, so the two cannot be equal.
_WHOLE, _CUT = 96, 80  # characters
_SHORT_NAME = f"""
CREATE OR REPLACE MACRO short_name(given) AS CASE
    WHEN length(given) <= {_WHOLE} THEN given
    ELSE left(given, {_CUT}) || '~' || left(sha256(given), 16) END
"""
_READ = f"""
CREATE OR REPLACE TEMP TABLE fresh AS SELECT
    f.file, r.file_row_number AS row, short_name(r.task) AS task,
    short_name(r.problem) AS name, short_name(r.operator) AS operator, r.attempt,
    r.grade, r.truncated, r.fire_position >= 0 AS fired,
    r.cost_generated + r.cost_forced AS tokens,
    left(r.question, {_QUESTION}) AS question
FROM read_parquet(?, filename = true, file_row_number = true) r
JOIN files f ON f.path = r.filename
"""
_ADD = (
    """
    INSERT INTO problems SELECT
        (SELECT count(*) FROM problems) + row_number() OVER (ORDER BY first) - 1,
        task, name, question
    FROM (
        SELECT task, name, min_by(question, (file, row)) AS question,
            min((file, row)) AS first
        FROM fresh ANTI JOIN problems USING (task, name) GROUP BY task, name)
    """,
    """
    INSERT INTO attempts SELECT file, row, problem, operator, attempt, grade,
        truncated, fired, tokens
    FROM fresh JOIN problems USING (task, name) ORDER BY file, row
    """,
    "DROP TABLE fresh",
)
# Labels as fr.diagnosis.labels defines them; a test compares the two.
_LABELS = f"""
INSERT INTO labels WITH rates AS (
    SELECT folder, problem, operator,
        count(*) FILTER (grade = '{RIGHT}') / count(*)::DOUBLE AS rate
    FROM attempts JOIN files USING (file) WHERE folder = $folder
    GROUP BY ALL), best AS (
    SELECT folder, problem,
        max(rate) FILTER (operator NOT IN ('retry', 'wrong_geodesic')) AS best,
        max(rate) FILTER (operator = 'retry') AS retry
    FROM rates GROUP BY ALL)
SELECT folder, problem, CASE
    WHEN best - retry >= $margin AND 1 - retry >= $hard THEN 'steerable'
    WHEN best = 0 THEN 'beyond' ELSE 'resample' END
FROM best WHERE best IS NOT NULL AND retry IS NOT NULL
"""


def connect() -> Any:
    """A DuckDB database in memory, of a bounded size.

    Returns:
      The connection.

    Raises:
      UserError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise UserError(
            "the viewer needs DuckDB; pip install 'failed-reasoning[view]'"
        ) from None
    made = duckdb.connect(config={"memory_limit": _MEMORY, "threads": _THREADS})
    made.execute(_SHORT_NAME)
    return made


class AttemptsIndex:
    """Attempts of a workdir, one row of single columns for each.

    Attributes:
      workdir: the folder that is viewed.
      shards: files in the order of their numbers in the table `files`.
      notes: lines about settings of the runs that could not be used.
    """

    def __init__(self, workdir: Path):
        """Read the single columns of all shards.

        Args:
          workdir: the folder.

        Raises:
          UserError: there is no attempt, or a shard cannot be read.
        """
        self.workdir = workdir
        self.shards: list[Shard] = []
        self.notes: list[str] = []
        self._connection = connect()
        self._lock = threading.Lock()
        self.refresh()
        if not self.shards:
            raise UserError(
                f"--workdir={workdir}: holds no attempts; scripts/sample.py makes some"
            )

    def cursor(self) -> Any:
        """A cursor of its own for one thread; DuckDB's cursors share the tables."""
        return self._connection.cursor()

    def refresh(self) -> None:
        """Read shards that are new; after a change of a shard, all of them.

        Raises:
          UserError: a shard cannot be read.
        """
        with self._lock:
            found = find_shards(self.workdir)
            known = set(self.shards)
            if set(found) == known:
                return
            cursor = self.cursor()
            cursor.begin()
            try:
                if known - set(found) or not known:
                    for table, columns in _TABLES.items():
                        made = f"CREATE OR REPLACE TABLE {table} ({columns})"
                        cursor.execute(made)
                    known = set()
                fresh = [shard for shard in found if shard not in known]
                kept = [shard for shard in self.shards if shard in known]
                self._read(cursor, fresh, len(kept))
                cursor.commit()
            except BaseException as error:
                cursor.rollback()
                if isinstance(error, UserError) or not _of_duckdb(error):
                    raise
                raise UserError(
                    f"--workdir={self.workdir}: {first_line(error)}"
                ) from error
            self.shards = kept + fresh

    def _read(self, cursor: Any, fresh: list[Shard], first: int) -> None:
        """Add shards to the tables; numbers of files start with `first`."""
        for shard in {shard.folder: shard for shard in fresh}.values():
            check_shard(shard.path)
        paths = [str(shard.path) for shard in fresh]
        rows = [
            [first + i, shard.folder, shard.index, path]
            for i, (shard, path) in enumerate(zip(fresh, paths))
        ]
        if rows:
            cursor.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
            cursor.execute(_READ, [paths])
            for statement in _ADD:
                cursor.execute(statement)
        cursor.execute("DELETE FROM labels")
        notes: dict[str, None] = {}
        for (folder,) in cursor.execute("SELECT DISTINCT folder FROM files").fetchall():
            root = root_of(self.workdir, folder)
            values, said = _thresholds(root)
            where = (root / "config.json").relative_to(self.workdir)
            notes |= dict.fromkeys(f"{where}: {line}" for line in said)
            cursor.execute(_LABELS, {"folder": folder, **values})
        self.notes = list(notes)


def _thresholds(root: Path) -> tuple[dict[str, float], list[str]]:
    """Margin and threshold of the labels of a run, and lines about values of its config
    that are not shares, in place of which the defaults hold."""
    path, usual = root / "config.json", RoutingConfig()
    routing = read_object(path).get("routing", {}) if path.exists() else {}
    given, said = routing if isinstance(routing, dict) else {"margin": routing}, []
    values = {"margin": usual.margin, "hard": usual.hard}
    for name in values.keys() & given.keys():
        if type(given[name]) in (int, float) and 0 <= given[name] <= 1:
            values[name] = float(given[name])
        else:
            said.append(
                f"routing.{name} is not a number from 0 to 1; labels use {values[name]}"
            )
    return values, sorted(said)


def _of_duckdb(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb")
