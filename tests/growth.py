"""Growth of the cost of reading a text with its length, on a machine of any speed."""

import time
from collections.abc import Callable

_TIMES = 8  # the longer text over the shorter
_SLACK = 3.0  # a cost over the linear one
_FLOOR = 2e-3  # seconds, below which a clock says little


def assert_linear(read: Callable[[str], object], unit: str, length: int) -> None:
    """Fail if a text 8 times as long costs more than 3 times 8 as much.

    A cost that grows with the square of the length is 64 times as high.

    Args:
      read: What reads a text.
      unit: What the text repeats.
      length: Characters of the longer text.
    """
    short = _seconds(read, unit, length // _TIMES)
    long = _seconds(read, unit, length)
    assert long < _SLACK * _TIMES * max(short, _FLOOR), (unit, short, long)


def _seconds(read: Callable[[str], object], unit: str, length: int) -> float:
    """The least processor time of three readings."""
    text, found = f"Answer: {unit * (length // len(unit))}", []
    for _ in range(3):
        begin = time.process_time()
        read(text)
        found.append(time.process_time() - begin)
    return min(found)
