r"""Planted causes: each arm of config.study is a defect that its specialists have
learned.

    python -m benchmarks.planted --config=configs/planted.py --workdir=runs/planted \
        --jobs=2

One lineage per cause and seed: scripts/reproduce.py in WORKDIR/CAUSE/seed-N trains,
samples, diagnoses and intervenes; log.txt holds its output. The failures of all causes
make one cell per seed. Each cause has its own specialist there, so the baseline of a
router is the best operator of each specialist, which reads no failure (column `model`);
leaving a cell out leaves out one training run of every cause. Killed at any moment, the
same command continues. Writes profiles.csv, profiles-K.csv of the first K failures
alone (config.diagnosis.failures), causes.json, routing.json, plots/, router/ and
report.html to --workdir.
"""

import functools
import pathlib

from absl import flags
from etils import epath

from fr import children, cli
from fr.config import Config
from fr.errors import UserError
from fr.workdir import write_json

cli.define_flags()
flags.DEFINE_integer("jobs", 1, "Lineages that are made at one time.", lower_bound=1)
flags.DEFINE_bool("learned", True, "Train the learned routers and judge them too.")
cli.rename_flags(head="learned")

REPRODUCE = pathlib.Path(__file__).parents[1] / "scripts" / "reproduce.py"


def main() -> None:
    """Make the missing lineages, then tell causes apart and route.

    Raises:
        UserError: without arms in the config.
    """
    config, given = cli.frozen_config(), flags.FLAGS
    if not config.study.arms:
        raise UserError(
            "config.study.arms is empty: name the causes and what their specialists "
            "learn from"
        )
    from benchmarks.cause_tables import cause_tables
    from benchmarks.planted_causes import as_runs, gather, summarise_causes, told_early
    from fr.evaluation.method_audit import audit
    from fr.evaluation.study import claim_study
    from fr.layout.tables import Section
    from fr.layout.text import to_text
    from fr.pipeline.profile_tables import table_name
    from fr.pipeline.route import route
    from fr.profiles import write_profiles
    from fr.report.page import write_page
    from fr.report.render import render

    workdir = epath.Path(given.workdir)
    claim_study(config, workdir)
    lineages = [
        (cause, seed) for seed in config.study.seeds for cause, _ in config.study.arms
    ]
    jobs = {
        which: functools.partial(_make_lineage, config, workdir, *which)
        for which in lineages
    }
    children.run_jobs(jobs, given.jobs, "lineage")

    # ---------------------------------------------------------------- causes
    cells = gather(config, workdir)
    write_profiles(workdir / "profiles.csv", cells)
    causes = summarise_causes(cells, config) | {
        "audit": audit(as_runs(config, workdir), config),
        "early": [],
    }
    for first in config.diagnosis.failures:
        if early := gather(config, workdir, table_name(first)):
            write_profiles(workdir / table_name(first), early)
            causes["early"].append({"failures": first, **told_early(early, config)})
    write_json(workdir / "causes.json", causes)
    print(to_text(cause_tables(causes)), end="\n\n", flush=True)

    # --------------------------------------------------------------- routing
    routing = route([workdir / "profiles.csv"], config, workdir, given.learned)
    print(render("routing", routing))
    found = Section("Exploratory: planted causes", cause_tables(causes))
    write_page(workdir, config, [found])
    print(
        "\n  report.html, causes.json, routing.json, plots/ and the lineages are in "
        f"{workdir}"
    )


def _make_lineage(config: Config, workdir: epath.Path, cause: str, seed: int) -> None:
    """Make one lineage in its own folder unless it is finished."""
    from fr.evaluation.study import arm_folder

    folder = arm_folder(workdir, cause, seed)
    if not (folder / "summary.json").exists():
        changes = {**dict(dict(config.study.arms)[cause]), "seed": str(seed)}
        settings = [f"--config.{name}={value}" for name, value in changes.items()]
        children.run_script(REPRODUCE, [*settings, f"--workdir={folder}"], folder)


if __name__ == "__main__":
    cli.run(main)
