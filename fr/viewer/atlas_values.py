"""V of the atlas over a trace: the rate of an operator's branches from each cut."""

import bisect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fr.errors import UserError
from fr.files import read_regular

VALUE = "value:"  # and the name of an operator: a statistic of the tokens
_FILE, _LARGEST = "atlas.json", 1 << 30
_LONGEST = 1 << 24  # tokens of a trace
_NAME = re.compile(r"[^\s,]{1,96}")  # of an operator that a request can name
Rates = list[float | None]


class AtlasValues:
    """Reads `atlas.json` of a run again when it changes."""

    def __init__(self):
        """Read nothing yet."""
        self._known: dict[Path, tuple[int, dict[str, dict]]] = {}

    def operators(self, root: Path, row: str) -> list[str]:
        """The operators that the atlas tried from the cuts of a trace.

        Args:
          root: folder of the run.
          row: name of the rollout.

        Returns:
          Their names; none for a trace that the atlas has not.
        """
        return list(self._traces(root).get(row, {}).get("rates", ()))

    def of(self, root: Path, row: str, operator: str) -> Rates | None:
        """The rate of an operator at every token of a trace.

        Args:
          root: folder of the run.
          row: name of the rollout.
          operator: that the branches were made with.

        Returns:
          V of the last cut up to each token, [T], None before the first one; None for
          a trace or an operator that the atlas has not.
        """
        found = self._traces(root).get(row)
        if found is None or operator not in found["rates"]:
            return None
        rates = [None, *found["rates"][operator]]
        cuts = found["cuts"]
        return [rates[bisect.bisect_right(cuts, i)] for i in range(found["tokens"])]

    def _traces(self, root: Path) -> dict[str, dict[str, Any]]:
        path = root / _FILE
        if not path.exists():
            return {}
        stamp = path.stat().st_mtime_ns
        if self._known.get(path, (0,))[0] != stamp:
            try:
                record = json.loads(read_regular(path, _LARGEST))
                traces = {trace["row"]: _read(trace) for trace in record["traces"]}
            except (
                *(ArithmeticError, AttributeError, KeyError, RecursionError),
                *(TypeError, ValueError),
            ) as error:
                raise UserError(
                    f"{path} is damaged; scripts/atlas.py writes it again"
                ) from error
            self._known[path] = stamp, traces
        return self._known[path][1]


def _read(trace: Mapping[str, Any]) -> dict[str, Any]:
    """Cuts, number of tokens, and rates by operator, of an entry of `traces`.

    Raises:
      ValueError: the entry is not what the atlas writes; others for other forms.
    """
    cuts, tokens = list(trace["cuts"]), trace["tokens"]
    if sorted(cuts) != cuts or not 0 <= tokens <= _LONGEST:
        raise ValueError("cuts")
    rates: dict[str, Rates] = {}
    for name, right in trace["right"].items():
        made = trace["made"][name]
        if not len(right) == len(made) == len(cuts):
            raise ValueError("right")
        if _NAME.fullmatch(name):
            rates[name] = [float(r / n) if n else None for r, n in zip(right, made)]
    return {"cuts": cuts, "tokens": int(tokens), "rates": rates}
