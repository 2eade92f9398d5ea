"""Compiled programs kept on disk between runs, and a log of a run's compilations."""

import functools
import json
import sys
import tempfile
from pathlib import Path

import jax
from etils import epath

from fr.errors import UserError, first_line
from fr.progress import Announcer
from fr.workdir import PathLike, cache_folder, write_whole

_WORTH = 1.0  # seconds of compilation from which a program is kept on disk
# Reported for programs from the disk as well.
_COMPILED = "/jax/core/compile/backend_compile_duration"
_FROM_DISK = "/jax/compilation_cache/cache_hits"


def keep() -> None:
    """Keep programs in `programs` of the cache folder, unless jax has another folder.

    If that folder cannot be written, programs are compiled again in every run.

    Raises:
      UserError: jax computes in float64; everything here is float32 or narrower.
    """
    if getattr(jax.config, "jax_enable_x64"):
        raise UserError(
            "jax_enable_x64 is on and this code computes in float32; turn it off "
            "(JAX_ENABLE_X64=0)"
        )
    if getattr(jax.config, "jax_compilation_cache_dir") is None and (
        folder := _cache()
    ):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH)


@functools.cache
def _cache() -> Path | None:
    """The folder of programs; None, with one line, where it cannot be written."""
    try:
        folder = cache_folder() / "programs"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        why = getattr(error, "strerror", None) or first_line(error)
        print(
            "note: compiled programs are not kept: the cache folder cannot be written "
            f"({why}); set FR_CACHE",
            file=sys.stderr,
            flush=True,
        )
        return None


class CompileLog:
    """All programs of this process: name, seconds, and whether it came from the disk.

    There is one log per process, since jax keeps its listeners; see `compile_log`.

    Attributes:
      programs: one dict per program.
    """

    def __init__(self):
        self.programs: list[dict] = []
        self._path: epath.Path | None = None
        self._from_disk = False
        self._announcer = Announcer()
        jax.monitoring.register_event_listener(self._event)
        jax.monitoring.register_event_duration_secs_listener(self._duration)

    def write_to(self, path: PathLike) -> None:
        """From now on, also write lines of JSON; seconds need a file of their own.

        Args:
          path: of the file.
        """
        self._path, self.programs = epath.Path(path), []

    def _event(self, event: str, **_) -> None:
        self._from_disk |= event == _FROM_DISK

    def _duration(self, event: str, duration_secs: float, **more: str | int) -> None:
        if event != _COMPILED:
            return
        self._announcer.done()
        self.programs.append(
            {
                "program": more.get("fun_name", ""),
                "seconds": round(duration_secs, 3),
                "from_disk": self._from_disk,
            }
        )
        self._from_disk = False
        if self._path is not None:
            write_whole(
                self._path,
                "".join(json.dumps(p) + "\n" for p in self.programs).encode(),
            )


@functools.cache
def compile_log() -> CompileLog:
    """The log of this process.

    Returns:
      The one CompileLog.
    """
    return CompileLog()
