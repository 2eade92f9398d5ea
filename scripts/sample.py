"""Sample rollouts of a task by a model, grade and store them.

    python scripts/sample.py --config=configs/smollm2.py --workdir=/tmp/smollm2

Writes rollouts/*.parquet to --workdir.
"""

from absl import flags

from fr import cli

cli.define_flags(join=True)


def main() -> None:
    """Sample and print the counts."""
    config = cli.frozen_config()
    # Here, as in every script, so that --help and bad flags do not wait for jax.
    from fr import distributed
    from fr.pipeline.sample import sample
    from fr.report.render import render
    from fr.runs.run import open_run

    run = open_run(config, flags.FLAGS.workdir, flags.FLAGS.redo)
    distributed.print0(render("rollouts", sample(run)))


if __name__ == "__main__":
    cli.run(main)
