"""What a person who watches a run sees beside its bars: the stage that it is in, and long compilations."""

import logging
import math
import re
import sys
import threading

from tqdm import tqdm

_LONG = 2.0  # seconds from which a compilation is worth a line
_JAX = "jax._src.interpreters.pxla"  # says "Compiling NAME with global shapes and types ..." before it begins


def stage(number: int, count: int, name: str) -> None:
    """Say on a terminal which stage of how many begins; a log has the bars of the stages."""
    if sys.stderr.isatty():
        tqdm.write(f"[{number}/{count}] {name}", file=sys.stderr)


class Announcer(logging.Handler):
    """Tells of a compilation that has taken two seconds, by its program and the largest shapes that it reads."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self._timer: threading.Timer | None = None
        logger = logging.getLogger(_JAX)
        logger.setLevel(logging.DEBUG)
        # What is meant for the terminal still gets there: these records alone are kept from it.
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Start waiting for the end of a compilation."""
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
        """A compilation has ended."""
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
