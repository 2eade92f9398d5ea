"""Metrics of a run as lines of JSON; clocks and memory are kept apart from them."""

import contextlib
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Iterator

from etils import epath

from fr.errors import UserError, cannot_write
from fr.files import parse_json, read_regular
from fr.interrupts import check
from fr.workdir import PathLike, sync, write_whole

_LARGEST = 1 << 32  # bytes of a file of metrics
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
        write_whole(self.path, "".join(map(_text, self.lines)).encode())
        self._file = self.path.open("a")

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
        try:
            self._file.write(_text(line))
            sync(self._file)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.lines.append(line)

    def close(self) -> None:
        """Close the file."""
        # `write` has reported a full disk.
        with contextlib.suppress(OSError):
            self._file.close()


class Board:
    """The same metrics for TensorBoard, if tensorboardX is installed."""

    def __init__(self, folder: PathLike, after: int):
        """Open the folder; later steps of a killed run are hidden.

        Args:
          folder: of the event files.
          after: steps after this one are hidden.
        """
        self._writer = None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=after + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step.

        Args:
          step: of the training.
          values: by name of the metric.
        """
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write all buffered values."""
        if self._writer:
            self._writer.close()


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


def _text(values: dict) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def read_lines(path: PathLike) -> list[dict]:
    """The whole lines of a file of metrics; a kill may have cut the last one.

    Args:
      path: of the file; a missing file has no lines.

    Returns:
      One dict per line.

    Raises:
      UserError: a line is not a JSON object or its step precedes the last one.
    """
    path = epath.Path(path)
    if not path.exists():
        return []
    found, last = [], 0
    try:
        text = read_regular(path, _LARGEST).decode()
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
