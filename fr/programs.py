"""Compiled programs: kept on disk from run to run, and a log of what a run had to compile."""

import functools
import json

import jax
from etils import epath

from fr.workdir import PathLike, cache_folder, write_whole

_WORTH = 1.0  # seconds of compilation from which a program is kept on disk
_COMPILED = "/jax/core/compile/backend_compile_duration"  # reported for programs from the disk, too
_FROM_DISK = "/jax/compilation_cache/cache_hits"


def keep() -> None:
    """Keep programs in `programs` of the cache folder, unless jax has been told another place."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH)


class CompileLog:
    """Every program of this process since it was asked for: name, seconds, and whether it came from the disk.

    One log a process, since jax keeps its listeners; see `compile_log`.
    """

    def __init__(self):
        self.programs: list[dict] = []
        self._path: epath.Path | None = None
        self._from_disk = False
        jax.monitoring.register_event_listener(self._event)
        jax.monitoring.register_event_duration_secs_listener(self._duration)

    def write_to(self, path: PathLike) -> None:
        """From now on also lines of JSON in `path`: a file of its own, because seconds are in it."""
        self._path, self.programs = epath.Path(path), []

    def _event(self, event: str, **_) -> None:
        self._from_disk |= event == _FROM_DISK

    def _duration(self, event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event != _COMPILED:
            return
        self.programs.append(
            {"program": fun_name, "seconds": round(seconds, 3), "from_disk": self._from_disk}
        )
        self._from_disk = False
        if self._path is not None:
            write_whole(self._path, "".join(json.dumps(p) + "\n" for p in self.programs).encode())


@functools.cache
def compile_log() -> CompileLog:
    """The log of this process."""
    return CompileLog()
