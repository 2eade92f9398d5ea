"""The page of a run, `report.html`, made of the files that the run left."""

import hashlib
import io
from collections.abc import Mapping, Sequence

from etils import epath

from fr.config import Config, as_dict
from fr.errors import UserError
from fr.layout.html import page
from fr.layout.tables import REPORTS, Block, Images, Section, table, words
from fr.report.limits import limits
from fr.report.routing_tables import routing_sections
from fr.runs.declaration import restore
from fr.runs.provenance import changed, revision, versions
from fr.stats.bootstrap import HEADER
from fr.viewer.one_failure import failure_section
from fr.workdir import PathLike, read_object, write_whole

NAME = "report.html"
_WIDEST, _COLOURS = 720, 24  # pixels and colours of a picture on the page
SCHEDULES_PLOT = "schedules.png"  # all cells together
_PLOTS = {
    "cost": "problems solved within a cost",
    "landscape": "failure landscape",
}


def write_page(workdir: PathLike, config: Config, more: Sequence[Section] = ()) -> None:
    """Write `report.html`: the same files, code and config give the same bytes.

    Args:
        workdir: Folder with `routing.json`; what else a run leaves there is shown, too.
        config: The config of the evaluation.
        more: Further sections, after the tables.

    Raises:
        UserError: There is no `routing.json`, or it is of an earlier version.
    """
    workdir = epath.Path(workdir)
    routing, summary = (_read(workdir, name) for name in ("routing", "summary"))
    config_file = workdir / "config.json"
    settings = read_object(config_file) if config_file.exists() else None
    if routing is None:
        raise UserError(
            f"{workdir}: routing.json is missing; scripts/route.py writes it"
        )
    sections = routing_sections(routing)
    found = {s.title: list(s.blocks) for s in sections}
    open_ones = {s.title for s in sections if not s.folded}
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
        images = [
            (said, small_picture(plot.read_bytes()))
            for at, said, plot in drawn
            if at == where
        ]
        found.setdefault(where, []).append(Images(images))
    stages = [
        block
        for stage in ("rollouts", "failures", "attempts")
        for block in (REPORTS[stage](summary[stage]) if summary else ())
    ]
    found["Data"][:0] = stages
    if declaration := restore(workdir):
        found["What was found"].append(str(declaration))
    cells = [Section(name, found.pop(f"Cell {name}"), folded=True) for name in names]
    said = "\n".join(f"– {line}" for line in limits(routing, summary))
    details = [Section(k, own, True) for k, own in found.items() if k not in open_ones]
    page_sections = [
        *(Section(title, found[title]) for title in found if title in open_ones),
        *([failure] if (failure := failure_section(workdir)) else []),
        *more,
        Section("Limits", [said]),
        Section("Run", _run(routing, summary, settings, config), folded=True),
        *details,
        Section("Cell by cell", cells, folded=True),
    ]
    subtitle = words("subtitle", cells=", ".join(names))
    html = page(words("title"), subtitle, page_sections)
    write_whole(workdir / NAME, html.encode())


def _read(workdir: epath.Path, name: str) -> dict | None:
    path = workdir / f"{name}.json"
    found = read_object(path) if path.exists() else None
    if found is not None and found.get("schema") != HEADER["schema"]:
        script = "route" if name == "routing" else "reproduce"
        again = f"run scripts/{script}.py again"
        raise UserError(f"{path}: was written by an earlier version; {again}")
    return found


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


def small_picture(png: bytes) -> bytes:
    """Make a picture as a page needs it: narrower, of few colours.

    Args:
        png: A PNG file.

    Returns:
        A PNG file of about a tenth of the size.
    """
    from PIL import Image  # here, because a page without plots needs none

    buffer, picture = io.BytesIO(), Image.open(io.BytesIO(png))
    picture.thumbnail((_WIDEST, _WIDEST))
    # Colours far apart: the median cut gives most of them to letters, and the few dots
    # of two operators then look alike.
    apart = Image.Quantize.MAXCOVERAGE
    few = picture.convert("RGB").quantize(_COLOURS, apart, kmeans=2)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()


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
