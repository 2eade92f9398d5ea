"""Imports go one way: a room may use itself and what stands on a lower step."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
STEPS = [
    {"errors"},
    {"buckets"},
    {
        "bounded",
        "files",
        "interrupts",
        "local_copies",
        "progress",
        "prompts",
        "registry",
    },
    {"layout", "stats"},
    {"foreign", "user_modules"},
    {"foreign_worker", "worker"},
    {"distributed"},
    {"config"},
    {"types"},
    {"store_columns", "workdir"},
    {"boards", "locks", "metrics", "compile_cache", "store"},
    {"profiles", "tasks", "models"},
    {"sampling"},
    {"diagnosis"},
    {"interventions", "routing", "rewards"},
    {"orders"},
    {"comparison"},
    {"runs"},
    {"viewer"},
    {"report", "training"},
    {"evaluation", "exchange"},
    {"pipeline", "compiling"},
    {"atlas"},
]
STEP = {room: i for i, step in enumerate(STEPS) for room in step}
# The shell of the scripts, beside the steps.
MAY = {
    "__main__": set(),
    "children": {"buckets", "errors", "interrupts", "progress", "user_modules"},
    "help": {"config", "registry"},
    "config_text": {"config", "errors", "help", "registry"},
    "settings_check": {"config", "errors", "registry"},
    "cli": {
        "boards",
        "buckets",
        "cli",
        "config",
        "errors",
        "help",
        "interrupts",
        "locks",
        "distributed",
        "settings_check",
        "user_modules",
    },
}


def imports(path: pathlib.Path, within: bool = True) -> list[tuple[int, str]]:
    """(line, dotted name) of every import of a file, those inside functions included if
    `within`.
    """
    found = []
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if within else tree.body:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def rooms() -> dict[pathlib.Path, str]:
    """Every file of the package and the room that it is in."""
    files = sorted((ROOT / "fr").rglob("*.py"))
    return {f: f.relative_to(ROOT / "fr").parts[0].removesuffix(".py") for f in files}


def names_of(path: pathlib.Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.split(".")[0] for _, name in imports(path)}


def test_every_room_has_its_step():
    assert set(rooms().values()) - {"__init__"} <= STEP.keys() | MAY.keys()


def test_no_import_runs_back():
    back = []
    for path, room in rooms().items():
        for line, name in imports(path):
            assert not name.startswith("."), f"{path}:{line}: relative import"
            top, *rest = name.split(".")
            if top != "fr" or not rest or rest[0] == "__version__":
                continue
            other = rest[0]
            if room in MAY:
                allowed = other in MAY[room]
            else:
                allowed = other == room or (
                    other in STEP and STEP[other] < STEP.get(room, -1)
                )
            if not allowed:
                back.append(
                    f"{path.relative_to(ROOT)}:{line}: {room} must not import {other}"
                )
    assert not back, "\n".join(back)


def test_sampling_sees_only_tokens():
    sampling = [path for path, room in rooms().items() if room == "sampling"]
    seen = {
        (path.name, name.split(".")[1])
        for path in sampling
        for _, name in imports(path)
        if name.startswith("fr.")
    }
    assert not [pair for pair in seen if pair[1] in ("tasks", "store", "workdir")]


def test_routing_and_the_store_need_no_jax():
    """Only one function, which trains a router, imports jax, and only when called."""
    light = (
        "routing",
        "orders",
        "comparison",
        "profiles",
        "stats",
        "store",
        "files",
        "prompts",
        "workdir",
        "config",
        "cli",
        "viewer",
    )
    files = [path for path, room in rooms().items() if room in light]
    files += [path for path in [ROOT / "scripts" / "route.py"] if path.exists()]
    heavy = {"jax", "flax", "optax", "orbax", "chex"}
    training = ROOT / "fr" / "routing" / "training.py"
    assert not [path for path in files if path != training and names_of(path) & heavy]
    local = [
        (path.name, name)
        for path, room in rooms().items()
        if room == "routing"
        for name in {n for _, n in imports(path)}
        - {n for _, n in imports(path, within=False)}
    ]
    assert local == [("policies.py", "fr.routing.training.fit_learned")]


def test_the_check_itself_sees_an_arrow_that_runs_back(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from fr import store\n    import fr.tasks.task\n")
    assert imports(path) == [(2, "fr.store"), (3, "fr.tasks.task")]
