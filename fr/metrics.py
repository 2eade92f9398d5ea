"""Numbers of a run as lines of JSON, and where clocks and memory are kept apart from them."""

import json
import resource
import sys
import time

from etils import epath

from fr.workdir import PathLike, write_whole


class MetricsWriter:
    """Appends one JSON object a line, flushed at once: a kill loses at most the line in writing."""

    def __init__(self, path: PathLike, after: int):
        """Keep the file's lines up to and including step `after`; a resumed run writes the others again."""
        self.path = epath.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(self.path) if line["step"] <= after]
        write_whole(self.path, "".join(map(_text, kept)).encode())
        self._file = self.path.open("a")

    def write(self, step: int, **values: float) -> None:
        """Append `values` of a step; raises ValueError on NaN and infinity."""
        self._file.write(_text({"step": step, **values}))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Clock:
    """Seconds since its start and peak memory: for `timings.jsonl`, no file that runs are compared by."""

    def __init__(self):
        self._start = time.perf_counter()

    def read(self) -> dict[str, float]:
        """`seconds` since the start, and `peak_mib`, the process's largest resident size in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in KiB, macOS in bytes.
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return {"seconds": round(time.perf_counter() - self._start, 3), "peak_mib": round(peak / scale, 1)}


def _text(values: dict) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def _lines(path: epath.Path) -> list[dict]:
    """The whole lines of a file; the last one may have been cut by a kill."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]
