"""Repeats in turn, medians, and the time of one decode step."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.rows import row_key
from fr.types import Request


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one thing, measured several times."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that is compared."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The least disturbed one."""
        return min(self.seconds)

    def record(self) -> dict:
        """For the JSON, in milliseconds."""
        return {
            "median_ms": 1e3 * self.median,
            "min_ms": 1e3 * self.least,
            "repeats": len(self.seconds),
        }


def in_turn(jobs: dict[str, Callable[[], float]], repeats: int) -> dict[str, Times]:
    """Let every job have its turn, `repeats` times over; a job returns the seconds that it measured itself.

    Each is run once before, for its compilation. In turn, because a shared machine drifts: what follows each other
    closely is disturbed alike.
    """
    for job in jobs.values():
        job()
    found = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            found[name].append(job())
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def clocked(job: Callable[[], object]) -> Callable[[], float]:
    """A job for `in_turn` from one that measures nothing."""

    def run() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return run


def decode_step(
    engine: Engine, prompts: Sequence[Sequence[int]], rows: int, short: int, long: int
) -> Callable[[], float]:
    """A job for `in_turn`: seconds of one decode step of `rows` rows, all that the host does for it included.

    The difference of a run of `long` and one of `short` tokens a row: reading prompts drops out.
    """

    def run(budget: int) -> None:
        prompt = lambda i: tuple(prompts[i * len(prompts) // rows])
        todo = [
            Request(str(i), prompt(i), row_key(0, i), {"budget": budget})
            for i in range(rows)
        ]
        engine.sample(todo, max_length=len(prompts[0]) + long)

    return lambda: (
        (clocked(lambda: run(long))() - clocked(lambda: run(short))()) / (long - short)
    )


_LEAST = 32  # rows of a device: fewer waste more on reading the weights again than a second device gives


def spread(rows: int) -> dict:
    """Devices and slots of an engine of `rows` rows in all: divided over all local devices where that pays."""
    devices = Devices()
    if rows % devices.count or rows < _LEAST * devices.count:
        return {"devices": Devices("one"), "slots": rows}
    return {"devices": devices, "slots": rows // devices.count}
