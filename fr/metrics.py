"""Metrics of a run as lines of JSON; clocks and memory are kept apart from them.

A local file grows line by line. An object of a bucket cannot: there each new line is an
object in `FILE.parts/`, named by the line's number. They become one file after every
`_PARTS` lines and at the end.
"""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator

from etils import epath

from fr.errors import UserError, cannot_write
from fr.files import parse_json, read_regular
from fr.interrupts import check
from fr.workdir import PathLike, is_local, sync, write_whole

_LARGEST = 1 << 32  # bytes of a file of metrics
_PARTS = 64  # lines of a bucket between two whole files
_REMEDY = "remove the lines from there on, or the folder of this training"


class MetricsWriter:
    """Appends one JSON object per line, flushed at once: a kill loses at most one
    line."""

    def __init__(self, path: PathLike, after: int):
        """Open the file; a resumed run writes later steps again.

        Args:
          path: of the file.
          after: lines up to and including this step are kept.
        """
        self.path = epath.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines = [line for line in read_lines(self.path) if line["step"] <= after]
        self._whole = -1  # lines of the file; the others are parts
        self._join()
        self._file = self.path.open("a") if is_local(self.path) else None

    def write(self, step: int, **values: float) -> None:
        """Append one line.

        Args:
          step: of the training.
          **values: by name of the metric.

        Raises:
          ValueError: a value is NaN or infinite.
          UserError: the disk is full or cannot be written.
        """
        check()
        line = {"step": step, **values}
        text = _text(line)
        if self._file is None:
            write_whole(_part(self.path, len(self.lines)), text.encode())
        else:
            try:
                self._file.write(text)
                sync(self._file)
            except OSError as error:
                raise cannot_write(self.path, error) from error
        self.lines.append(line)
        if self._file is None and len(self.lines) - self._whole >= _PARTS:
            self._join()

    def close(self) -> None:
        """Close the file; in a bucket it is made of its parts."""
        if self._file is None:
            self._join()
            return
        # `write` has reported a full disk.
        with contextlib.suppress(OSError):
            self._file.close()

    def _join(self) -> None:
        """Write all lines to the file, then remove the parts."""
        if self._whole == len(self.lines):
            return
        write_whole(self.path, "".join(map(_text, self.lines)).encode())
        self._whole = len(self.lines)
        if not is_local(self.path) and (parts := _part(self.path, 0).parent).exists():
            parts.rmtree(missing_ok=True)


class Clock:
    """Seconds since its start and peak memory, for `timings.jsonl`, which is never
    compared."""

    def __init__(self):
        self._start = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Elapsed time and peak memory.

        Returns:
          `seconds` since the start, and `peak_mib`, the process's largest resident size
          in MiB.
        """
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in KiB, macOS in bytes.
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return {
            "seconds": round(time.perf_counter() - self._start, 3),
            "peak_mib": round(peak / scale, 1),
        }


class Stages:
    """Seconds of the stages of one step, summed by name.

    Attributes:
      seconds: by name of the stage.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Count the block as part of a stage; device work started in it must end in it.

        Args:
          name: of the stage.

        Yields:
          None.
        """
        start = time.perf_counter()
        yield
        self.seconds[name] = round(
            self.seconds.get(name, 0.0) + time.perf_counter() - start, 4
        )


def _part(path: epath.Path, number: int) -> epath.Path:
    """The object of one line, numbered from 0."""
    return path.parent / f"{path.name}.parts" / f"{number:08d}"


def _text(values: dict) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def read_lines(path: PathLike) -> list[dict]:
    """The whole lines of a file of metrics; a kill may have cut the last one.

    Args:
      path: of the file; a missing file has no lines. Parts beside it follow.

    Returns:
      One dict per line.

    Raises:
      UserError: a line is not a JSON object or its step precedes the last one.
    """
    path = epath.Path(path)
    found, last = [], 0
    try:
        data = read_regular(path, _LARGEST) if path.exists() else b""
        text = (data if is_local(path) else data + _parts(path, data)).decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text (byte {error.start}); {_REMEDY}"
        ) from error
    for number, line in enumerate(text.split("\n")[:-1], 1):
        value = parse_json(line, f"{path}:{number}")
        step = value.get("step") if isinstance(value, dict) else None
        if type(step) is not int or step < last:
            raise UserError(
                f"{path}:{number}: is not a line of metrics of step {last} or later; "
                f"{_REMEDY}"
            )
        found.append(value)
        last = step
    return found


def _parts(path: epath.Path, whole: bytes) -> bytes:
    """The lines that follow a file of a bucket; parts from before it are in it."""
    folder = _part(path, 0).parent
    there = {part.name for part in folder.iterdir()} if folder.exists() else set()
    lines, number = b"", whole.count(b"\n")
    while (part := _part(path, number)).name in there:
        lines += read_regular(part, _LARGEST)
        number += 1
    return lines
