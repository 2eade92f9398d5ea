"""The page of a run, `report.html`: what a reviewer asks of it, from the files that the run left behind."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

from etils import epath

from fr.config import Config, as_dict
from fr.errors import UserError
from fr.report.ablation_tables import ablation_blocks
from fr.report.cause_tables import cause_blocks
from fr.report.declaration import Declaration, restore
from fr.report.failure_tables import audit_blocks, regime_blocks
from fr.report.page_html import Facts, Figures, More, Part, Title, Words, page
from fr.report.page_limits import limits
from fr.report.page_tables import (
    attempts_table,
    comparison_table,
    declared,
    labels_table,
    oracle_table,
    policies_table,
    primary,
    protocol_name,
    routes_table,
    rule_table,
)
from fr.report.policy_tables import (
    certified_blocks,
    interaction_table,
    policy_blocks,
    power_table,
)
from fr.report.provenance import changed, revision, versions
from fr.report.routing_tables import cell_blocks
from fr.report.schedule_tables import schedule_blocks
from fr.report.stages import attempts_table as operators_table
from fr.report.stages import render_failures, render_rollouts
from fr.report.transfer_tables import calibration_blocks, transfer_blocks
from fr.workdir import PathLike, read_object, write_whole

NAME = "report.html"
_KINDS = ("landscape", "rescue", "cost")
SCHEDULES_PLOT = "schedules.png"  # of all cells together
_FIGURES = {"rescue": "rescue rates", "landscape": "failure landscape"}


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a workdir holds; None for what is not there."""

    routing: dict
    summary: dict | None  # of scripts/reproduce.py
    causes: dict | None  # of benchmarks/planted.py
    settings: dict | None  # of the run whose failures these are
    plots: dict[str, dict[str, bytes]]  # kind -> cell -> PNG
    schedules: bytes | None  # PNG of what orders of operators solve
    config: Config  # of the evaluation
    declaration: Declaration | None = None


def write_page(workdir: PathLike, config: Config) -> None:
    """Write `report.html` from routing.json and what else is in `workdir`; `config` is the evaluation's own.

    No number is computed here, and no clock is read: the same files, code and config give the same bytes. Raises
    UserError where there is no routing.json.
    """
    workdir = epath.Path(workdir)
    found = _read(workdir, config)
    sections = [(title, parts(found)) for title, parts in _SECTIONS.items()]
    cells = ", ".join(cell["cell"] for cell in found.routing["cells"])
    subtitle = "Rates and differences in percent and points, with 95 % intervals"
    write_whole(workdir / NAME, page(f"Routing of failures: {cells}", subtitle, sections).encode())


def plot_name(kind: str, cell: str, cells: Sequence[str] = ()) -> str:
    """File of a plot of a cell, in `plots/`: kind is landscape, rescue or cost.

    Of `cells` with one name once their signs are replaced, each has a hash of its own name in addition.
    """
    name = _cleaned(cell)
    if any(other != cell and _cleaned(other) == name for other in cells):
        name = f"{name}_{hashlib.sha256(cell.encode()).hexdigest()[:6]}"
    return f"{kind}_{name}.png"


def _cleaned(cell: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in cell)


def _read(workdir: epath.Path, config: Config) -> _Found:
    routing, summary, causes, settings = (
        read_object(path) if (path := workdir / f"{name}.json").exists() else None
        for name in ("routing", "summary", "causes", "config")
    )
    if routing is None:
        raise UserError(f"{workdir}: routing.json is missing; scripts/route.py writes it")
    plots: dict[str, dict[str, bytes]] = {}
    cells = [cell["cell"] for cell in routing["cells"]]
    for cell in routing["cells"]:
        for kind in _KINDS:
            if (path := workdir / "plots" / plot_name(kind, cell["cell"], cells)).exists():
                plots.setdefault(kind, {})[cell["cell"]] = path.read_bytes()
    drawn = workdir / "plots" / SCHEDULES_PLOT
    schedules = drawn.read_bytes() if routing["schedules"] and drawn.exists() else None
    return _Found(routing, summary, causes, settings, plots, schedules, config, restore(workdir))


def _run(found: _Found) -> list[Part]:
    """Models, task, seed, settings and code."""
    facts, routing = [], found.config.routing
    if found.summary:
        facts += [(name, found.summary[name] or "none") for name in ("specialist", "ancestor", "task")]
        facts.append(("seed", str(found.summary["seed"])))
    facts.append(("cells", ", ".join(cell["cell"] for cell in found.routing["cells"])))
    if found.routing["without"]:
        facts.append(("operators left out", ", ".join(found.routing["without"])))
    run, here = found.settings and changed(found.settings), changed(as_dict(found.config))
    if run is not None:
        facts.append(("settings of the run", _settings(run)))
    if run != here:
        facts.append(("settings of the evaluation", _settings(here)))
    facts.append(
        (
            "evaluated by",
            f"seed {found.config.seed}, {routing.folds} folds, {routing.bootstrap:,} resamples, "
            f"{routing.splits:,} halvings, {routing.permutations:,} permutations",
        )
    )
    code = ", ".join(f"{name} {version}" for name, version in versions().items())
    facts.append(("code", code + (f", revision {commit}" if (commit := revision()) else "")))
    return [Facts(facts)]


def _settings(different: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in different.items()) or "the defaults"


def _data(found: _Found) -> list[Part]:
    """Problems, failures, attempts."""
    parts: list[Part] = []
    if found.summary:
        stages = found.summary
        parts += [render_rollouts(stages["rollouts"]), render_failures(stages["failures"])]
        parts += [operators_table(stages["attempts"])]
    else:
        parts.append(
            "Rollouts and attempts as counted by their run: scripts/reproduce.py leaves summary.json."
        )
    return [*parts, attempts_table(found.routing["cells"])]


def _policies(found: _Found) -> list[Part]:
    """The declared comparison first; all others are exploratory."""
    claim, family = primary(found.routing), declared(found.routing)
    parts: list[Part] = [Title("Primary comparison, the same in every run")]
    if found.declaration:
        parts.append(str(found.declaration))
    if claim:
        parts.append(comparison_table([claim]))
    else:
        parts.append("It cannot be made: " + "; ".join(_unsupported(found)))
    parts += certified_blocks(found.routing.get("certified", []))  # absent of a run of an earlier version
    others = [row for row in family if row is not claim]
    if others:
        sizes = Counter(row["protocol"] for row in family)
        counted = ", ".join(f"{size} in {protocol_name(protocol)}" for protocol, size in sizes.items())
        parts += [
            Title("Exploratory: the other comparisons of its family"),
            f"Holm's adjustment runs over the fixed family of a protocol, all cells together: {counted}. "
            "Differences are paired, intervals are a bootstrap over problems.",
            comparison_table(others),
        ]
    parts += [Title("Exploratory: every policy, out of fold"), policies_table(found.routing)]
    parts += [Title("Exploratory: the rule on steerable problems"), rule_table(found.routing["cells"])]
    parts.append(
        "In the source's protocol the same attempts label and score, which flatters whatever is chosen by them. "
        "Holm's adjustment runs over the three references and all cells of a protocol."
    )
    parts.append(More("Exploratory: each operator alone", [policies_table(found.routing, alone=True)]))
    return [*parts, More("Exploratory: every population and cell", policy_blocks(found.routing))]


def _unsupported(found: _Found) -> list[str]:
    return [f"{protocol_name(row['protocol'])} {row['why']}" for row in found.routing["unsupported"]]


def _power(found: _Found) -> list[Part]:
    first = found.routing.get("interaction")  # absent of a run of an earlier version
    tables = [interaction_table(first)] if first else []
    return [*tables, power_table([(cell["cell"], cell["certainty"]) for cell in found.routing["cells"]])]


def _cost(found: _Found) -> list[Part]:
    curves = found.plots.get("cost")
    if not curves:
        return [
            "No costs: the profiles lack <operator>_cost and diagnosis_cost; scripts/intervene.py writes them."
        ]
    figures = Figures([(f"{cell}: problems solved within a cost", png) for cell, png in curves.items()])
    schedules = schedule_blocks(found.routing["schedules"])
    if not schedules:
        return [figures]
    drawn = (
        [Figures([("problems solved by orders of operators", found.schedules)])] if found.schedules else []
    )
    return [figures, Title("Exploratory: one operator after the other"), *drawn, *schedules]


def _head(found: _Found) -> list[Part]:
    adds = ablation_blocks(found.routing["ablation"]) or [
        "No learned head, or no two groups of signals to tell apart: scripts/route.py --head trains heads on the "
        "signals that scripts/diagnose.py leaves in profiles.csv."
    ]
    expects = calibration_blocks(found.routing)
    return [*adds, *([Title("What heads expect, and what came of it"), *expects] if expects else [])]


def _transfer(found: _Found) -> list[Part]:
    return transfer_blocks(found.routing) or [
        "Nothing was learned elsewhere: scripts/route.py --frozen=WORKDIR judges another run's head and rule."
    ]


def _regimes(found: _Found) -> list[Part]:
    stability, *rest = regime_blocks(found.routing["regimes"])
    words = [block for block in rest if isinstance(block, str)]
    tables = [block for block in rest if not isinstance(block, str)]
    more = [More("Exploratory: what rescues each regime", tables)] if tables else []
    return [stability, *words, *more, Title("Audit"), *audit_blocks(found.routing["audit"])]


def _causes(found: _Found) -> list[Part]:
    if found.causes is None:
        return ["No planted causes: benchmarks/planted.py makes lineages whose defect is known."]
    return cause_blocks(found.causes)


def _all(found: _Found) -> list[Part]:
    """Every table and plot of every cell."""
    parts: list[Part] = []
    for cell in found.routing["cells"]:
        blocks = cell_blocks(cell)
        images = [
            (f"{cell['cell']}: {title}", found.plots[kind][cell["cell"]])
            for kind, title in _FIGURES.items()
            if cell["cell"] in found.plots.get(kind, {})
        ]
        parts.append(More(f"{cell['cell']}: tables and plots", [*blocks, Figures(images)]))
    return parts


_SECTIONS = {
    "What was run": _run,
    "Data": _data,
    "Labels and their stability": lambda found: [labels_table(found.routing["cells"])],
    "Policies": _policies,
    "What a perfect router could have won": lambda found: [oracle_table(found.routing["cells"])],
    "Routes": lambda found: [routes_table(found.routing)],
    "Power": _power,
    "Cost": _cost,
    "Exploratory: the learned head by what it reads": _head,
    "Exploratory: transfer": _transfer,
    "Exploratory: regimes and audit": _regimes,
    "Exploratory: planted causes": _causes,
    "Limits": lambda found: [Words(limits(found.routing, found.summary, found.causes))],
    "Cell by cell": _all,
}
