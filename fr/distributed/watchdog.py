"""Ends a job whose process lives but does nothing, which a heartbeat cannot notice."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

_LOOKS = 20  # looks of the watch within the patience of a job


@dataclasses.dataclass
class Limits:
    """Seconds after which a process counts as gone, as the flags of a run give them."""

    heartbeat: float = 60  # without a sign of life
    patience: float = 3600  # without progress; compiling a large model takes minutes


limits = Limits()


class _Progress:
    """The time of this process's last progress, and the barrier that it waits at."""

    def __init__(self):
        self.at, self.waits = time.monotonic(), ""


_own = _Progress()


def beat() -> None:
    """Note progress; the loops of the host call it."""
    _own.at = time.monotonic()


def idle() -> float:
    """Seconds since this process's last progress."""
    return time.monotonic() - _own.at


@contextlib.contextmanager
def waiting(name: str) -> Iterator[None]:
    """Mark the block as waiting for the other processes.

    Args:
      name: of the barrier.

    Yields:
      None.
    """
    _own.at, _own.waits = time.monotonic(), name
    try:
        yield
    finally:
        _own.at, _own.waits = time.monotonic(), ""


def watch(patience: int, hangs: Callable[[str], None]) -> None:
    """Start a thread that notices when this process makes no progress.

    A process that waits has 1.5 times the patience, so that the process that it waits
    for reports first.

    Args:
      patience: seconds without progress.
      hangs: called once with the reason.
    """
    beat()

    def look():
        while True:
            time.sleep(patience / _LOOKS)
            idles, name = idle(), _own.waits
            if not name and idles > patience:
                return hangs(f"has made no progress for {patience} s, though it lives")
            if name and idles > 1.5 * patience:
                return hangs(
                    f"has waited {idles:.0f} s for the others at {name!r}, "
                    "and they live"
                )

    threading.Thread(target=look, daemon=True).start()
