"""From profile tables to routing.json, plots and printable tables; needs no model."""

import dataclasses
import json
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath

from fr.comparison.cell_summary import describe_interaction
from fr.comparison.summary import measure_powers, summarise
from fr.comparison.transfer import unknown_operators
from fr.comparison.unread import unread_columns
from fr.comparison.verdict import SMALLEST, largest_headrooms, verdict_of
from fr.config import Config
from fr.errors import UserError
from fr.evaluation.failure_clusters import describe_clusters
from fr.evaluation.method_audit import audit
from fr.orders.budgets import outcomes_of
from fr.orders.routers import write_orders
from fr.orders.schedules import READERS, budget_target, learn_orders, named_orders
from fr.profiles import Profiles, read_cells
from fr.progress import Bar, stage
from fr.report.page import SCHEDULES_PLOT, plot_name
from fr.routing.dataset import EVERYWHERE, OUT_OF_FOLD, RoutingData
from fr.routing.learned import LearnedRouter
from fr.routing.policies import FAMILY, PRIMARY, all_policies
from fr.runs.declaration import declare, record
from fr.workdir import PathLike, to_json, write_json, write_whole


def route(
    files: Sequence[PathLike],
    config: Config,
    workdir: PathLike,
    learned: bool = False,
    without: Sequence[str] = (),
    frozen: PathLike | None = None,
) -> dict:
    """Evaluate routing on every cell, with a description and an audit of the failures.

    Writes `routing.json`, `plots/*.png` and declaration.json, which is dated before the
    files are read. The same files and config give the same bytes.

    Args:
        files: profile tables.
        config: settings.
        workdir: where everything is written.
        learned: also judge the learned routers. Trained on all problems, the one that
            chooses an operator is left in `router/`, and the one that chooses an order
            of them, by what comes with the rollouts, in `schedule/`.
        without: operators to leave out, as if they had never been tried.
        frozen: workdir of another such run, whose learned router, rule and fixed choice
            are judged here as they are, on the operators that it knows.

    Returns:
        The content of routing.json.

    Raises:
        UserError: on a bad file, before anything is written.
    """
    content = declared_of(files, config, learned, without, frozen)
    declaration = declare(workdir, content, files)
    source = LearnedRouter.restore(epath.Path(frozen) / "router") if frozen else None
    cells = read_cells(files, without)
    if source and (unknown := unknown_operators(cells, source)):
        without = [*without, *unknown]
        cells = read_cells(files, without)
    data = RoutingData.build(cells, config)
    if unread := unread_columns(cells)[0]:
        # A name may be misspelt, or its signal's file was not given.
        names = ", ".join(unread)
        print(
            f"warning: no router reads {names}: not registered as a signal by a file "
            "of --user_module or --config",
            file=sys.stderr,
            flush=True,
        )
    record(workdir, declaration)
    stage(1, 5, "routing: is there anything to route")
    first = describe_interaction(data)
    stage(2, 5, "routing: power of the data")
    few = len(cells) < 8
    powers = measure_powers(data, Bar(cells, desc="power", unit="cell", disable=few))
    stage(3, 5, "routing: policies" + ", learned routers" * learned)
    policies = all_policies(data, learned)
    summary = summarise(data, policies, powers, source, config.evaluation.bins)
    summary |= {"without": list(without), "interaction": first}
    certified = {record["policy"]: record for record in summary["certified"]}
    headrooms = largest_headrooms(first, powers)
    closed = certified.get("posterior")
    summary["verdict"] = verdict_of(data, headrooms, SMALLEST, certified=closed)
    stage(4, 5, "routing: clusters and audit")
    summary |= {
        "clusters": describe_clusters(cells, config),
        "audit": audit(cells, config),
    }
    stage(5, 5, "routing: plots")
    plots = _plots(cells, config, summary)
    try:
        for name, image in plots.items():
            write_whole(epath.Path(workdir) / "plots" / name, image)
        write_json(epath.Path(workdir) / "routing.json", summary)
        if learned:
            _save_routers(data, epath.Path(workdir))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--workdir={workdir}: cannot be written ({reason})") from error
    return summary


def declared_of(
    files: Sequence[PathLike],
    config: Config,
    learned: bool = False,
    without: Sequence[str] = (),
    frozen: PathLike | None = None,
) -> dict:
    """Describe what `route` compares, on what and at which budget.

    Args:
        files: as of `route`.
        config: as of `route`.
        learned: as of `route`.
        without: as of `route`.
        frozen: as of `route`.

    Returns:
        Plain values that need no outcome.
    """
    return {
        "what": "routing of failed problems, out of fold",
        "profiles": [epath.Path(file).name for file in files],
        "primary": [list(pair) for pair in PRIMARY],
        "family": [list(pair) for pair in FAMILY],
        "protocols": list(OUT_OF_FOLD),
        "population": "all",
        "certified": "posterior over best_fixed_per_model, if columns tell operators "
        "apart; over every fixed choice",
        "learned": learned,
        "without": list(without),
        "frozen": bool(frozen),
        "budget": config.routing.budget_retries,
        "seed": config.seed,
        "settings": json.loads(to_json(dataclasses.asdict(config.routing))),
    }


def _plots(
    cells: Sequence[Profiles], config: Config, summary: dict
) -> dict[str, bytes]:
    # Here, so that bad input is refused before matplotlib is imported.
    from fr.report.plots import draw_curves, draw_landscape

    plots, names = {}, [profiles.cell for profiles in cells]
    drawn = {row["cell"] for row in summary["curves"]}
    for p in Bar(cells, desc="plots", unit="cell", disable=len(cells) < 8):
        name = lambda kind, cell=p.cell: plot_name(kind, cell, names)
        plots[name("landscape")] = draw_landscape(p, config.routing)
        if p.cell in drawn:
            title = f"Solved within a budget: {p.cell}"
            plots[name("cost")] = draw_curves(summary, p.cell, title)
    if summary["schedules"]:
        title = "One operator after another"
        plots[SCHEDULES_PLOT] = draw_curves(summary, EVERYWHERE, title)
    return plots


def _save_routers(data: RoutingData, workdir: epath.Path) -> None:
    """Save routers that learned from all problems; orders if costs are known."""
    from fr.routing.training import train_router

    rows, rng = np.ones(len(data), bool), np.random.default_rng(data.seed)
    reads = {policy.name: policy.feature_groups for policy in all_policies(data)}
    train_router(data.reading(reads["learned"]), rows, rng)[0].save(workdir / "router")
    if (outcomes := outcomes_of(data)) is None:
        return
    target = budget_target(data, outcomes).reading(reads[READERS["schedule_free"]])
    router, choice = train_router(target, rows, rng)
    router.save(workdir / "schedule")
    orders = learn_orders(data, outcomes, rows, choice.operator)
    write_orders(workdir / "schedule", named_orders(orders, data.operators))
