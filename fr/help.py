"""The text of --help: all settings with defaults and meanings, and the names that
exist.

Names of the package are read from source files, so that no module that needs jax is
imported.
"""

import ast
import dataclasses
import functools
import sys
import textwrap
import typing
from pathlib import Path

from absl import flags

from fr.config import ALGORITHMS, Config
from fr.config.reads import STAGES
from fr.registry import own_names

_ROOT = Path(__file__).parent
_WIDTH = 100  # characters of a line
# Kind of names: title, the room that registers them, and the decorators.
KINDS = {
    "task": ("tasks (config.task.name)", "tasks", ("TASKS.register",)),
    "operator": (
        "operators (config.intervention.operators)",
        "interventions",
        ("register",),
    ),
    "signal": (
        "signals (columns of profiles.csv)",
        "diagnosis",
        ("register_signal", "register_mean_signal", "register_search_signal"),
    ),
    "reward term": (
        "reward terms (config.rewards.terms)",
        "rewards",
        ("register_term",),
    ),
    "measure": (
        "measures (config.evaluation.measures)",
        "evaluation",
        ("register_measure",),
    ),
    "trace kind": (
        "kinds of traces (config.training.traces)",
        "tasks",
        ("TRACES.register",),
    ),
    "model family": (
        "model families (model_type of config.json)",
        "models",
        ("FAMILIES.register",),
    ),
}


def help_text(full: bool) -> str:
    """The help of the script that runs: purpose, flags, and where it reads them,
    settings and registered names.

    Args:
      full: flags of libraries too.

    Returns:
      Lines of text.
    """
    main = sys.modules["__main__"]
    lines = [(main.__doc__ or "").strip(), "", "flags", ""]
    own = flags.FLAGS.flags_by_module_dict()
    shown = (str(main.__file__), sys.argv[0], "fr.cli", "__main__")
    for module in own if full else shown:
        for flag in own.get(module, []):
            usual = "" if flag.default is None else f" (default: {flag.default_as_str})"
            lines.append(f"  --{flag.name}: {' '.join(str(flag.help).split())}{usual}")
    if "config" in flags.FLAGS:
        lines += ["", settings_text()]
    if "user_module" in flags.FLAGS:
        lines += ["", names_text()]
    return "\n".join(lines)


def settings_text() -> str:
    """Every setting: its name as a flag, its default, its meaning.

    Returns:
      Lines of text.
    """
    lines = ["settings: --config.NAME=VALUE, or a line of the file of --config", ""]
    for name, default, meaning in fields(Config(), "config"):
        lines += [f"  --{name}={default}"[:_WIDTH], f"      {meaning}"]
    return "\n".join(lines)


def names_text() -> str:
    """The names that settings and flags accept, with the names of `--user_module`.

    Returns:
      Lines of text.
    """
    groups = {title: registered(kind) for kind, (title, *_) in KINDS.items()}
    for registry, name, place in own_names():
        title = KINDS.get(registry.kind, (f"{registry.kind}s",))[0]
        groups.setdefault(title, []).append(f"{name} ({place})")
    groups["algorithms (config.algorithm)"] = list(ALGORITHMS)
    groups["routers (--router)"] = _routers()
    groups["stages (--redo)"] = list(STAGES)
    lines = (f"{title}: {', '.join(names)}" for title, names in groups.items())
    fill = functools.partial(
        textwrap.fill,
        width=_WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(["names", "", *map(fill, lines)])


def registered(kind: str) -> list[str]:
    """Names of one kind that the package registers.

    Args:
      kind: one of KINDS.

    Returns:
      Names in the order of the files.
    """
    _, room, decorators = KINDS[kind]
    found: list[str] = []
    for path in sorted((_ROOT / room).glob("*.py")):
        tree = ast.parse(path.read_text())
        known = _constants(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in decorators
                and node.args
            ):
                found += _values(node.args[0], known, tree)
    return list(dict.fromkeys(found))


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that a module assigns to names of its own."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


def _values(
    node: typing.Any, known: dict[str, str], tree: ast.Module
) -> list[typing.Any]:
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.Name) and node.id in known:
        return [known[node.id]]
    # `for _name in _TABLE:`, or `for _name, _ in {...}.items():`, over a dict.
    tables: dict[str, ast.expr | None] = {
        ast.unparse(n.targets[0] if isinstance(n, ast.Assign) else n.target): n.value
        for n in tree.body
        if isinstance(n, (ast.Assign, ast.AnnAssign))
    }
    for loop in (n for n in tree.body if isinstance(n, ast.For)):
        target, over = loop.target, loop.iter
        if isinstance(target, ast.Tuple) and isinstance(over, ast.Call):
            target, over = target.elts[0], getattr(over.func, "value", over)
        table = tables.get(ast.unparse(over), over)
        if ast.unparse(target) == ast.unparse(node) and isinstance(table, ast.Dict):
            return [key.value for key in table.keys if isinstance(key, ast.Constant)]
    return []


def _routers() -> list[str]:
    tree = ast.parse((_ROOT / "orders" / "routers.py").read_text())
    order = _constants(ast.parse((_ROOT / "orders" / "schedules.py").read_text()))
    known = order | _constants(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROUTERS":
            names: typing.Any = node.value
            return [_router(each, known) for each in names.elts]
    return []


def _router(node: typing.Any, known: dict[str, str]) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_router(getattr(p, "value", p), known) for p in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node if isinstance(node, str) else known[node.id]


def fields(group, where: str) -> typing.Iterator[tuple[str, str, str]]:
    """Settings of a group and of the groups within it.

    Args:
      group: a dataclass of settings.
      where: its name, which begins every name; "": none.

    Yields:
      Dotted name, default as code, meaning.
    """
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        name = f"{where}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            yield from fields(value, name)
        else:
            yield name, repr(value), field.metadata["meaning"]
