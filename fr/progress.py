"""Progress on the terminal beside the bars: the present stage, and long
compilations."""

import logging
import math
import re
import sys
import threading

from tqdm import tqdm

_LONG = 2.0  # seconds after which a compilation is announced
# Logs "Compiling NAME with global shapes and types ..." before a compilation.
_JAX = "jax._src.interpreters.pxla"


def stage(number: int, count: int, name: str) -> None:
    """Print the beginning of a stage on a terminal; a log has the bars.

    Args:
      number: of the stage, from 1.
      count: of all stages.
      name: of the stage.
    """
    if sys.stderr.isatty():
        tqdm.write(f"[{number}/{count}] {name}", file=sys.stderr)


class Announcer(logging.Handler):
    """Announces a compilation after two seconds, with its program and its largest
    shapes."""

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
                _LONG, lambda: tqdm.write(line, file=sys.stderr)
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
