"""Repeats in turn, medians, and the time of one decode step."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Request


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one job, measured several times."""

    seconds: tuple[float, ...]  # of each run

    @property
    def median(self) -> float:
        """Median in seconds, the figure that is compared."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """Least seconds, of the least disturbed run."""
        return min(self.seconds)

    def record(self) -> dict:
        """Median and least in milliseconds and the number of repeats, for the JSON."""
        return {
            "median_ms": 1e3 * self.median,
            "min_ms": 1e3 * self.least,
            "repeats": len(self.seconds),
        }


def in_turn(jobs: dict[str, Callable[[], float]], repeats: int) -> dict[str, Times]:
    """Run all jobs in turn, `repeats` times over, after one run each for compilation.

    In turn, because a shared machine drifts: neighbouring runs are disturbed alike.

    Args:
        jobs: functions that return the seconds that they measured.
        repeats: number of timed runs of each.

    Returns:
        Times by name of the job.
    """
    for job in jobs.values():
        job()
    found = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            found[name].append(job())
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def clocked(job: Callable[[], object]) -> Callable[[], float]:
    """Make a timed job.

    Args:
        job: function without arguments.

    Returns:
        A job for `in_turn`.
    """

    def run() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    return run


def decode_step(
    engine: Engine, prompts: Sequence[Sequence[int]], rows: int, short: int, long: int
) -> Callable[[], float]:
    """Make a job that measures one decode step, with all the host's work for it.

    It is the difference of a run of `long` and a run of `short` tokens per row, in
    which reading the prompts cancels.

    Args:
        engine: the engine to time.
        prompts: ids of prompts of one length.
        rows: number of rows.
        short: tokens per row of the first run.
        long: tokens per row of the second.

    Returns:
        A job for `in_turn`.
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


# rows of a device: fewer waste more on reading the weights again than a second device
# gives
_LEAST = 32


def spread(rows: int) -> dict:
    """Choose devices and slots of an engine: all local devices where that pays.

    Args:
        rows: number of rows over all devices.

    Returns:
        The options `devices` and `slots`.
    """
    devices = Devices()
    if rows % devices.count or rows < _LEAST * devices.count:
        return {"devices": Devices("one"), "slots": rows}
    return {"devices": devices, "slots": rows // devices.count}
