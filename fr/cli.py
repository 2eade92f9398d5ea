"""The shell of every script: flags, one-line errors with exit code 2, the frozen
config."""

import contextlib
import difflib
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from fr import interrupts, locks
from fr.buckets import bucket_error
from fr.config import ATTENTION, Config, default, freeze, renamed
from fr.config.experiment import RENAMED
from fr.errors import UserError, disk_error
from fr.interrupts import Stopped
from fr.registry import suggest

_RENAMED: dict[str, str] = {}  # flags of this script: new name by old name


def define_flags(model: bool = True) -> None:
    """Define `--config`, `--workdir`, and the flags of a run.

    `--config.a.b=c` overrides one setting of the config file.

    Args:
      model: also define `--model`, `--redo` and the flags of a run by several
        processes.
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
            "Stages of --workdir to make again, with what follows: rollouts, attempts, "
            "...",
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
            "Seconds without a sign of life after which a process counts as gone.",
            lower_bound=1,
        )
        flags.DEFINE_integer(
            "patience",
            3600,
            "Seconds without progress after which a living process ends the run.",
            lower_bound=1,
        )


def rename_flags(**names: str) -> None:
    """Refuse old flags with a line that gives the new name.

    Args:
        names: new name by old name.
    """
    _RENAMED.update(names)


def require(**given) -> None:
    """Refuse missing flags.

    Args:
      **given: value by name of the flag.

    Raises:
      UserError: the first flag without a value.
    """
    for name, value in given.items():
        if value is None or value == "":
            raise UserError(f"--{name} is missing; see --help")


def frozen_config() -> Config:
    """The parsed, validated and frozen config of `--config`.

    Models that are made afterwards attend as it says.

    Returns:
      The Config.

    Raises:
      UserError: a flag is missing or a setting cannot be.
    """
    given = flags.FLAGS
    require(config=given.config, workdir=given.workdir)
    if "model" in given and given.model:
        given.config.specialist = given.model
    config = freeze(given.config)
    ATTENTION.set(config.models.attention)
    return config


def run(main: Callable[[], None], alone: bool = True) -> None:
    """Run a script's main function under absl, alone in `--workdir`.

    Bad input, a full disk and a folder in use end with one line on stderr and exit code
    2, Ctrl-C with 130, SIGTERM with 143.

    Args:
      main: the script.
      alone: lock `--workdir`; False: the script only reads it.
    """
    interrupts.install()
    _plain_surroundings()
    logging.set_verbosity(logging.WARNING)

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            if _asks_help(argv):
                _help(any("full" in word for word in argv[1:] if word.startswith("-")))
            _check_renamed(argv)
            _check_settings(argv)
            rest = flags.FLAGS(list(argv))
            # config_flags reports a missing file only when the config is read.
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
            with _job(), _alone() if alone else contextlib.nullcontext():
                main()
        except UserError as error:
            _refuse(error)
        except Stopped as error:
            _refuse(error, error.code)
        except Exception as error:
            if not (line := disk_error(error) or bucket_error(error)):
                raise
            _refuse(line)

    try:
        app.run(guarded, flags_parser=parse)
    except Stopped as error:  # while flags were read
        _refuse(error, error.code)


# Variables that would change the numbers of a run, or end it. All arithmetic here is
# float32 with threefry keys.
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
    """Ignore, with a line, variables that change jax's numbers; jax is imported
    later."""
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


def _job() -> contextlib.AbstractContextManager:
    """The job of several processes that the flags ask for."""
    given = flags.FLAGS
    if "processes" not in given or (
        given.processes,
        given.process,
        given.coordinator,
    ) == (None, None, None):
        return contextlib.nullcontext()
    if given.processes is None:
        raise UserError("--process and --coordinator need --processes=N as well")
    from fr import distributed

    settings = distributed.settings(given.processes, given.process, given.coordinator)
    return distributed.job(settings, given.heartbeat, given.patience)


def _alone() -> contextlib.AbstractContextManager:
    """The lock of `--workdir`, which the first process of a job holds for all of
    them."""
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
    """Print the script's purpose, its flags, all settings and names; `full`: library
    flags too."""
    from fr import help as texts  # here, because it reads source files

    main = sys.modules["__main__"]
    print(f"{(main.__doc__ or '').strip()}\n\nflags\n")
    own = flags.FLAGS.flags_by_module_dict()
    shown = (str(main.__file__), sys.argv[0], "fr.cli", "__main__")
    for module in own if full else shown:
        for flag in own.get(module, []):
            default = (
                "" if flag.default is None else f" (default: {flag.default_as_str})"
            )
            print(f"  --{flag.name}: {' '.join(str(flag.help).split())}{default}")
    print(f"\n{texts.settings_text()}\n\n{texts.names_text()}")
    sys.exit(0)


def _check_renamed(argv: Sequence[str]) -> None:
    for word in argv[1:]:
        name = word.lstrip("-").partition("=")[0] if word.startswith("-") else ""
        for old in (name, name.removeprefix("no")):
            if old in _RENAMED:
                raise UserError(f"--{old} is now --{_RENAMED[old]}")


def _check_settings(argv: Sequence[str]) -> None:
    """Raise UserError with the nearest name for a `--config.NAME` that does not
    exist."""
    for word in argv[1:]:
        if match := re.match(r"--?config\.([\w.]+)", word):
            group: typing.Any = default()
            name: list[str] = []
            for part in match[1].split("."):
                if not hasattr(group, "keys"):
                    raise UserError(
                        f"--config.{match[1]}: config.{'.'.join(name)} is not a group "
                        "of settings"
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
    """A config file's assignment to a setting that does not exist; "" for other
    errors."""
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
    """The config file in front of a fault of its code, which has another module
    name."""
    given = [word.lstrip("-") for word in argv]
    return next((f"--{word}: " for word in given if word.startswith("config=")), "")


def _refuse(error, code: int = 2) -> None:
    line = " ".join(_message(error).split())
    print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
    sys.exit(code)


def _message(error) -> str:
    # ml_collections wraps KeyErrors, and a KeyError shows its message with quotes and
    # escapes.
    while isinstance(error, (AttributeError, KeyError)) and error.args:
        error = error.args[0]
    return str(error)
