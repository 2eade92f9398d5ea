"""Branch failed traces at their cuts with every operator: what rescues, and from where.

    python scripts/atlas.py --config=configs/countdown_atlas.py --workdir=/tmp/atlas

Samples and scores first where --workdir has no failures yet. The cost is printed before
it is paid; after a kill the same command continues. Writes branches/, atlas.json and
atlas_profiles.csv, a table of (operator, place) that scripts/route.py and
scripts/certify.py read as any other.
"""

from absl import flags

from fr import cli

cli.define_flags()


def main() -> None:
    """Make the branches and print what they say."""
    config = cli.frozen_config()
    from fr import distributed
    from fr.atlas.stage import atlas
    from fr.pipeline.diagnose import diagnose
    from fr.pipeline.sample import sample
    from fr.report.render import render
    from fr.runs.run import open_run
    from fr.training.lineage import train_lineage

    workdir = flags.FLAGS.workdir
    train_lineage(config, workdir, flags.FLAGS.redo)
    run = open_run(config, workdir)
    sample(run)
    diagnose(run)
    distributed.print0(render("atlas", atlas(run)))
    distributed.print0(
        f"\n  atlas.json, atlas_profiles.csv and branches/ are in {workdir}"
    )


if __name__ == "__main__":
    cli.run(main)
