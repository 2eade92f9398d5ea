r"""Attempts of every operator on the failed problems of --workdir, or online routing.

    python scripts/intervene.py --config=configs/smollm2.py --workdir=/tmp/smollm2

Leaves `attempts/*.parquet` and `profiles.csv`. With --router the problems are sampled
again and routed at the same time: after `intervention.online_after` failures the rest
of a problem's budget goes to the operator that the router names, or by a schedule to
one after the other (scripts/route.py leaves both). That leaves `online/` and
online.json, with retry, or what --against names, as the reference.

    python scripts/intervene.py --config=configs/quickstart.py --workdir=/tmp/online \
        --config.task.split=validation --model=/tmp/quickstart/specialist \
        --router=rule --calibration=/tmp/quickstart/profiles.csv
"""

from absl import flags

from fr import cli
from fr.errors import UserError

cli.define_flags(join=True)
flags.DEFINE_string(
    "router", None, "Route online: rule, learned, schedule, one_order or fixed:NAME."
)
flags.DEFINE_string(
    "calibration", None, "Its z-statistics: a profiles.csv; default: of --workdir."
)
flags.DEFINE_string(
    "saved",
    None,
    "Folder of a saved router; default: router/ or schedule/ of --workdir.",
)
flags.DEFINE_string("against", "fixed:retry", "The router that it is compared with.")
cli.rename_flags(policy="router", head="saved")


def main() -> None:
    """Intervene and print the rescue rates, or route online and print the shares."""
    given, config = flags.FLAGS, cli.frozen_config()
    from fr import distributed
    from fr.pipeline.intervene import intervene
    from fr.pipeline.online import open_router, route_online
    from fr.report.render import render
    from fr.runs.names import check_router
    from fr.runs.run import open_run

    if given.join and given.router is not None:
        raise UserError("--join helps to make attempts/, not to route; leave --router")
    names = [given.router, given.against] if given.router is not None else []
    for name in names:
        check_router(name)
    run = open_run(config, given.workdir, given.redo)
    if given.router is None:
        distributed.print0(render("attempts", intervene(run)))
        return
    routers = [open_router(run, name, given.calibration, given.saved) for name in names]
    distributed.print0(render("online", route_online(run, *routers)))
    distributed.print0(f"\n  online.json and online/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
