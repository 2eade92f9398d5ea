"""The diagrams of docs/architecture.md against the imports of the package."""

import ast
import inspect
import pathlib
import re
import sys
import types

from page_blocks import ROOT, blocks
from synthetic_profiles import make
from test_layering import imports

from fr.profiles import write_profiles

PAGE = ROOT / "docs" / "architecture.md"
_NODE = re.compile(r'(\w+)\["([\w./]+\.py) (\w+)"\]')
_CALL = re.compile(r"^\s*(\w+)(?:\[[^]]*\])? -->\|\d+\| (\w+)", re.M)


def diagrams() -> list[str]:
    """The mermaid blocks of the page, in order."""
    return [b.code for b in blocks(PAGE) if b.language == "mermaid"]


def rooms() -> dict[str, set[str]]:
    """The rooms of the package, and for each the rooms that its files import."""
    names = {path.parent.name for path in (ROOT / "fr").glob("*/__init__.py")}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name in names:
        for path in (ROOT / "fr" / name).rglob("*.py"):
            parts = [other.split(".") for _, other in imports(path)]
            used = {p[1] for p in parts if p[0] == "fr" and len(p) > 1}
            found[name] |= (used & names) - {name}
    return found


def reached(graph: dict[str, set[str]], start: str, without: str) -> set[str]:
    """Rooms that `start` reaches on a way whose first step is not `without`."""
    seen: set[str] = set()
    todo = [name for name in graph[start] if name != without]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


def test_the_diagram_of_rooms_is_that_of_the_imports():
    graph = rooms()
    direct = {
        (a, b)
        for a, uses in graph.items()
        for b in uses
        if b not in reached(graph, a, b)
    }
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", diagrams()[1], re.M))
    assert drawn == direct
    assert {name for arrow in drawn for name in arrow} == set(graph)


def test_every_room_has_its_line():
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(named) == sorted(rooms())


def walk(diagram: str) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str]]]:
    """(file, function) by node of a walk, and its calls in order."""
    nodes = {name: (file, function) for name, file, function in _NODE.findall(diagram)}
    return nodes, _CALL.findall(diagram)


def check_walk(diagram: str, files: int, returns: int) -> None:
    """Each function exists, each call follows an import, and the walk is short."""
    nodes, calls = walk(diagram)
    assert len({file for file, _ in nodes.values()}) <= files
    for file, function in nodes.values():
        tree = ast.parse((ROOT / file).read_text())
        kinds = (ast.FunctionDef, ast.ClassDef)
        names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
        assert function in names, f"{file} has no {function}"
    at, back = calls[0][0], 0
    for caller, callee in calls:
        back += caller != at
        at = callee
        if caller in nodes:  # else code of the reader's own
            assert nodes[callee][0] in used(nodes[caller][0]), (caller, callee)
    assert back <= returns


def used(file: str) -> set[str]:
    """Files of the package that a file imports, by their paths."""
    found = set()
    for _, name in imports(ROOT / file):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if (ROOT / f"{path}.py").exists():
                found.add(f"{path}.py")
            elif (ROOT / path / "__init__.py").exists() and end < len(parts):
                # A name that the room offers, from the file that defines it.
                found |= _offered(path, parts[end])
    return found


def _offered(room: str, name: str) -> set[str]:
    init = ROOT / room / "__init__.py"
    found = set()
    for _, other in imports(init):
        if other.endswith(f".{name}"):
            found.add("/".join(other.split(".")[:-1]) + ".py")
    return found


def test_the_walk_from_a_config_to_a_training_step():
    check_walk(diagrams()[2], files=15, returns=6)


def attributes() -> set[types.CodeType]:
    """Code of the package's properties and of `__len__`: reads of a record's field."""
    found = set()
    for name, module in list(sys.modules.items()):
        kinds = vars(module).values() if name.startswith("fr.") else ()
        for kind in (k for k in kinds if isinstance(k, type)):
            own = [m.fget for m in vars(kind).values() if isinstance(m, property)]
            for read in (*own, vars(kind).get("__len__")):
                if isinstance(code := unwrapped(read), types.CodeType):
                    found.add(code)
    return found


def unwrapped(function) -> types.CodeType | None:
    """Code of a function below the wrapper of the type checker."""
    return getattr(inspect.unwrap(function), "__code__", None) if function else None


def entered(code: str, fields: bool = False) -> list[tuple[str, str]]:
    """(file, function) of the rooms that code enters, in the order of first calls.

    Not counted: files beside the rooms (bytes, names, errors), and with `fields` the
    attributes of records with all that they call.
    """
    order: dict[types.CodeType, tuple[str, str]] = {}
    inside = 0

    def watch(frame, event, _):
        nonlocal inside
        code = frame.f_code
        if code in skipped and event in ("call", "return"):
            inside += 1 if event == "call" else -1
        elif event == "call" and not inside and not code.co_name.startswith("<"):
            path = pathlib.Path(code.co_filename)
            if path.is_relative_to(ROOT / "fr") and path.parent != ROOT / "fr":
                order.setdefault(code, (str(path.relative_to(ROOT)), code.co_name))

    program = compile(code, "decide.py", "exec")
    exec(program, {})  # imports what it needs: registrations are not entered below
    skipped = attributes() if fields else set()
    sys.setprofile(watch)
    try:
        exec(program, {})
    finally:
        sys.setprofile(None)
    return list(order.values())


def length(steps: list[tuple[str, str]]) -> tuple[int, int]:
    """Different files, and how often a file is opened again after another one."""
    files = [file for file, _ in steps]
    opened = [file for file, before in zip(files, [None, *files]) if file != before]
    return len(set(files)), len(opened) - len(set(files))


def test_the_walk_from_profiles_to_a_routing_decision(tmp_path, monkeypatch):
    """The page's code is run and watched: the page has its files, order and counts."""
    write_profiles(tmp_path / "profiles.csv", [make(problems=16)])
    monkeypatch.chdir(tmp_path)
    (code,) = [b.code for b in blocks(PAGE) if b.title == "decide.py"]
    steps = entered(code, fields=True)
    every = entered(code)
    compared = entered(code.replace(", compared=False", ""))
    counts = [*length(steps), *length(every), *length(compared)]
    text = " ".join(PAGE.read_text().split())
    said = re.search(
        r"in (\d+) files, and (\d+) times .* that is (\d+) files and (\d+) times; "
        r".* it is (\d+) and (\d+)\.",
        text,
    )
    assert said and [int(n) for n in said.groups()] == counts, counts
    assert counts[0] <= 10 and counts[1] <= 5
    nodes, calls = walk(diagrams()[3])
    assert {file for file, _ in nodes.values()} == {file for file, _ in steps}
    drawn = [nodes[callee] for _, callee in calls]
    assert sorted(drawn, key=steps.index) == drawn
    check_walk(diagrams()[3], files=10, returns=5)
