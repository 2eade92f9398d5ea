"""Scripts as child processes of a script: each with its config, its log and its
folder."""

import concurrent.futures
import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from absl import flags
from etils import epath
from ml_collections import config_flags

from fr.buckets import is_local, upload
from fr.errors import UserError
from fr.interrupts import Stopped
from fr.progress import Bar
from fr.user_modules import FLAG


def run_script(script: Path, arguments: Sequence[str], folder: epath.Path) -> None:
    """Run one script with this script's config, in a process of its own.

    Overrides of the config, the modules of `--user_module` and `--wandb` are passed on,
    except for the group `study`, the parent's own.

    Args:
      script: the file to run.
      arguments: flags after the config's.
      folder: gets `log.txt` with the script's output.

    Raises:
      UserError: the script failed; the line quotes its last line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, config = (
        folder / "log.txt",
        config_flags.get_config_filename(flags.FLAGS["config"]),
    )
    given = config_flags.get_override_values(flags.FLAGS["config"])
    overrides = [
        f"--config.{name}={value}"
        for name, value in given.items()
        if not name.startswith("study.")
    ]
    with _appending(log) as out:
        command = [sys.executable, str(script), f"--config={config}"]
        command += [*overrides, *shared_flags(), *arguments]
        child = subprocess.Popen(command, stdout=out, stderr=out)
        with _children_lock:
            _children.add(child)
        try:
            code = child.wait()
        finally:
            with _children_lock:
                _children.discard(child)
    if code:
        last = (log.read_text().strip().splitlines() or ["it wrote nothing"])[-1]
        raise UserError(f"{folder}: {last} (the whole log is {log})")


def shared_flags() -> list[str]:
    """The modules and the W&B project of this script, as flags of another one."""
    given = flags.FLAGS
    own: list[str] = (given[FLAG].value or []) if FLAG in given else []
    project = given["wandb"].value if "wandb" in given else ""
    shared = [f"--{FLAG}={name}" for name in own]
    return [*shared, *([f"--wandb={project}"] if project else [])]


@contextlib.contextmanager
def _appending(log: epath.Path) -> Iterator[IO[str]]:
    """An open log; a bucket's log is on the local disk and goes up at the end."""
    if is_local(log):
        with log.open("a") as out:
            yield out
        return
    with tempfile.NamedTemporaryFile("w+") as out:
        out.write(log.read_text() if log.exists() else "")
        out.flush()
        try:
            yield out
        finally:
            upload(log, out.name)


def run_jobs(
    jobs: Mapping[Hashable, Callable[[], None]],
    at_once: int,
    unit: str,
    after: Mapping[Hashable, Collection[Hashable]] | None = None,
) -> None:
    """Run named jobs, several at one time, with a progress bar.

    The first error cancels the jobs that have not begun.

    Args:
      jobs: by name, in order.
      at_once: most jobs at one time.
      unit: what the bar counts.
      after: job to the jobs that must end before it, which come earlier in `jobs`.

    Raises:
      Exception: the first error of a job.
    """
    with (
        concurrent.futures.ThreadPoolExecutor(at_once) as pool,
        Bar(total=len(jobs), desc=f"{unit}s", unit=unit) as bar,
    ):
        begun: dict[Hashable, concurrent.futures.Future] = {}
        for name, job in jobs.items():
            before = [begun[other] for other in (after or {}).get(name, ())]
            begun[name] = pool.submit(_after, before, job)
        try:
            for done in concurrent.futures.as_completed(begun.values()):
                if error := done.exception():
                    pool.shutdown(cancel_futures=True)
                    raise error
                bar.update()
        except Stopped:
            pool.shutdown(wait=False, cancel_futures=True)
            _end_children()
            raise


_children: set[subprocess.Popen] = set()  # scripts that run now
_children_lock = threading.Lock()


def _end_children() -> None:
    """Ask the running scripts to end: SIGTERM has not reached them, Ctrl-C has."""
    with _children_lock:
        for child in _children:
            child.terminate()


def _after(
    others: Collection[concurrent.futures.Future], job: Callable[[], None]
) -> None:
    for other in others:
        other.result()
    job()
