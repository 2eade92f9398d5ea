"""Names of settings on a command line and in a config file, checked before the rest."""

import difflib
import re
import typing
from collections.abc import Sequence

from fr.config import default, renamed
from fr.config.experiment import RENAMED
from fr.errors import UserError
from fr.registry import suggest


def check_settings(argv: Sequence[str]) -> None:
    """Refuse a `--config.NAME` that does not exist.

    Args:
      argv: the command line.

    Raises:
      UserError: a setting does not exist; the line has the nearest name.
    """
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


def missing_setting(error: BaseException) -> str:
    """Describe a config file's assignment to a setting that does not exist.

    Args:
      error: what the config file raised.

    Returns:
      A line with the nearest name; "" for other errors.
    """
    message = message_of(error)
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


def _setting_names(group: typing.Any = None) -> list[str]:
    found = []
    for name, value in (default() if group is None else group).items():
        found += [name, *(_setting_names(value) if hasattr(value, "keys") else ())]
    return found


def message_of(error) -> str:
    """The message of an error, without the errors that wrap it.

    Args:
      error: an exception, or a line.

    Returns:
      The message.
    """
    # ml_collections wraps KeyErrors, and a KeyError shows its message with quotes and
    # escapes.
    while isinstance(error, (AttributeError, KeyError)) and error.args:
        error = error.args[0]
    return str(error)
