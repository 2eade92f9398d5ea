"""`fr` and its peers on one workload: systems take turns, medians of the repeats."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.systems import Command, System, SystemFailed
from benchmarks.workload import Workload

# name in the JSON: whether statistics are asked for
KINDS = {"tokens_per_s": False, "with_stats": True}


@dataclasses.dataclass
class Result:
    """Rates of one system by number of rows."""

    about: str = ""  # description of the system
    # tokens/s without and with statistics, by number of rows
    batch: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    # the same, of one short run
    sought: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    # seconds of the first run, by number of rows
    compile_s: dict[int, float] = dataclasses.field(default_factory=dict)
    peak_rss_mb: float | None = None  # resident memory of the process
    peak_device_mb: float | None = None  # None without an accelerator
    # of the statistics: alike between systems that draw from the same distribution
    means: dict | None = None
    error: str | None = None  # the reason for missing results

    def best(self, kind: str) -> tuple[int, float] | None:
        """Find the best number of rows.

        Args:
            kind: `tokens_per_s` or `with_stats`.

        Returns:
            (rows, tokens/s), or None without a measurement.
        """
        rates = self.batch or self.sought
        found = [(rows, rate[kind]) for rows, rate in rates.items() if kind in rate]
        return max(found, key=lambda pair: pair[1]) if found else None

    def best_rows(self) -> list[int]:
        """The best numbers of rows, without and with statistics."""
        return sorted({best[0] for kind in KINDS if (best := self.best(kind))})

    def record(self) -> dict:
        """The fields for the JSON, with the compilation of the best number of rows."""
        best = self.best("tokens_per_s")
        return {
            "about": self.about,
            "batch": {str(rows): rates for rows, rates in self.batch.items()},
            "sought": {str(rows): rates for rows, rates in self.sought.items()},
            "compile_s": self.compile_s.get(best[0]) if best else None,
            "peak_rss_mb": self.peak_rss_mb,
            "peak_device_mb": self.peak_device_mb,
            "means": self.means,
            "error": self.error,
        }


class Field:
    """Systems that run side by side; one that fails leaves with its error."""

    def __init__(
        self, commands: Iterable[Command], settings: dict, say: Callable[[str], object]
    ):
        self.results, self._running, self._say = {}, {}, say
        for command in commands:
            self.results[command.name] = Result()
            self._guarded(command.name, lambda: self._start(command, settings))

    def __enter__(self) -> "Field":
        return self

    def __exit__(self, *_) -> None:
        for system in self._running.values():
            system.stop()

    def seek(
        self,
        workload: Workload,
        prompts: list[list[int]],
        rows: dict[str, Sequence[int]],
    ) -> dict[str, list[int]]:
        """Find the best numbers of rows of each system by short runs.

        Args:
            workload: a short workload.
            prompts: ids of its prompts.
            rows: candidates by system.

        Returns:
            The best numbers by system.
        """
        self.measure(workload, prompts, rows, repeats=1)
        for result in self.results.values():
            result.sought, result.batch = result.batch, {}
        return {name: result.best_rows() for name, result in self.results.items()}

    def measure(
        self,
        workload: Workload,
        prompts: list[list[int]],
        rows: dict[str, Sequence[int]],
        repeats: int,
    ) -> None:
        """Time every system, without and with statistics, and keep the medians.

        Args:
            workload: the workload.
            prompts: ids of its prompts.
            rows: numbers of rows by system.
            repeats: timed runs of each.
        """
        for size in sorted({size for sizes in rows.values() for size in sizes}):
            names = [name for name in self.results if size in rows[name]]
            for kind, wanted in KINDS.items():
                base = {
                    "prompts": prompts,
                    "rollouts": workload.rollouts,
                    "new_tokens": workload.new_tokens,
                }
                job = {
                    **base,
                    "rows": size,
                    "limit": workload.limit(size),
                    "statistics": wanted,
                }
                self._one_kind(names, kind, job, repeats)

    def _one_kind(self, names: list[str], kind: str, job: dict, repeats: int) -> None:
        size, seconds = job["rows"], {name: [] for name in names}
        # The whole job: a batch that follows another may have shapes that the first one
        # has not.
        first = {name: self._ask(name, {**job, "seed": 0}) for name in names}
        for seed in range(1, repeats + 1):
            for name in names:
                if reply := self._ask(name, {**job, "seed": seed}):
                    seconds[name].append(reply["seconds"])
                    self._note(name, reply)
                    self._say(
                        f"{name}, {size} rows, {kind}: "
                        f"{reply['tokens'] / reply['seconds']:.1f} tokens/s"
                    )
        for name in names:
            if len(seconds[name]) == repeats:
                median, result = statistics.median(seconds[name]), self.results[name]
                result.batch.setdefault(size, {})[kind] = (
                    job["limit"] * job["new_tokens"] / median
                )
                spent = first[name]["seconds"] - median
                result.compile_s[size] = max(0.0, spent) + result.compile_s.get(
                    size, 0.0
                )

    def _start(self, command: Command, settings: dict) -> None:
        system = System(command, settings)
        self._running[command.name] = system
        self.results[command.name].about = system.about

    def _ask(self, name: str, request: dict) -> dict | None:
        if name in self._running:
            return self._guarded(name, lambda: self._running[name].ask(request))
        return None

    def _note(self, name: str, reply: dict) -> None:
        result = self.results[name]
        result.peak_rss_mb, result.peak_device_mb = (
            reply["peak_rss_mb"],
            reply["peak_device_mb"],
        )
        result.means = reply["means"] or result.means

    def _guarded(self, name: str, act: Callable[[], dict | None]) -> dict | None:
        try:
            return act()
        except SystemFailed as error:
            self.results[name].error = str(error)
            self._running.pop(name, None)
            self._say(f"{name} failed: {error}")
            return None
