"""V of the atlas over a trace: the rate of plain branches from each of its cuts."""

import bisect
import json
from pathlib import Path
from typing import Any

from fr.errors import UserError
from fr.files import read_regular

VALUE = "value"  # shown as a statistic of the tokens
_FILE, _LARGEST = "atlas.json", 1 << 30
_PLAIN = "retry"


class AtlasValues:
    """Reads `atlas.json` of a run again when it changes."""

    def __init__(self):
        """Read nothing yet."""
        self._known: dict[Path, tuple[int, dict[str, dict]]] = {}

    def of(self, root: Path, row: str) -> list[float | None] | None:
        """The rate of retry at every token of a trace.

        Args:
          root: folder of the run.
          row: name of the rollout.

        Returns:
          V of the last cut up to each token, [T]; None for a trace that the atlas has
          not.
        """
        found = self._traces(root).get(row)
        if found is None:
            return None
        right, made = (found[key][_PLAIN] for key in ("right", "made"))
        rates = [r / n if n else None for r, n in zip(right, made)]
        last = lambda i: bisect.bisect_right(found["cuts"], i) - 1
        return [rates[last(i)] for i in range(found["tokens"])]

    def _traces(self, root: Path) -> dict[str, dict[str, Any]]:
        path = root / _FILE
        if not path.exists():
            return {}
        stamp = path.stat().st_mtime_ns
        if self._known.get(path, (0,))[0] != stamp:
            try:
                record = json.loads(read_regular(path, _LARGEST))
                traces = {trace["row"]: trace for trace in record["traces"]}
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path} is damaged; scripts/atlas.py writes it again"
                ) from error
            self._known[path] = stamp, traces
        return self._known[path][1]
