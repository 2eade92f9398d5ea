"""The answers of the viewer: facts of a run, lists of problems and of attempts."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fr.errors import UserError
from fr.types import RIGHT
from fr.viewer.attempt_filter import (
    LABELS,
    REGIMES,
    AttemptFilter,
    problems_sql,
    rows_of,
)
from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.one_trace import STATISTICS, Traces, trace_name
from fr.viewer.scans import Scan, Scans

_MOST = 500  # rows of one answer
_CELLS = 2000  # attempts of one answer
_BEGIN = 240  # characters of a completion in the list
_QUESTION, _REFERENCE = 20_000, 2_000  # characters that are shown
_NAMED = re.compile(r"(.+?/\d{1,6}/\d{1,9})(?:,|\Z)", re.DOTALL)


class Viewer:
    """Everything that the page asks for, as values that JSON can hold."""

    def __init__(self, index: AttemptsIndex):
        """Make the readers of an index.

        Args:
          index: of the attempts.
        """
        self.index, self.traces, self.scans = index, Traces(index), Scans(index)

    def run(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Facts of the run, after a look for new shards.

        Args:
          given: values of the request; none is read.

        Returns:
          Names that filters may choose, and counts.
        """
        before = list(self.index.shards)
        self.index.refresh()
        if before != self.index.shards:
            self.scans.reset()
        ask = functools.partial(rows_of, self.index.cursor())
        names = lambda column, table: [
            row[column]
            for row in ask(
                f"SELECT {column} FROM {table} GROUP BY 1 ORDER BY min(rowid)"
            )
        ]
        return {
            "workdir": self.index.workdir.name,
            "folders": names("folder", "files"),
            "tasks": names("task", "problems"),
            "operators": names("operator", "attempts"),
            "grades": names("grade", "attempts"),
            "labels": [n for n in LABELS if n in names("label", "labels")],
            "regimes": list(REGIMES),
            "statistics": list(STATISTICS),
            "notes": self.index.notes,
            **ask(
                """SELECT (SELECT count(*) FROM attempts) AS attempts,
                (SELECT count(*) FROM problems) AS problems"""
            )[0],
        }

    def problems(self, given: Mapping[str, str]) -> dict[str, Any]:
        """A part of the list of problems.

        Args:
          given: filters, `offset` and `limit`.

        Returns:
          `rows`, their `total`, and the progress of scans that still go on.
        """
        chosen = AttemptFilter.of(given)
        scans, hits = self._scans(chosen)
        sql, values = problems_sql(chosen, hits)
        values |= {
            "limit": min(_number(given, "limit", 100), _MOST),
            "offset": _number(given, "offset", 0),
        }
        sql = f"SELECT *, count(*) OVER () AS total FROM ({sql}) LIMIT $limit"
        rows = rows_of(self.index.cursor(), f"{sql} OFFSET $offset", values)
        total = rows[0]["total"] if rows else 0
        for row in rows:
            del row["total"], row["share"]
        return {"rows": rows, "total": total, "scans": scans}

    def attempts(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The attempts at one problem, as rows of a table with a column per operator.

        Args:
          given: `folder`, `task` and `name` of the problem, and `from`, the first row.

        Returns:
          The problem, its `columns` with the counts of all attempts, and `rows`: the
          attempts in the table's rows from there, with the beginnings of their texts.
          `next` is the row that follows, None after the last.

        Raises:
          UserError: there is no such problem.
        """
        cursor = self.index.cursor()
        chosen = AttemptFilter.of({k: v for k, v in given.items() if k == "folder"})
        where, values = chosen.attempt_sql()
        one = rows_of(
            cursor,
            "SELECT problem FROM problems WHERE name = $name AND task = $task",
            {"name": given.get("name", ""), "task": given.get("task", "")},
        )
        if not one:
            raise UserError("there is no such problem")
        values |= one[0]
        where += " AND a.problem = $problem"
        sql = f"""SELECT f.folder, a.operator, count(*) AS made,
            count(*) FILTER (a.grade = '{RIGHT}') AS "right"
            FROM attempts a {where} GROUP BY ALL ORDER BY min((file, row))"""
        columns = rows_of(cursor, sql, values)
        sizes = [column["made"] for column in columns]
        first = _number(given, "from", 0)
        last = _end(sizes, first)
        sql = f"""SELECT a.*, f.folder, f.shard, f.path FROM attempts a {where}
            QUALIFY row_number() OVER (
                PARTITION BY f.folder, a.operator ORDER BY file, row)
            BETWEEN $first + 1 AND $last
            ORDER BY file, row"""
        rows = rows_of(cursor, sql, values | {"first": first, "last": last})
        texts = self._texts(rows)
        for row in rows:
            row |= texts[row["file"], row["row"]]
            row["trace"] = trace_name(row["folder"], row["shard"], row["row"])
            for name in ("file", "row", "path", "shard", "problem"):
                del row[name]
        return {
            "columns": columns,
            "rows": rows,
            "next": last if last < max(sizes, default=0) else None,
            **_question(rows),
            "label": self._label(one[0]),
        }

    def regimes(self, given: Mapping[str, str]) -> dict[str, str]:
        """Regimes of the failed attempts at one problem.

        Args:
          given: `traces`, names that are divided by commas.

        Returns:
          Regimes by trace.
        """
        names = _NAMED.findall(given.get("traces", ""))
        places = {self.traces.place(name): name for name in names}
        rows: dict[int, list[int]] = {}
        for number, row in places:
            rows.setdefault(number, []).append(row)
        told = self.scans.regimes_of(rows)
        return {places[place]: regime for place, regime in told.items()}

    def trace(self, given: Mapping[str, str]) -> dict[str, Any]:
        """One attempt with its tokens.

        Args:
          given: `trace`, and `by`, the statistic that comes with it.

        Returns:
          Values by name, see `Traces.head`.
        """
        return self.traces.head(given.get("trace", ""), given.get("by") or "entropy")

    def statistics(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Further statistics of one attempt.

        Args:
          given: `trace`, and `names`, divided by commas.

        Returns:
          Values by statistic, [T] each, None where there are none.
        """
        names = [name for name in given.get("names", "").split(",") if name]
        return self.traces.statistics(given.get("trace", ""), names)

    def _scans(self, chosen: AttemptFilter) -> tuple[dict[str, dict], str]:
        running: dict[str, Scan] = {}
        if chosen.text:
            running["text"] = self.scans.search(chosen.text)
        if chosen.regime:
            running["regime"] = self.scans.regimes()
        for scan in running.values():
            scan.wait()
        said = {name: scan.progress() for name, scan in running.items()}
        hits = running["text"].table if chosen.text else ""
        return {k: v for k, v in said.items() if v["done"] < v["total"]}, hits

    def _texts(self, rows: list[dict]) -> dict[tuple[int, int], dict]:
        """Answers and beginnings of texts of some attempts, by shard and row."""
        found = {}
        for path in dict.fromkeys(row["path"] for row in rows):
            own = {row["row"]: row["file"] for row in rows if row["path"] == path}
            sql = f"""SELECT file_row_number AS row, left(answer, {_BEGIN}) AS answer,
                left(text, {_BEGIN}) AS begin, length(text) AS characters,
                left(question, {_QUESTION}) AS question,
                length(question) AS question_characters,
                left(reference, {_REFERENCE}) AS reference,
                length(reference) AS reference_characters
                FROM read_parquet($path, file_row_number = true)
                WHERE file_row_number BETWEEN $first AND $last
                AND list_contains($rows, file_row_number)"""
            given = {"path": path, "rows": list(own), "first": min(own)}
            given["last"] = max(own)
            for row in rows_of(self.index.cursor(), sql, given):
                place = row.pop("row")
                found[own[place], place] = row
        return found

    def _label(self, problem: dict) -> str | None:
        sql = "SELECT label FROM labels WHERE problem = $problem"
        found = rows_of(self.index.cursor(), sql, problem)
        return found[0]["label"] if len(found) == 1 else None


def _question(rows: list[dict]) -> dict[str, Any]:
    """The problem's own columns, which each of its rows has, taken from the rows."""
    first: dict[str, Any] = {"question": "", "reference": ""}
    first |= {f"{name}_characters": 0 for name in first}
    for row in reversed(rows):
        first = {name: row.pop(name) for name in first}
    return first


def _end(sizes: Sequence[int], first: int) -> int:
    """The row after the last of one answer: whole rows of _CELLS attempts, or one row.

    Args:
      sizes: attempts of each column.
      first: row of the answer.
    """
    last, cells = first, 0
    while last < max(sizes, default=0):
        cells += sum(size > last for size in sizes)
        if cells > _CELLS and last > first:
            break
        last += 1
    return last


def _number(given: Mapping[str, str], name: str, usual: int) -> int:
    text = given.get(name, "")
    if text and not (text.isdecimal() and len(text) < 10):
        raise UserError(f"{name}={text[:40]} is not a number")
    return int(text) if text else usual
