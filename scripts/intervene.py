"""Attempts of every operator on the failed problems in --workdir: `attempts/*.parquet`, `profiles.csv`.

python scripts/intervene.py --config=configs/smollm2.py --workdir=/tmp/smollm2
"""

from absl import flags

from fr import cli, processes
from fr.pipeline.intervene import intervene
from fr.pipeline.run import open_run
from fr.report.stages import render_attempts

cli.define_flags()


def main() -> None:
    """Intervene and print the rescue rates."""
    run = open_run(cli.frozen_config(), flags.FLAGS.workdir)
    processes.say(render_attempts(intervene(run)))


if __name__ == "__main__":
    cli.run(main)
