"""One attempt with its tokens: a row that is read where it lies in its shard."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fr.errors import UserError, first_line
from fr.store_columns import (
    CONFIDENCE,
    COSTS,
    LINEAGE_STATS,
    PARAMS,
    SCHEMA,
    SINGLE,
    TOKEN_STATS,
)
from fr.types import ROLLOUT
from fr.viewer.atlas_values import VALUE, AtlasValues
from fr.viewer.attempt_filter import rows_of
from fr.viewer.attempts_index import AttemptsIndex
from fr.viewer.pieces import Pieces
from fr.viewer.shards import SCORES, Shard, root_of

STATISTICS = (*TOKEN_STATS, *LINEAGE_STATS, "sample_logp")
_TRACE = re.compile(r"(.{1,2000})/(\d{1,6})/(\d{1,9})", re.DOTALL)
_LISTS = ("key", "prompt", "tokens", "forced", "fired", "cuts", *CONFIDENCE)
_LISTED = ("question", "reference", "meta")  # shown with the problem, or not at all
_ONE = tuple(name for name in SINGLE if name not in _LISTED)
_HEAD = (*_ONE, *PARAMS, *(f"cost_{name}" for name in COSTS), *_LISTS)
# Given as lists and links have them.
_NAMES = ("task", "problem", "operator", "specialist", "ancestor")
_QUOTE = '"'
_DIGITS = 5  # of a statistic, significant


def trace_name(folder: str, shard: int, row: int) -> str:
    """The name of an attempt in links.

    Args:
      folder: of its shard, relative to the workdir.
      shard: number of the shard.
      row: in the shard.

    Returns:
      The three, divided by slashes.
    """
    return f"{folder}/{shard}/{row}"


class Traces:
    """Reads single attempts of an index."""

    def __init__(self, index: AttemptsIndex):
        """Read nothing yet.

        Args:
          index: of the attempts.
        """
        self.index, self.pieces = index, Pieces(index.workdir)
        self._atlas = AtlasValues()

    def place(self, name: str) -> tuple[int, int]:
        """Number of the shard and of the row of a trace.

        Args:
          name: as `trace_name` gives it.

        Returns:
          The two numbers.

        Raises:
          UserError: there is no such attempt.
        """
        if match := _TRACE.fullmatch(name):
            for number, shard in enumerate(self.index.shards):
                if (shard.folder, shard.index) == (match[1], int(match[2])):
                    return number, int(match[3])
        raise UserError(f"trace={name}: there is no such attempt")

    def head(self, name: str, statistic: str = "entropy") -> dict[str, Any]:
        """An attempt with its pieces of text, marks and one statistic.

        Args:
          name: of the trace.
          statistic: as in `statistics`.

        Returns:
          Values by name. `junction` is the drawn token with the largest J, or with the
          largest V where no ancestor read along; None without either. `junction_by`
          says which of the two, `values` the operators that have V of the atlas.

        Raises:
          UserError: there is no such attempt, or the shard cannot be read.
        """
        number, row = self.place(name)
        shard = self.index.shards[number]
        extra = [c for c in _columns(self, shard.path) if c not in SCHEMA.names]
        found = self._row(shard.path, row, (*_HEAD, *extra))
        if found is None:
            raise UserError(f"trace={name}: the shard has no such row")
        stats = self.statistics(name, dict.fromkeys((statistic, "demotion")), found)
        by = "demotion"
        if stats[by] is None:
            by = "logit_var"
            stats |= self.statistics(name, [by], found)
        pieces, reason = self.pieces.split(shard.folder, found["tokens"])
        total = found["cost_generated"] + found["cost_forced"]
        lists = {name: found.pop(name) for name in _LISTS}
        more = {name: found.pop(name) for name in extra}
        operators, no_values = self._operators(shard, found.pop("row"))
        return {
            "trace": name,
            **found,
            **lists,
            **{name: _short(lists[name]) for name in CONFIDENCE},
            "more": {k: v for k, v in more.items() if not isinstance(v, list)},
            "pieces": pieces,
            "no_pieces": reason,
            "prompt_text": "".join(self.pieces.split(shard.folder, lists["prompt"])[0]),
            "rewound": max(0, total - len(lists["tokens"])),
            "top": self._top(shard.folder, lists, more),
            "junction": _junction(stats[by], lists["forced"]),
            "junction_by": by,
            "values": operators,
            "no_values": no_values,
            "retry": self._retry(number, found),
            "stats": {k: v for k, v in stats.items() if v is not None},
        }

    def statistics(
        self, name: str, names: Sequence[str] | dict, known: dict | None = None
    ) -> dict[str, list[float | None] | None]:
        """Statistics of the tokens of an attempt.

        Those that a rollout lacks are taken from its scores, where it was scored.

        Args:
          name: of the trace.
          names: of STATISTICS, or VALUE and the name of an operator.
          known: the attempt's `row`, if it was read.

        Returns:
          Values by name, [T]; None where there are none.

        Raises:
          UserError: a name is unknown, or the shard cannot be read.
        """
        for one in names:
            if one not in STATISTICS and not one.startswith(VALUE):
                raise UserError(f"statistic={one} is not in {', '.join(STATISTICS)}")
        number, row = self.place(name)
        shard = self.index.shards[number]
        read = [one for one in names if one in STATISTICS]
        found = self._row(shard.path, row, ("row", *read)) or {}
        root = root_of(self.index.workdir, shard.folder)
        for one in names:
            if one.startswith(VALUE) and "row" in found:
                operator = one.removeprefix(VALUE)
                found[one] = self._atlas.of(root, found["row"], operator)
        lacking = [one for one in read if not found.get(one)]
        scores = _scores_of(shard)
        if lacking and scores is not None:
            found |= self._scored(scores, found["row"], lacking)
        return {one: _short(found.get(one)) for one in names}

    def _operators(self, shard: Shard, row: str) -> tuple[list[str], str]:
        """Operators with V of the atlas, or none and why it cannot be read."""
        try:
            root = root_of(self.index.workdir, shard.folder)
            return self._atlas.operators(root, row), ""
        except UserError as error:
            return [], str(error)

    def _scored(self, path: Path, row: str, names: Sequence[str]) -> dict[str, Any]:
        ask = "SELECT file_row_number FROM read_parquet(?, file_row_number = true) "
        done = self._execute(f"{ask} WHERE row = ?", [str(path), row])
        place = done.fetchone()
        return (self._row(path, place[0], names) or {}) if place else {}

    def _row(self, path: Path, row: int, columns: Sequence[str]) -> dict | None:
        quoted = (f'"{name.replace(_QUOTE, 2 * _QUOTE)}"' for name in columns)
        names = ", ".join(
            f"short_name({one})" if name in _NAMES else one
            for name, one in zip(columns, quoted)
        )
        sql = f"SELECT {names} FROM read_parquet(?, file_row_number = true) "
        done = self._execute(f"{sql} WHERE file_row_number = ?", [str(path), row])
        values = done.fetchone()
        return dict(zip(columns, values)) if values else None

    def _execute(self, sql: str, values: list) -> Any:
        try:
            return self.index.cursor().execute(sql, values)
        except Exception as error:
            raise UserError(first_line(error)) from error

    def _top(self, folder: str, lists: dict, more: dict) -> dict[str, Any] | None:
        """The most probable tokens at each place, where the run kept them."""
        if more.get("top_tokens") is None or not lists["prompt"]:
            return None
        ids = more["top_tokens"]
        found = self.pieces.words(folder, lists["prompt"][-1], set().union(*ids))
        words = {str(token): word for token, word in found.items()}
        logp = [_short(place) for place in more["top_logp"]]
        return {"tokens": ids, "logp": logp, "words": words}

    def _retry(self, number: int, found: dict) -> str | None:
        """The retry of the same problem and number, to compare with."""
        if found["operator"] in ("retry", ROLLOUT):
            return None
        shard = self.index.shards[number]
        rows = rows_of(
            self.index.cursor(),
            """SELECT f.shard, a.row FROM attempts a JOIN files f USING (file)
            JOIN problems p USING (problem) WHERE p.name = ? AND p.task = ?
            AND f.folder = ? AND a.operator = 'retry' AND a.attempt = ?""",
            [found["problem"], found["task"], shard.folder, found["attempt"]],
        )
        return trace_name(shard.folder, **rows[0]) if rows else None


def _columns(traces: Traces, path: Path) -> list[str]:
    sql = "SELECT * FROM read_parquet(?) LIMIT 0"
    return [column[0] for column in traces._execute(sql, [str(path)]).description]


def _scores_of(shard: Shard) -> Path | None:
    path = shard.path.parent.parent / SCORES / shard.path.name
    return path if shard.path.parent.name == "rollouts" and path.exists() else None


def _short(values: list | None) -> list[float | None] | None:
    """Numbers of few digits; JSON has no NaN and no infinity."""
    if values is None:
        return None
    return [
        float(f"{v:.{_DIGITS}g}") if v is not None and math.isfinite(v) else None
        for v in values
    ]


def _junction(values: list | None, forced: list) -> int | None:
    """The drawn token with the largest value, the first of equals.

    `fr.diagnosis.junction` defines it; a test compares the two.
    """
    if not values or all(forced):
        return None
    known = np.array([-np.inf if v is None else v for v in values])
    return int(np.argmax(np.where(np.array(forced, bool), -np.inf, known)))
