"""A process that lives and does nothing: its heartbeat goes on, so the others would wait for it without end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_LOOKS = 20  # times that the watch looks within the patience of a job


class _Progress:
    """When this process last got on, and what it waits for."""

    def __init__(self):
        self.at, self.waits = time.monotonic(), ""


_own = _Progress()


def beat() -> None:
    """Say that this process gets on; loops of the host call it."""
    _own.at = time.monotonic()


@contextlib.contextmanager
def waiting(name: str) -> Iterator[None]:
    """Within it this process waits for the others at `name`, and is not the one that hangs."""
    _own.at, _own.waits = time.monotonic(), name
    try:
        yield
    finally:
        _own.at, _own.waits = time.monotonic(), ""


def watch(patience: int, hangs: Callable[[str], None]) -> None:
    """Call `hangs(why)` in a thread once this process has not got on for `patience` seconds.

    One that waits has half as much again: the process that it waits for is to say so first.
    """
    beat()

    def look():
        while True:
            time.sleep(patience / _LOOKS)
            idle, name = time.monotonic() - _own.at, _own.waits
            if not name and idle > patience:
                return hangs(f"has not got on for {patience} s, though it lives")
            if name and idle > 1.5 * patience:
                return hangs(
                    f"has waited {idle:.0f} s for the others at {name!r}, and they live"
                )

    threading.Thread(target=look, daemon=True).start()
