"""The settings of a config as text that people and YAML read, changed ones first."""

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator

from fr.config import Config
from fr.errors import UserError
from fr.help import fields, registered
from fr.registry import own_names, suggest

_WIDTH = 100  # characters of a line


class Change(typing.NamedTuple):
    """A setting that differs from its default.

    Attributes:
      value: in this config.
      default: of the package.
      meaning: its line of `--help`.
    """

    value: typing.Any
    default: typing.Any
    meaning: str


def changes(config: Config) -> dict[str, Change]:
    """Settings that differ from their defaults.

    Args:
      config: the whole config.

    Returns:
      Changes by dotted name, in the order of the settings.
    """
    usual, found = Config(), {}
    for name, _, meaning in fields(config, ""):
        change = Change(_at(config, name), _at(usual, name), meaning)
        if change.value != change.default:
            found[name] = change
    return found


def changes_text(config: Config) -> str:
    """Each changed setting with its default and its meaning, as comments of YAML.

    Args:
      config: the whole config.

    Returns:
      Lines of text.
    """
    found, count = changes(config), len(list(fields(config, "")))
    lines = [f"{len(found)} of {count} settings differ from their defaults"]
    for name, change in found.items():
        value, default = _shown(change.value), f"default: {_shown(change.default)}"
        one = f"{name}: {value}  ({default})"
        fits = len(one) <= _WIDTH - 2
        lines += ["", *([one] if fits else _filled(f"{name}: {value}", ""))]
        lines += [] if fits else _filled(default, "    ")
        lines += _filled(change.meaning, "    ")
    return "\n".join(f"# {line}".rstrip() for line in lines)


def config_text(config: Config) -> str:
    """All settings as YAML; a comment has the default of a changed one.

    Args:
      config: the whole config.

    Returns:
      Lines of text.
    """
    return "\n".join(_lines(config, Config(), ""))


def config_json(config: Config) -> dict:
    """Changes and all settings as plain values.

    Args:
      config: the whole config.

    Returns:
      {"changes": {NAME: {"value", "default", "meaning"}}, "config": {...}}.
    """
    found = {name: change._asdict() for name, change in changes(config).items()}
    return {"changes": found, "config": dataclasses.asdict(config)}


def check_known(config: Config) -> None:
    """Refuse unknown tasks, operators, reward terms and measures; jax is not needed.

    Args:
      config: the whole config.

    Raises:
      UserError: a name is not registered; the line has the nearest one.
    """
    tasks = (config.task.name, *config.task.parts)
    named = {
        ("task.name", "task"): [name for name in tasks if ":" not in name],
        ("intervention.operators", "operator"): config.intervention.operators,
        ("evaluation.measures", "measure"): config.evaluation.measures,
        ("rewards.terms", "reward term"): [name for name, *_ in config.rewards.terms],
    }
    for (setting, kind), names in named.items():
        known = [*registered(kind), *(n for r, n, _ in own_names() if r.kind == kind)]
        for name in names:
            if name not in known and name.partition("@")[0] not in known:
                raise UserError(
                    f"config.{setting}: unknown {kind} {name!r}{suggest(name, known)}"
                )


def _at(config: Config, name: str) -> typing.Any:
    value: typing.Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _lines(group: typing.Any, usual: typing.Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(group):
        value, default = getattr(group, field.name), getattr(usual, field.name)
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _lines(value, default, f"{indent}  ")
            continue
        comment = "" if value == default else f"  # default: {_shown(default)}"
        if len(comment) > _WIDTH // 2:
            comment = "  # changed"
        line = f"{indent}{field.name}: {_shown(value)}{comment}"
        if len(line) <= _WIDTH or not value or not isinstance(value, tuple):
            yield line
            continue
        yield f"{indent}{field.name}:{comment}"
        yield from (f"{indent}  - {_shown(one)}" for one in value)


def _filled(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH - 2,
        initial_indent=indent,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(value: typing.Any) -> str:
    """A value as JSON, which is YAML, too; texts are escaped."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    text = json.dumps(value)
    # YAML reads a number with an exponent and no point as a text.
    bare = isinstance(value, float) and "e" in text and "." not in text
    return text.replace("e", ".0e") if bare else text
