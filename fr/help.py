"""The text of --help: every setting with its default and meaning, and the names that settings may hold.

All of it is read from the source, so that no module that needs jax is imported.
"""

import ast
import dataclasses
import functools
import io
import tokenize
import typing
from pathlib import Path

from fr.config import ALGORITHMS, Config
from fr.config.reads import STAGES

_ROOT = Path(__file__).parent
_WIDTH = 108  # characters of a line
# Where names are registered, and by the decorators of which kind.
_NAMES = {
    "tasks (config.task.name)": ("tasks", "TASKS.register"),
    "operators (config.intervention.operators)": ("interventions", "register"),
    "reward terms (config.rewards.terms)": ("rewards", "term"),
    "kinds of traces (config.training.traces)": ("tasks", "TRACES.register"),
}
# Of fields that several groups have under one name, where a group says nothing more of them.
_COMMON = {
    "steps": "of the training; 0: none",
    "learning_rate": "at its highest",
    "schedule": "after the warm-up: constant, or cosine to zero",
    "warmup_steps": "parameter updates over which the learning rate rises from 0",
    "weight_decay": "of AdamW",
    "clip_norm": "largest norm of a gradient",
    "checkpoint_every": "steps between two checkpoints",
    "remat": "layers are computed again in the backward pass instead of kept",
    "dtype": "of the computation, float32 or bfloat16; '': what suits the device",
    "model_axis": "devices that share one copy of the parameters",
    "eval_temperature": "of held-out rollouts",
    "traces": "kinds of traces, and the weight of each",
    "seeds": "every arm is trained with each",
    "width": "of the residual stream; a multiple of heads",
    "layers": "decoder layers",
    "heads": "attention heads",
    "ff": "hidden units of the feed-forward part",
    "targets": "parts of a layer that get adapters",
}


def settings_text() -> str:
    """Every field of the config: its name as a flag, its default, and what it means."""
    lines = ["settings: --config.NAME=VALUE, or a line of the file of --config", ""]
    for name, default, meaning in _fields(Config, Config(), "config"):
        lines += [
            f"  --{name}={default}"[:_WIDTH],
            *([f"      {meaning}"] if meaning else []),
        ]
    return "\n".join(lines)


def names_text() -> str:
    """The names that settings and flags take."""
    groups = {title: registered(room, how) for title, (room, how) in _NAMES.items()}
    groups["algorithms (config.algorithm)"] = list(ALGORITHMS)
    groups["policies (--policy)"] = _policies()
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
    """Names that the modules of a room register with the decorator `how`, in the order of the files."""
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


def _values(node: ast.expr, known: dict[str, str], tree: ast.Module) -> list[str]:
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


def _policies() -> list[str]:
    tree = ast.parse((_ROOT / "routing" / "router.py").read_text())
    order = _constants(ast.parse((_ROOT / "routing" / "schedules.py").read_text()))
    known = order | _constants(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "POLICIES":
            return [_policy(each, known) for each in node.value.elts]
    return []


def _policy(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = (
            p.value if isinstance(p, ast.Constant) else known[p.value.id]
            for p in node.values
        )
        return "".join(parts)
    return node.value if isinstance(node, ast.Constant) else known[node.id]


def _fields(cls, default, where: str) -> typing.Iterator[tuple[str, str, str]]:
    meanings = _comments(cls)
    for field in dataclasses.fields(cls):
        value, name = getattr(default, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _fields(type(value), value, name)
        else:
            yield (
                name,
                repr(value),
                meanings.get(field.name) or _COMMON.get(field.name, ""),
            )


def _comments(cls) -> dict[str, str]:
    """The comment of every field of a class: behind it, or in the lines of its value."""
    path = _ROOT / "config" / f"{cls.__module__.rpartition('.')[2]}.py"
    return _comments_of(path).get(cls.__name__, {})


@functools.cache
def _comments_of(path: Path) -> dict[str, dict[str, str]]:
    text = path.read_text()
    said: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            said[token.start[0]] = token.string.lstrip("# ")
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                line.target.id: " ".join(
                    said[i]
                    for i in range(line.lineno, line.end_lineno + 1)
                    if i in said
                )
                for line in node.body
                if isinstance(line, ast.AnnAssign)
            }
    return found
