"""The page of a run, `report.html`, made of the files that the run left."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from etils import epath

import fr
from fr.config import Config, as_dict
from fr.errors import UserError
from fr.report.html import page
from fr.report.limits import limits
from fr.report.render import REPORTS
from fr.report.tables import Block, Images, Section, table, words
from fr.runs.declaration import restore
from fr.workdir import PathLike, read_object, to_json, write_whole

NAME = "report.html"
SCHEDULES_PLOT = "schedules.png"  # all cells together
_PLOTS = {
    "cost": "problems solved within a cost",
    "rescue": "rescue rates",
    "landscape": "failure landscape",
}
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scikit-learn")


def write_page(workdir: PathLike, config: Config, more: Sequence[Section] = ()) -> None:
    """Write `report.html`: the same files, code and config give the same bytes.

    Args:
        workdir: Folder with `routing.json`; what else a run leaves there is shown, too.
        config: The config of the evaluation.
        more: Further sections, after the tables.

    Raises:
        UserError: There is no `routing.json`.
    """
    workdir = epath.Path(workdir)
    routing, summary, settings = (
        read_object(path) if (path := workdir / f"{name}.json").exists() else None
        for name in ("routing", "summary", "config")
    )
    if routing is None:
        raise UserError(
            f"{workdir}: routing.json is missing; scripts/route.py writes it"
        )
    found = {s.title: list(s.blocks) for s in REPORTS["routing"](routing)}
    names = [cell["cell"] for cell in routing["cells"]]
    drawn = [
        ("Cost" if kind == "cost" else f"Cell {name}", f"{name}: {caption}", plot)
        for name in names
        for kind, caption in _PLOTS.items()
        if (plot := workdir / "plots" / plot_name(kind, name, names)).exists()
    ]
    if (plot := workdir / "plots" / SCHEDULES_PLOT).exists():
        drawn.append(("Cost", "problems solved by one operator after another", plot))
    for where in dict.fromkeys(where for where, *_ in drawn):
        images = [(said, plot.read_bytes()) for at, said, plot in drawn if at == where]
        found[where].append(Images(images))
    stages = [
        block
        for stage in ("rollouts", "failures", "attempts")
        for block in (REPORTS[stage](summary[stage]) if summary else ())
    ]
    found["Data"][:0] = stages or [words("data")]
    declaration = restore(workdir)
    found["Policies"][:0] = [str(declaration)] if declaration else []
    cells = [Section(name, found.pop(f"Cell {name}"), folded=True) for name in names]
    sections = [
        Section("Run", _run(routing, summary, settings, config)),
        *(Section(title, blocks) for title, blocks in found.items()),
        *more,
        Section(
            "Limits", ["\n".join(f"– {line}" for line in limits(routing, summary))]
        ),
        Section("Cell by cell", cells),
    ]
    html = page(words("title", cells=", ".join(names)), words("subtitle"), sections)
    write_whole(workdir / NAME, html.encode())


def plot_name(kind: str, cell: str, cells: Sequence[str] = ()) -> str:
    """File of a plot of a cell, in `plots/`.

    Args:
        kind: landscape, rescue or cost.
        cell: Name of the cell.
        cells: All names; of those that look alike each gets a hash of its own name.

    Returns:
        Name of the file.
    """
    clean = lambda name: "".join(c if c.isalnum() else "_" for c in name)
    name = clean(cell)
    if any(other != cell and clean(other) == name for other in cells):
        name = f"{name}_{hashlib.sha256(cell.encode()).hexdigest()[:6]}"
    return f"{kind}_{name}.png"


def _run(
    routing: Mapping, summary: Mapping | None, settings: Mapping | None, config: Config
) -> list[Block]:
    """Models, task, seed, settings and code."""
    facts: dict[str, str] = {}
    if summary:
        names = ("specialist", "ancestor", "task", "seed")
        facts = {name: str(summary[name]) or "none" for name in names}
    facts["cells"] = ", ".join(cell["cell"] for cell in routing["cells"])
    facts["operators left out"] = ", ".join(routing["without"])
    here = changed(as_dict(config))
    if settings and (there := changed(settings)) != here:
        facts["settings of the run"] = _listed(there)
    facts["settings of the evaluation"] = _listed(here)
    r, code = config.routing, f", revision {revision()}" if revision() else ""
    facts["evaluated by"] = (
        f"seed {config.seed}, {r.folds} folds, {r.bootstrap:,} resamples, "
        f"{r.splits:,} halvings, {r.permutations:,} permutations"
    )
    facts["code"] = ", ".join(f"{k} {v}" for k, v in versions().items()) + code
    return table("run", [{"name": k, "value": v} for k, v in facts.items() if v])


def _listed(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in settings.items()) or "the defaults"


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the numerical packages, by name."""
    found = {"fr": fr.__version__, "Python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def revision() -> str | None:
    """The commit of the checkout, `-dirty` if files differ; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run([*git, "--exclude=*"], capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def changed(settings: Mapping) -> dict[str, str]:
    """Settings that are not the default.

    Args:
        settings: A config as plain values.

    Returns:
        JSON of each value by its dotted name.
    """
    given, usual = (
        _flat(json.loads(to_json(config))) for config in (settings, as_dict(Config()))
    )
    return {name: value for name, value in given.items() if value != usual.get(name)}


def _flat(values: Mapping, prefix: str = "") -> dict[str, str]:
    found = {}
    for name, value in values.items():
        one = {prefix + name: json.dumps(value, ensure_ascii=False)}
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else one
    return found
