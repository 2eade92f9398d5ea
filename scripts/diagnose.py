"""Score the failed rollouts of --workdir and compute problem-level features.

    python scripts/diagnose.py --config=configs/smollm2.py --workdir=/tmp/smollm2

Writes scores/ and profiles.csv to --workdir.
"""

from absl import flags

from fr import cli

cli.define_flags(join=True)


def main() -> None:
    """Score and say how much."""
    config = cli.frozen_config()
    from fr import distributed
    from fr.pipeline.diagnose import diagnose
    from fr.report.render import render
    from fr.runs.run import open_run

    run = open_run(config, flags.FLAGS.workdir, flags.FLAGS.redo)
    distributed.print0(render("failures", diagnose(run)))


if __name__ == "__main__":
    cli.run(main)
