"""The text of --help: all settings with defaults and meanings, and the names that
exist.

Names are read from source files, so that no module that needs jax is imported.
"""

import ast
import dataclasses
import functools
import typing
from pathlib import Path

from fr.config import ALGORITHMS, Config
from fr.config.reads import STAGES

_ROOT = Path(__file__).parent
_WIDTH = 100  # characters of a line
# The room and the decorator that register names.
_NAMES = {
    "tasks (config.task.name)": ("tasks", "TASKS.register"),
    "operators (config.intervention.operators)": ("interventions", "register"),
    "reward terms (config.rewards.terms)": ("rewards", "register_term"),
    "kinds of traces (config.training.traces)": ("tasks", "TRACES.register"),
}


def settings_text() -> str:
    """Every setting: its name as a flag, its default, its meaning.

    Returns:
      Lines of text.
    """
    lines = ["settings: --config.NAME=VALUE, or a line of the file of --config", ""]
    for name, default, meaning in _fields(Config(), "config"):
        lines += [f"  --{name}={default}"[:_WIDTH], f"      {meaning}"]
    return "\n".join(lines)


def names_text() -> str:
    """The names that settings and flags accept.

    Returns:
      Lines of text.
    """
    groups = {title: registered(room, how) for title, (room, how) in _NAMES.items()}
    groups["algorithms (config.algorithm)"] = list(ALGORITHMS)
    groups["routers (--router)"] = _routers()
    groups["stages (--redo)"] = list(STAGES)
    return "\n".join(
        [
            "names",
            "",
            *(f"  {title}: {', '.join(names)}" for title, names in groups.items()),
        ]
    )


@functools.cache
def registered(room: str, how: str) -> list[str]:
    """Names that the modules of a room register.

    Args:
      room: folder below `fr`.
      how: the decorator as source text.

    Returns:
      Names in the order of the files.
    """
    found: list[str] = []
    for path in sorted((_ROOT / room).glob("*.py")):
        tree = ast.parse(path.read_text())
        known = _constants(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == how
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
    # `for _name in _TABLE:` over the keys of a dict.
    for loop in (n for n in tree.body if isinstance(n, ast.For)):
        if isinstance(node, ast.Name) and ast.unparse(loop.target) == node.id:
            tables = {
                ast.unparse(
                    n.targets[0] if isinstance(n, ast.Assign) else n.target
                ): n.value
                for n in tree.body
                if isinstance(n, (ast.Assign, ast.AnnAssign))
            }
            table = tables.get(ast.unparse(loop.iter))
            if isinstance(table, ast.Dict):
                return [
                    key.value for key in table.keys if isinstance(key, ast.Constant)
                ]
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


def _fields(group, where: str) -> typing.Iterator[tuple[str, str, str]]:
    for field in dataclasses.fields(group):
        value, name = getattr(group, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _fields(value, name)
        else:
            yield name, repr(value), field.metadata["meaning"]
