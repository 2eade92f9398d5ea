"""The diagrams of docs/architecture.md against the imports of the package."""

import ast
import re
import sys

from page_blocks import ROOT, blocks
from synthetic_profiles import make
from test_layering import imports

from fr.config import ClustersConfig, Config, RoutingConfig
from fr.pipeline.route import route
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


def test_the_walk_from_profiles_to_a_routing_decision():
    check_walk(diagrams()[3], files=10, returns=5)


def test_a_run_calls_the_walk_to_a_decision_in_its_order(tmp_path, monkeypatch):
    nodes, calls = walk(diagrams()[3])
    steps = [(str(ROOT / nodes[calls[0][0]][0]), nodes[calls[0][0]][1])]
    steps += [(str(ROOT / nodes[callee][0]), nodes[callee][1]) for _, callee in calls]
    called = []

    def watch(frame, event, _):
        step = (frame.f_code.co_filename, frame.f_code.co_name)
        if event == "call" and step in steps and step not in called:
            called.append(step)

    settings = RoutingConfig(
        bootstrap=20, splits=2, permutations=5, posterior=5, nulls=9, folds=2,
        splittings=1,
    )  # fmt: skip
    clusters = ClustersConfig(
        bootstrap=2, seeds=1, nulls=1, null_bootstrap=1, largest=2
    )
    write_profiles(tmp_path / "profiles.csv", [make(problems=16)])
    config = Config(routing=settings, clusters=clusters)
    monkeypatch.setattr("fr.pipeline.route._plots", lambda *_: {})
    sys.setprofile(watch)
    try:
        route([tmp_path / "profiles.csv"], config, tmp_path / "run")
    finally:
        sys.setprofile(None)
    # Rows of the in-sample protocols are adjusted before anything is learned.
    out_of_fold = [step for step in steps if step[1] != "adjust"]
    assert [step for step in called if step[1] != "adjust"] == out_of_fold
    assert set(called) == set(steps)
