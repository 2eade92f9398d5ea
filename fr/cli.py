"""The shell of every script: flags, one-line errors with exit code 2, the frozen
config."""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from fr import interrupts, locks, user_modules
from fr.boards import choose_project
from fr.buckets import bucket_error
from fr.config import ATTENTION, Config, freeze
from fr.errors import UserError, disk_error
from fr.interrupts import Stopped
from fr.settings_check import check_settings, message_of, missing_setting

_RENAMED: dict[str, str] = {}  # flags of this script: new name by old name


def define_flags(
    model: bool = True, workdir: bool = True, modules: bool = True, join: bool = False
) -> None:
    """Define `--config`, `--workdir`, `--user_module` and the flags of a run.

    `--config.a.b=c` overrides one setting of the config file.

    Args:
      model: also define `--model`, `--redo` and the flags of a run by several
        processes.
      workdir: define `--workdir`; False: the script reads no folder and writes none.
      modules: define `--user_module`; False: the script looks no registered name up.
      join: define `--join`: the script makes shards of a stage.
    """
    config_flags.DEFINE_config_file(
        "config", None, "A file of configs/, e.g. configs/quickstart.py."
    )
    if workdir:
        flags.DEFINE_string(
            "workdir", None, "Where results are written; a bucket path works too."
        )
    if modules:
        flags.DEFINE_multi_string(
            user_modules.FLAG,
            [],
            "A Python file, or the dotted name of a module, that registers tasks, "
            "operators, signals, reward terms, measures, traces or model families; "
            "repeatable.",
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
            "wandb",
            "",
            "A W&B project that trainings also write their metrics to, beside "
            "TensorBoard; WANDB_MODE=offline needs no account.",
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

    if join:
        flags.DEFINE_bool(
            "join",
            False,
            "Help a run of --workdir on another host: make shards that no process "
            "holds, and write no other file.",
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
    require(config=given.config)
    if "workdir" in given:
        require(workdir=given.workdir)
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
                _help(argv)
            _check_renamed(argv)
            check_settings(argv)
            rest = flags.FLAGS(list(argv))
            # config_flags reports a missing file only when the config is read.
            if "config" in flags.FLAGS:
                getattr(flags.FLAGS["config"].value, "seed", None)
        except UserError as error:
            _refuse(error)
        except (flags.Error, KeyError, TypeError, ValueError) as error:
            _refuse(missing_setting(error) or error)
        except OSError as error:
            _refuse(f"--config: {str(error).strip().splitlines()[-1]}")
        except (AttributeError, ImportError, NameError, SyntaxError) as error:
            said = missing_setting(error) or message_of(error)
            _refuse(f"{_config_file(argv)}{said}")
        if len(rest) > 1:
            _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag=value")
        return rest

    def guarded(_) -> None:
        try:
            with _job():
                _load_modules()
                if "wandb" in flags.FLAGS:
                    choose_project(flags.FLAGS.wandb)
                with _alone() if alone else contextlib.nullcontext():
                    main()
        except UserError as error:
            _refuse(error)
        except Stopped as error:
            _refuse(error, error.code)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                sys.exit(141)
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
        line = f"note: {', '.join(given)} of the environment is ignored"
        print(line, file=sys.stderr, flush=True)


def _job() -> contextlib.AbstractContextManager:
    """The job of several processes that the flags ask for."""
    given = flags.FLAGS
    names = ("redo", "processes", "process", "coordinator")
    asked = [name for name in names if name in given and given[name].present]
    if not (_joins() or set(asked) - {"redo"}):
        return contextlib.nullcontext()
    from fr import distributed

    if _joins():
        return distributed.joined(given.heartbeat, given.patience, asked)
    if given.processes is None:
        raise UserError("--process and --coordinator need --processes=N as well")
    settings = distributed.settings(given.processes, given.process, given.coordinator)
    return distributed.job(settings, given.heartbeat, given.patience)


def _joins() -> bool:
    return "join" in flags.FLAGS and flags.FLAGS.join


def _load_modules() -> None:
    """Load `--user_module`, after the job has begun, since they may use jax."""
    given = flags.FLAGS
    if user_modules.FLAG not in given or not given.user_module:
        return
    user_modules.load(given.user_module)
    if "processes" in given and given.processes is not None:
        from fr import distributed

        own = user_modules.texts_hash()
        if distributed.agree("user modules", own) != own:
            raise UserError(
                f"--{user_modules.FLAG}: process 0 has loaded another text; copy the "
                "same files to every host"
            )


def _alone() -> contextlib.AbstractContextManager:
    """The lock of `--workdir`, which the first process of a job holds for all of
    them."""
    given = flags.FLAGS
    if "workdir" not in given or not given.workdir or _joins():
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


def _help(argv: Sequence[str]) -> None:
    """Print the help of the script; with the names of `--user_module`."""
    from fr import help as texts  # here, because it reads source files

    user_modules.load(_given_modules(argv))
    full = any("full" in word for word in argv[1:] if word.startswith("-"))
    print(texts.help_text(full))
    sys.exit(0)


def _given_modules(argv: Sequence[str]) -> list[str]:
    """Values of `--user_module`, read where other flags may be wrong."""
    found = []
    for word, after in zip(argv, [*argv[1:], ""]):
        name, equals, value = word.partition("=")
        if name in (f"--{user_modules.FLAG}", f"-{user_modules.FLAG}"):
            found.append(value if equals else after)
    return found


def _check_renamed(argv: Sequence[str]) -> None:
    for word in argv[1:]:
        name = word.lstrip("-").partition("=")[0] if word.startswith("-") else ""
        for old in (name, name.removeprefix("no")):
            if old in _RENAMED:
                raise UserError(f"--{old} is now --{_RENAMED[old]}")


def _config_file(argv: Sequence[str]) -> str:
    """The config file in front of a fault of its code, which has another module
    name."""
    given = [word.lstrip("-") for word in argv]
    return next((f"--{word}: " for word in given if word.startswith("config=")), "")


def _nobody_reads() -> bool:
    """True if the reader of the output has gone, as `head` does; output then ends."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLERR)
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _refuse(error, code: int = 2) -> None:
    line = " ".join(message_of(error).split())
    print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
    sys.exit(code)
