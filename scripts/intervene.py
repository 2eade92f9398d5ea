"""Attempts of every operator on the failed problems in --workdir: `attempts/*.parquet`, `profiles.csv`.

    python scripts/intervene.py --config=configs/smollm2.py --workdir=/tmp/smollm2

With --policy the problems are sampled afresh and routed while that goes on: after `intervention.after` failures the
rest of a problem's budget goes where the policy sends it: to one operator, or by a schedule to one after the other
(scripts/route.py leaves both). Leaves `online/` and online.json, with retry, or what --against names, beside it.

    python scripts/intervene.py --config=configs/quickstart.py --workdir=/tmp/online --config.task.split=validation \
        --model=/tmp/quickstart/specialist --policy=rule --calibration=/tmp/quickstart/profiles.csv
"""

from absl import flags

from fr import cli

cli.define_flags()
flags.DEFINE_string(
    "policy", None, "Route online: rule, head, schedule, one_order or fixed:NAME."
)
flags.DEFINE_string(
    "calibration",
    None,
    "Its z-statistics: a profiles.csv; that of --workdir unless given.",
)
flags.DEFINE_string(
    "head", None, "A saved head; head/ or schedule/ of --workdir unless given."
)
flags.DEFINE_string("against", "fixed:retry", "The policy that it is held against.")


def main() -> None:
    """Intervene and print the rescue rates, or route online and print what that bought."""
    given, config = flags.FLAGS, cli.frozen_config()
    from fr import distributed
    from fr.pipeline.intervene import intervene
    from fr.pipeline.spending import open_router, route_online
    from fr.report.render import render
    from fr.runs.names import check_policy
    from fr.runs.run import open_run

    for name in [given.policy, given.against] if given.policy is not None else []:
        check_policy(name)
    run = open_run(config, given.workdir, given.redo)
    if given.policy is None:
        distributed.print0(render("attempts", intervene(run)))
        return
    routers = [
        open_router(run, name, given.calibration, given.head)
        for name in (given.policy, given.against)
    ]
    distributed.print0(render("online", route_online(run, *routers)))
    distributed.print0(f"\n  online.json and online/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
