"""What every script shares: flags, one-line errors with exit code 2, and the frozen config."""

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from fr.config import Config, freeze
from fr.errors import UserError


def define_flags(config: bool = True, workdir: bool = True) -> None:
    """Define `--config` (a python file; single fields are overridden by `--config.a.b=c`) and `--workdir`."""
    if config:
        config_flags.DEFINE_config_file("config", None, "A file of configs/, e.g. configs/quickstart.py.")
    if workdir:
        flags.DEFINE_string("workdir", None, "Where results are written; a bucket path works too.")


def require(**given) -> None:
    """Raise UserError for the first flag without a value."""
    for name, value in given.items():
        if value is None or value == "":
            raise UserError(f"--{name} is missing; see --help")


def frozen_config() -> Config:
    """The parsed, validated, frozen config of `--config`."""
    require(config=flags.FLAGS.config)
    return freeze(flags.FLAGS.config)


def run(main: Callable[[], None]) -> None:
    """Run `main` under absl; bad input ends with one line on stderr and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    # Files that this process never reads twice are noise in a terminal; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = app.parse_flags_with_usage(argv) if _asks_help(argv) else flags.FLAGS(list(argv))
        except UserError as error:
            _refuse(error)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            _refuse(error)
        except OSError as error:
            _refuse(f"--config: cannot read {error.filename or error}: {error.strerror or 'no such file'}")
        if len(rest) > 1:
            _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag=value")
        return rest

    def guarded(_) -> None:
        try:
            main()
        except UserError as error:
            _refuse(error)

    app.run(guarded, flags_parser=parse)


def _asks_help(argv: Sequence[str]) -> bool:
    return any(word.lstrip("-").split("=")[0] in ("help", "helpfull", "helpshort") for word in argv[1:])


def _refuse(error) -> None:
    line = " ".join(str(error).strip("'\"").split())
    print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
    sys.exit(2)
