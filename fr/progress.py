"""Progress: bars, the present stage and long compilations.

A terminal has a line that is drawn over. A log has a line per minute, so that short
work is quiet there.
"""

import io
import logging
import math
import re
import sys
import threading

from tqdm import tqdm

_LONG = 2.0  # seconds after which a terminal hears of a compilation
_MINUTE = 60.0  # seconds between two lines of a log
# Logs "Compiling NAME with global shapes and types ..." before a compilation.
_JAX = "jax._src.interpreters.pxla"


class Bar(tqdm):
    """A progress bar of tqdm on a terminal, and one line per minute in a log."""

    def __init__(self, *args, **given):
        """Begin; a log hears nothing within the first minute.

        Args:
          *args: of tqdm.
          **given: of tqdm.
        """
        self._log = not sys.stderr.isatty()
        self._shown: int | None = None  # the count of the last line of a log
        self._timer: threading.Timer | None = None
        self._ended = False
        if self._log:
            # `_beat` writes the lines, whether or not the count moves.
            given |= {"delay": math.inf, "file": sys.stderr, "ncols": 88}
        super().__init__(*args, **given)
        if self._log and not self.disable:
            self._wait()

    def _wait(self) -> None:
        if self._ended:
            return
        self._timer = threading.Timer(_MINUTE, self._beat)
        self._timer.daemon = True
        self._timer.start()

    def _beat(self) -> None:
        self._shown = self.n
        self.fp.write(f"{self}\n")
        self.fp.flush()
        self._wait()

    def close(self) -> None:
        """End the bar; a log that has lines of it has a last one."""
        if self._timer and not self.disable:
            self._ended = True
            self._timer.cancel()
            self._timer.join()
            if self._shown not in (None, self.n):
                self.fp.write(f"{self}\n")
            setattr(self, "fp", io.StringIO())  # tqdm ends a line that is not there
        super().close()


def stage(number: int, count: int, name: str) -> None:
    """Print the beginning of a stage on a terminal.

    Args:
      number: of the stage, from 1.
      count: of all stages.
      name: of the stage.
    """
    if sys.stderr.isatty():
        tqdm.write(f"[{number}/{count}] {name}", file=sys.stderr)


class Announcer(logging.Handler):
    """Announces a compilation that takes long, with its program and largest shapes.

    Long is two seconds on a terminal and a minute in a log.
    """

    def __init__(self):
        super().__init__(logging.DEBUG)
        self._timer: threading.Timer | None = None
        logger = logging.getLogger(_JAX)
        logger.setLevel(logging.DEBUG)
        # Only these records are kept from the terminal; warnings are printed below.
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Start waiting for the end of a compilation.

        Args:
          record: of jax's log.
        """
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            tqdm.write(text, file=sys.stderr)
        if match := re.match(r"Compiling (?:jit\()?([\w.<>-]+)", text):
            self.done()
            line = f"  compiling {match[1]}{_shapes(text)} ..."
            self._timer = threading.Timer(
                _LONG if sys.stderr.isatty() else _MINUTE,
                lambda: tqdm.write(line, file=sys.stderr),
            )
            self._timer.daemon = True
            self._timer.start()

    def done(self) -> None:
        """Note the end of a compilation."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _shapes(text: str) -> str:
    found = {match for match in re.findall(r"\w+\[([\d,]+)\]", text) if "," in match}
    if not found:
        return ""
    largest = max(
        sorted(found), key=lambda shape: math.prod(map(int, shape.split(",")))
    )
    return f" [{largest.replace(',', ' × ')}]"
