"""From profile tables to routing.json, plots and printable tables; needs no model, and jax for the head only."""

import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from tqdm import tqdm

from fr.config import Config
from fr.errors import UserError
from fr.evaluation.failure_clusters import describe_clusters
from fr.evaluation.method_audit import audit
from fr.progress import stage
from fr.report.page import SCHEDULES_PLOT, plot_name
from fr.report.render import render, to_text
from fr.report.routing_tables import routing_sections
from fr.report.schema_1 import upgrade
from fr.routing.folds import OUT_OF_FOLD
from fr.routing.interaction import describe_interaction
from fr.routing.learn import READS, train_head
from fr.routing.outcomes import outcomes_of
from fr.routing.pool import make_pool, make_populations
from fr.routing.profiles import Profiles, read_cells
from fr.routing.references import FAMILY, PRIMARY
from fr.routing.router import write_orders
from fr.routing.schedules import learn_orders, named, train_order_head
from fr.routing.summary import measure_certainty, summarise
from fr.routing.trained import Head
from fr.routing.transfer import unknown_operators
from fr.runs.declaration import declare, record
from fr.workdir import PathLike, to_json, write_json, write_whole


def route(
    files: Sequence[PathLike],
    config: Config,
    workdir: PathLike,
    heads: bool = False,
    announce: Callable[[str], None] | None = None,
    without: Sequence[str] = (),
    frozen: PathLike | None = None,
) -> dict:
    """Evaluate routing on every cell of `files`; write `routing.json` and `plots/*.png` under `workdir`.

    The failures are described (regimes) and audited beside it. What is compared is in declaration.json, dated before
    the files are read.
    With `heads` the learned ones are judged too. Trained on all problems, the one that chooses an operator is left in
    `head/`, and the one that chooses an order of them, which reads what comes with the rollouts, in `schedule/`.
    `announce` is told whether there is anything to route, and the power of the data, before anything is judged.
    Operators `without` are as if they had never been tried.
    `frozen` is the workdir of another such run: its head, rule and fixed choice are judged here
    as they are, on the operators that it knows. Returns {"summary": what routing.json
    holds, "tables": texts}. The same files and config give the same bytes. Raises UserError on a bad file,
    before anything is written.
    """
    declaration = declare(
        workdir, declared_of(files, config, heads, without, frozen), files
    )
    source = Head.restore(epath.Path(frozen) / "head") if frozen else None
    cells = read_cells(files, without)
    if source and (unknown := unknown_operators(cells, source)):
        without = [*without, *unknown]
        cells = read_cells(files, without)
    record(workdir, declaration)
    stage(1, 5, "routing: is there anything to route")
    first = describe_interaction(cells, config)
    if announce:
        announce(f"  {declaration}")
        announce(render("interaction", first))
    stage(2, 5, "routing: power of the data")
    known = measure_certainty(
        tqdm(cells, desc="power", unit="cell", disable=len(cells) < 8), config
    )
    if announce:
        announce(
            render(
                "power",
                [(p.cell, c.record if c else None) for p, c in zip(cells, known)],
            )
        )
    stage(3, 5, "routing: policies" + ", heads" * heads)
    summary = {
        "without": list(without),
        **summarise(cells, config, heads, known, source, first),
    }
    stage(4, 5, "routing: regimes and audit")
    summary |= {
        "regimes": describe_clusters(cells, config),
        "audit": audit(cells, config),
    }
    # Here, so that bad input is refused before the second that matplotlib takes to import.
    from fr.report.plots import draw_curves, draw_landscape, draw_rescue

    stage(5, 5, "routing: plots")
    found = upgrade(summary)
    plots, names = {}, [profiles.cell for profiles in cells]
    drawn = tqdm(cells, desc="plots", unit="cell", disable=len(cells) < 8)
    for profiles, cell in zip(drawn, summary["cells"]):
        plots[plot_name("landscape", profiles.cell, names)] = draw_landscape(
            profiles, config.routing
        )
        plots[plot_name("rescue", profiles.cell, names)] = draw_rescue(
            found, profiles.cell
        )
        if cell["cost"] and cell["cost"]["curve"]:
            plots[plot_name("cost", profiles.cell, names)] = draw_curves(
                found, profiles.cell, f"Solved within a budget: {profiles.cell}"
            )
    if summary["schedules"]:
        plots[SCHEDULES_PLOT] = draw_curves(
            found, "all cells", "One operator after another"
        )
    try:
        for name, image in plots.items():
            write_whole(epath.Path(workdir) / "plots" / name, image)
        write_json(epath.Path(workdir) / "routing.json", summary)
        if heads:
            _keep_heads(cells, config, epath.Path(workdir))
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be written ({error.strerror or error})"
        ) from error
    # Power was announced before anything was judged.
    sections = [s for s in routing_sections(found) if s.title != "Power"]
    tables = [to_text([section]) for section in sections]
    return {"summary": summary, "tables": [text for text in tables if text]}


def declared_of(
    files: Sequence[PathLike],
    config: Config,
    heads: bool = False,
    without: Sequence[str] = (),
    frozen: PathLike | None = None,
) -> dict:
    """What `route` compares, on what and at which budget, as plain values that need no outcome."""
    return {
        "what": "routing of failed problems, out of fold",
        "profiles": [epath.Path(file).name for file in files],
        "primary": [list(pair) for pair in PRIMARY],
        "family": [list(pair) for pair in FAMILY],
        "protocols": list(OUT_OF_FOLD),
        "population": "all",
        "certified": "posterior over best_fixed_per_model, if columns tell operators apart; over every fixed choice",
        "heads": heads,
        "without": list(without),
        "frozen": bool(frozen),
        "budget": config.routing.budget,
        "seed": config.seed,
        "settings": json.loads(to_json(dataclasses.asdict(config.routing))),
    }


def _keep_heads(cells: Sequence[Profiles], config: Config, workdir: epath.Path) -> None:
    """Save heads that have learned from every failed problem, for other failures; orders where costs are known."""
    pool, routing = make_pool(cells), config.routing
    everything = make_populations(pool, [None] * len(cells), routing)["all"]
    rows, rng = np.ones(len(pool), bool), np.random.default_rng(config.seed)
    train_head(pool, everything, rows, READS["head"], routing, rng)[0].save(
        workdir / "head"
    )
    if (outcomes := outcomes_of(pool)) is None:
        return
    head, choice = train_order_head(
        pool, outcomes, rows, READS["head_free"], routing, rng
    )
    head.save(workdir / "schedule")
    orders = learn_orders(pool, outcomes, rows, choice)
    write_orders(workdir / "schedule", named(orders, pool.operators))
