"""Filters of the lists: what a request may ask for, and its SQL."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from fr.errors import UserError
from fr.types import GRADES, ROLLOUT

LABELS = ("steerable", "resample", "beyond")
REGIMES = ("execution", "premature", "underthinking", "wandering")
ORDERS = {
    "run": "p.problem",
    "failed": "share DESC NULLS LAST, p.problem",
    "solved": "share ASC NULLS LAST, p.problem",
    "attempts": "s.attempts DESC, p.problem",
    "name": "p.name, p.problem",
}
_FAILED = re.compile(r"(\d{1,6})(?:(-)(\d{1,6})?)?")


@dataclasses.dataclass(frozen=True)
class AttemptFilter:
    """The choices of a request; an empty one lets everything pass.

    Attributes:
      folder: of attempts.
      task: name of the task.
      label: of LABELS.
      grade: of `fr.types.GRADES`, or `failed` for wrong and unparsed.
      operator: name of the operator.
      regime: of REGIMES.
      text: to find in questions and completions, in any case.
      failed: number of failed rollouts, `3`, or a range of them, `2-5` or `2-`.
      truncated: only attempts that ended without a stop token.
      fired: only attempts on which the detector fired.
      order: of ORDERS.
    """

    folder: str = ""
    task: str = ""
    label: str = ""
    grade: str = ""
    operator: str = ""
    regime: str = ""
    text: str = ""
    failed: str = ""
    truncated: str = ""
    fired: str = ""
    order: str = "run"

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "AttemptFilter":
        """Read the values of a request.

        Args:
          given: texts by name; other names are passed over.

        Returns:
          The filter.

        Raises:
          UserError: a value is not one of those that exist.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        chosen = cls(**{k: v for k, v in given.items() if k in names and v})
        for name, known in (
            ("label", LABELS),
            ("grade", (*GRADES, "failed")),
            ("regime", REGIMES),
            ("order", tuple(ORDERS)),
        ):
            if (value := getattr(chosen, name)) and value not in known:
                raise UserError(f"{name}={value} is not one of {', '.join(known)}")
        chosen.failed_range()
        return chosen

    def failed_range(self) -> tuple[int, int] | None:
        """Least and most failed rollouts; None without such a choice.

        Raises:
          UserError: the text is not a number or a range.
        """
        if not self.failed:
            return None
        if not (match := _FAILED.fullmatch(self.failed.replace(" ", ""))):
            raise UserError(f"failed={self.failed}: write 3, 2-5 or 2-")
        low = int(match[1])
        return low, int(match[3] or 1_000_000) if match[2] else low

    def attempt_sql(self, hits: str = "", regimes: bool = False) -> tuple[str, dict]:
        """Joins and conditions on attempts `a` in files `f`.

        Args:
          hits: table of the attempts whose text was found.
          regimes: the table `regimes` may be joined.

        Returns:
          SQL after `FROM attempts a`, and its parameters.
        """
        sql, where, values = "JOIN files f USING (file)", [], {}
        for name, column in (("folder", "f.folder"), ("operator", "a.operator")):
            if value := getattr(self, name):
                where.append(f"{column} = ${name}")
                values[name] = value
        if self.grade == "failed":
            where.append("a.grade IN ('wrong', 'unparsed')")
        elif self.grade:
            where.append("a.grade = $grade")
            values["grade"] = self.grade
        where += [f"a.{name}" for name in ("truncated", "fired") if getattr(self, name)]
        if self.text:
            sql += f" JOIN {hits} h USING (file, row)"
        if self.regime and regimes:
            sql += " JOIN regimes g USING (file, row)"
            where.append("g.regime = $regime")
            values["regime"] = self.regime
        return f"{sql} WHERE {' AND '.join(where or ['true'])}", values

    def problem_sql(self) -> tuple[str, dict]:
        """Conditions on problems `p` with sums `s`, and their parameters."""
        where, values = ["true"], {}
        for name, column in (("task", "p.task"), ("label", "s.label")):
            if value := getattr(self, name):
                where.append(f"{column} = ${name}")
                values[name] = value
        if span := self.failed_range():
            where.append("s.failed BETWEEN $low AND $high")
            values |= {"low": span[0], "high": span[1]}
        return " AND ".join(where), values


def problems_sql(chosen: AttemptFilter, hits: str = "") -> tuple[str, dict]:
    """The query of the list of problems.

    Args:
      chosen: the filter.
      hits: table of the attempts whose text was found.

    Returns:
      SQL whose rows are problems, and its parameters; `matches` counts the attempts
      that pass, `failed` of `rollouts` the rollouts that failed.
    """
    inside = "JOIN files f USING (file) WHERE f.folder = $folder" * bool(chosen.folder)
    passed, values = chosen.attempt_sql(hits, regimes=True)
    where, more = chosen.problem_sql()
    label_folder = "WHERE folder = $folder" * bool(chosen.folder)
    return (
        f"""
        WITH passed AS (
            SELECT a.problem, count(*) AS matches FROM attempts a {passed}
            GROUP BY ALL),
        label AS (
            SELECT problem, CASE WHEN count(*) = 1 THEN any_value(label) END AS label
            FROM labels {label_folder} GROUP BY ALL),
        sums AS (
            SELECT a.problem, count(*) AS attempts,
                count(*) FILTER (a.operator = '{ROLLOUT}') AS rollouts,
                count(*) FILTER (a.operator = '{ROLLOUT}'
                    AND a.grade IN ('wrong', 'unparsed')) AS failed,
                count(*) FILTER (a.operator != '{ROLLOUT}') AS tried,
                count(*) FILTER (a.operator != '{ROLLOUT}' AND a.grade = 'right')
                    AS rescued
            FROM attempts a {inside} GROUP BY ALL),
        s AS (SELECT * FROM sums LEFT JOIN label USING (problem))
        SELECT p.problem, p.task, p.name, p.question, s.label, s.rollouts, s.failed,
            s.tried, s.rescued, s.attempts, passed.matches,
            s.failed / nullif(s.rollouts, 0) AS share
        FROM problems p JOIN passed USING (problem) JOIN s USING (problem)
        WHERE {where} ORDER BY {ORDERS[chosen.order]}
        """,
        values | more,
    )


def rows_of(cursor, sql: str, values: Mapping | Sequence | None = None) -> list[dict]:
    """Rows of a query as dicts.

    Args:
      cursor: of the database.
      sql: the query.
      values: its parameters.

    Returns:
      One dict per row, by name of the column.
    """
    done = cursor.execute(sql, values) if values else cursor.execute(sql)
    names = [column[0] for column in done.description]
    return [dict(zip(names, row)) for row in done.fetchall()]
