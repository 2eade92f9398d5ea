"""What every script shares: flags, one-line errors with exit code 2, and the frozen config."""

import concurrent.futures
import contextlib
import difflib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags
from tqdm import tqdm

from fr import interrupts, locks
from fr.config import Config, default, freeze, renamed
from fr.config.experiment import RENAMED
from fr.errors import UserError, disk_error
from fr.interrupts import Stopped
from fr.registry import suggest


def define_flags(model: bool = True) -> None:
    """Define `--config` (a python file; `--config.a.b=c` overrides one field) and `--workdir`.

    With `model` also `--model` and the flags of a run by several processes.
    """
    config_flags.DEFINE_config_file(
        "config", None, "A file of configs/, e.g. configs/quickstart.py."
    )
    flags.DEFINE_string(
        "workdir", None, "Where results are written; a bucket path works too."
    )
    if model:
        flags.DEFINE_string(
            "model",
            None,
            "Short for --config.specialist: a hub id, folder, .gguf file or smollm2.",
        )
        flags.DEFINE_list(
            "redo",
            [],
            "Stages of --workdir to make again, with what follows: rollouts, attempts, specialist, ...",
        )
        flags.DEFINE_string(
            "processes",
            None,
            "Processes of the run: a number, or auto (TPU pod, Slurm, Open MPI).",
        )
        flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
        flags.DEFINE_string(
            "coordinator", None, "Address of process 0, host:port, the same for all."
        )
        flags.DEFINE_integer(
            "heartbeat",
            60,
            "Seconds until a process that is not heard of counts as gone.",
            lower_bound=1,
        )
        flags.DEFINE_integer(
            "patience",
            3600,
            "Seconds until a process that lives and does nothing ends the run.",
            lower_bound=1,
        )


def require(**given) -> None:
    """Raise UserError for the first flag without a value."""
    for name, value in given.items():
        if value is None or value == "":
            raise UserError(f"--{name} is missing; see --help")


def frozen_config() -> Config:
    """The parsed, validated, frozen config of `--config`, for a run in `--workdir`."""
    given = flags.FLAGS
    require(config=given.config, workdir=given.workdir)
    if "model" in given and given.model:
        given.config.specialist = given.model
    return freeze(given.config)


def run(main: Callable[[], None]) -> None:
    """Run `main` under absl, alone in `--workdir`.

    Bad input, a full disk and a folder in use end with one line on stderr and exit code 2, Ctrl-C with 130,
    SIGTERM with 143.
    """
    interrupts.install()
    _plain_surroundings()
    logging.set_verbosity(logging.WARNING)

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            if _asks_help(argv):
                _help(any("full" in word for word in argv[1:] if word.startswith("-")))
            _check_settings(argv)
            rest = flags.FLAGS(list(argv))
            # config_flags keeps quiet about a file that it did not find until somebody looks into the config.
            getattr(flags.FLAGS["config"].value, "seed", None)
        except UserError as error:
            _refuse(error)
        except (flags.Error, KeyError, TypeError, ValueError) as error:
            _refuse(_missing_setting(_message(error)) or error)
        except OSError as error:
            _refuse(f"--config: {str(error).strip().splitlines()[-1]}")
        except (AttributeError, ImportError, NameError, SyntaxError) as error:
            said = _missing_setting(_message(error)) or _message(error)
            _refuse(f"{_config_file(argv)}{said}")
        if len(rest) > 1:
            _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag=value")
        return rest

    def guarded(_) -> None:
        try:
            with _job(), _alone():
                main()
        except UserError as error:
            _refuse(error)
        except Stopped as error:
            _refuse(error, error.code)
        except Exception as error:
            if not (line := disk_error(error)):
                raise
            _refuse(line)

    try:
        app.run(guarded, flags_parser=parse)
    except Stopped as error:  # while flags were read
        _refuse(error, error.code)


# Variables that would change the numbers of a run, or end it: all arithmetic here is float32 with threefry keys.
_IGNORED = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_DTYPE_BITS",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_CUSTOM_PRNG",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_DISABLE_JIT",
    "JAX_DEBUG_NANS",
    "JAX_DEBUG_INFS",
    "JAX_TRANSFER_GUARD",
)


def _plain_surroundings() -> None:
    """Drop what the environment tells jax about numbers, with a line that says so, before jax is imported."""
    given = [
        name
        for name in _IGNORED
        if os.environ.get(name, "") not in ("", "0", "false", "False")
    ]
    for name in _IGNORED:
        os.environ.pop(name, None)
    if given:
        print(
            f"note: {', '.join(given)} of the environment is ignored",
            file=sys.stderr,
            flush=True,
        )


def run_script(script: Path, arguments: Sequence[str], folder: epath.Path) -> None:
    """One script with this one's config in a process of its own, which writes `folder/log.txt`.

    Overrides of the config go along, but for those of `study`, which is this one's own; `arguments` come behind
    them. Raises UserError with the script's last line if it fails.
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
    with log.open("a") as out:
        command = [sys.executable, script, f"--config={config}", *overrides, *arguments]
        child = subprocess.Popen(command, stdout=out, stderr=out)
    with _children_lock:
        _children.add(child)
    try:
        code = child.wait()
    finally:
        with _children_lock:
            _children.discard(child)
    if code:
        last = (log.read_text().strip().splitlines() or ["no word"])[-1]
        raise UserError(f"{folder}: {last} (all of it is in {log})")


def run_jobs(
    jobs: Mapping[Hashable, Callable[[], None]],
    at_once: int,
    unit: str,
    after: Mapping[Hashable, Hashable] | None = None,
) -> None:
    """Run jobs by name, so many at one time, with a bar; the first that raises ends those that have not begun.

    A job that `after` names begins when another has ended, which comes before it in `jobs`.
    """
    with (
        concurrent.futures.ThreadPoolExecutor(at_once) as pool,
        tqdm(total=len(jobs), desc=f"{unit}s", unit=unit) as bar,
    ):
        begun = {}
        for name, job in jobs.items():
            begun[name] = pool.submit(_behind, begun.get((after or {}).get(name)), job)
        try:
            for job in concurrent.futures.as_completed(begun.values()):
                if error := job.exception():
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
    """Ask the scripts that run to end; Ctrl-C has reached them already, SIGTERM has not."""
    with _children_lock:
        for child in _children:
            child.terminate()


def _behind(other: concurrent.futures.Future | None, job: Callable[[], None]) -> None:
    if other:
        other.result()
    job()


def _job() -> contextlib.AbstractContextManager:
    """Several processes where the flags ask for them."""
    given = flags.FLAGS
    if "processes" not in given or (
        given.processes,
        given.process,
        given.coordinator,
    ) == (None, None, None):
        return contextlib.nullcontext()
    if given.processes is None:
        raise UserError(
            "--process and --coordinator are for a run of several; say --processes=N too"
        )
    from fr import distributed

    settings = distributed.settings(given.processes, given.process, given.coordinator)
    return distributed.job(settings, given.heartbeat, given.patience)


def _alone() -> contextlib.AbstractContextManager:
    """The lock of `--workdir`, which the first process of a job holds for all of them."""
    given = flags.FLAGS
    if not given.workdir:
        return contextlib.nullcontext()
    if "processes" in given and given.processes is not None:
        from fr import distributed

        if not distributed.is_first():
            return contextlib.nullcontext()
    return locks.hold(given.workdir)


def _asks_help(argv: Sequence[str]) -> bool:
    return any(
        word.lstrip("-").split("=")[0] in ("help", "helpfull", "helpshort", "h")
        for word in argv[1:]
    )


def _help(full: bool) -> None:
    """Print what the script is for, its flags, every setting and the names; `full`: the flags of libraries too."""
    from fr import help as texts  # here, because it reads source files

    main = sys.modules["__main__"]
    print(f"{(main.__doc__ or '').strip()}\n\nflags\n")
    own = flags.FLAGS.flags_by_module_dict()
    for module in own if full else (main.__file__, sys.argv[0], "fr.cli", "__main__"):
        for flag in own.get(module, []):
            default = (
                "" if flag.default is None else f" (default: {flag.default_as_str})"
            )
            print(f"  --{flag.name}: {' '.join(str(flag.help).split())}{default}")
    print(f"\n{texts.settings_text()}\n\n{texts.names_text()}")
    sys.exit(0)


def _check_settings(argv: Sequence[str]) -> None:
    """Raise UserError with the nearest name for a `--config.NAME` that does not exist."""
    for word in argv[1:]:
        if match := re.match(r"--?config\.([\w.]+)", word):
            group, name = default(), []
            for part in match[1].split("."):
                if not hasattr(group, "keys"):
                    raise UserError(
                        f"--config.{match[1]}: config.{'.'.join(name)} is no group of settings"
                    )
                if part not in group:
                    where = ".".join([*name, part])
                    if new := renamed(where):
                        raise UserError(f"config.{where} is called config.{new} now")
                    raise UserError(
                        f"config.{where} is not a setting{suggest(part, group.keys())}"
                    )
                group, name = group[part], [*name, part]


def _missing_setting(message: str) -> str:
    """A config file's assignment to a setting that does not exist; "" for other errors."""
    found = re.match(r"""["']*(?:Key )?["'](\w+)["']""", message)
    if not found:
        return ""
    name = found[1]
    new = [f"config.{n}" for old, n in RENAMED.items() if old.split(".")[-1] == name]
    if new:
        return f"the setting {name!r} is called {' or '.join(new)} now"
    if "locked" not in message:
        return ""
    near = difflib.get_close_matches(name, _setting_names(), n=1)
    return f"no setting is called {name!r}" + (
        f"; did you mean {near[0]!r}" if near else ""
    )


def _setting_names() -> list[str]:
    groups = default().to_dict()
    inner = [
        name for group in groups.values() if isinstance(group, dict) for name in group
    ]
    return [*groups, *inner]


def _config_file(argv: Sequence[str]) -> str:
    """Where a fault in a config file's own code is: config_flags loads the file under a name of its own."""
    given = [word.lstrip("-") for word in argv]
    return next((f"--{word}: " for word in given if word.startswith("config=")), "")


def _refuse(error, code: int = 2) -> None:
    line = " ".join(_message(error).split())
    print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
    sys.exit(code)


def _message(error) -> str:
    # ml_collections wraps its KeyErrors, and a KeyError shows its message as source, quotes and escapes included.
    while isinstance(error, (AttributeError, KeyError)) and error.args:
        error = error.args[0]
    return str(error)
