"""Ctrl-C and SIGTERM: one exception in the main thread; a second signal ends at
once."""

import os
import signal
import sys
import threading

from fr.errors import GO_ON

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_AGAIN = 0.05  # seconds until a swallowed exception is raised again


class Stopped(KeyboardInterrupt):
    """The user or the scheduler asked this process to end.

    Attributes:
      code: exit code, 130 or 143.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {_NAMES[signal.Signals(number)]}; {GO_ON}")
        self.code = 128 + number


class _State:
    asked: int | None = None  # the first signal
    repeat = False  # the next call of the handler is our own


def install() -> None:
    """Turn SIGINT and SIGTERM into `Stopped`; an ignored signal (nohup) stays
    ignored."""
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heard)
    sys.unraisablehook = _swallowed


def check() -> None:
    """Repeat a lost exception; loops call this once per round.

    Raises:
      Stopped: a signal was received.
    """
    if _State.asked is not None:
        raise Stopped(_State.asked)


def _heard(number: int, frame) -> None:
    ours, _State.repeat = _State.repeat, False
    if _State.asked is not None and not ours:
        os.write(2, f"\n{os.path.basename(sys.argv[0])}: stopped at once\n".encode())
        os._exit(128 + number)
    _State.asked = _State.asked or number
    raise Stopped(_State.asked)


def _swallowed(unraisable) -> None:
    """Handle errors that Python cannot raise: in a collector's callback or a
    `__del__`."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    timer = threading.Timer(_AGAIN, _raise_again)
    timer.daemon = True
    timer.start()


def _raise_again() -> None:
    _State.repeat = True
    # A real signal, which also ends a wait of the main thread.
    main = threading.main_thread().ident
    if main is not None and _State.asked is not None:
        signal.pthread_kill(main, _State.asked)
