"""The whole pipeline: specialist, failures, diagnosis, operators, routing table.

    python scripts/reproduce.py --config=configs/quickstart.py --workdir=/tmp/quickstart

After a kill the same command continues and ends with the same results. It leaves
rollouts/, scores/, attempts/, profiles.csv, routing.json, plots/, summary.json and
report.html in --workdir. It prints what was found; --full prints every table.
"""

from absl import flags
from etils import epath

from fr import cli

cli.define_flags()
flags.DEFINE_bool("full", False, "Print every table.")


def main() -> None:
    """Run every stage and print its report."""
    config, workdir = cli.frozen_config(), epath.Path(flags.FLAGS.workdir)
    from fr import distributed
    from fr.pipeline.diagnose import diagnose
    from fr.pipeline.intervene import intervene
    from fr.pipeline.route import declared_of, route
    from fr.pipeline.sample import sample
    from fr.progress import stage
    from fr.report.page import write_page
    from fr.report.render import render
    from fr.runs.declaration import declare, record
    from fr.runs.run import open_run
    from fr.stats.bootstrap import HEADER
    from fr.training.lineage import train_lineage
    from fr.workdir import write_json

    # ---------------------------------------------------------------- models
    stage(1, 5, "models")
    train_lineage(config, workdir, flags.FLAGS.redo)
    run = open_run(config, workdir)

    # ----------------------------------------------------------- declaration
    profiles = [workdir / "profiles.csv"]
    if distributed.is_first():
        record(workdir, declare(workdir, declared_of(profiles, config), profiles))

    # -------------------------------------------------------------- failures
    stage(2, 5, "rollouts")
    rollouts = sample(run)
    distributed.print0(render("rollouts", rollouts) + "\n")
    stage(3, 5, "scores of failures")
    failures = diagnose(run)
    distributed.print0(render("failures", failures) + "\n")
    stage(4, 5, "attempts of operators")
    attempts = intervene(run)
    distributed.print0(render("attempts", attempts))

    # --------------------------------------------------------------- routing
    if not distributed.is_first():
        return
    stages = {"rollouts": rollouts, "failures": failures, "attempts": attempts}
    compares = len(config.intervention.operators) > 1
    stage(5, 5, "routing" if compares else "no routing: there is one operator")
    if compares:
        stages["routing"] = route(profiles, config, workdir)
        print("\n" + render("routing", stages["routing"], full=flags.FLAGS.full))
    specialist, ancestor = run.names
    names = {
        "specialist": specialist,
        "ancestor": ancestor,
        "task": config.task.name,
        "seed": config.seed,
    }
    write_json(workdir / "summary.json", {**HEADER, **names, **stages})
    left = "summary.json, profiles.csv, rollouts/"
    if compares:
        write_page(workdir, config)
        left = f"report.html, routing.json, plots/, {left}"
    print(f"\n  {left}, attempts/ are in {workdir}")


if __name__ == "__main__":
    cli.run(main)
