"""Parse commands of scripts as they would, up to their first work.

Reads a JSON list of [script, flag, ...] from stdin and writes a JSON list of errors
("" if there is none). The config of `--config` is loaded and frozen, and the names
that it holds are looked up. Each command runs in a fork, since flags are global.
"""

import contextlib
import io
import json
import multiprocessing
import pathlib
import runpy
import sys

import fr.rewards  # noqa: F401

# Once, before any fork: these need seconds.
import fr.runs.names
from fr import cli


def main() -> None:
    """Check every command of stdin."""
    given = json.load(sys.stdin)
    context = multiprocessing.get_context("fork")
    errors = []
    for words in given:
        queue = context.SimpleQueue()
        child = context.Process(target=_child, args=(words, queue))
        child.start()
        errors.append(queue.get())
        child.join()
    json.dump(errors, sys.stdout)


def _child(words: list[str], queue) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _check(words)
        queue.put("")
    except SystemExit as end:
        queue.put(
            said.getvalue().strip() or f"exit code {end.code}" if end.code else ""
        )
    except BaseException as error:
        queue.put(f"{type(error).__name__}: {error}")


def _check(words: list[str]) -> None:
    """Run a script whose `main` only checks what it was given."""
    sys.argv = words
    sys.path.insert(0, str(pathlib.Path(words[0]).parent))
    real = cli.run
    cli._alone = cli._job = contextlib.nullcontext  # no lock, no other processes
    cli.run = lambda main, **_: real(lambda: _inspect(words[0]))
    runpy.run_path(words[0], run_name="__main__")


def _inspect(script: str) -> None:
    from absl import flags

    given = flags.FLAGS
    if "config" in given and given.config:
        training = pathlib.Path(script).stem == "train"
        fr.runs.names.check_names(cli.frozen_config(), training)
    if "router" in given and given.router:
        fr.runs.names.check_router(given.router)


if __name__ == "__main__":
    main()
