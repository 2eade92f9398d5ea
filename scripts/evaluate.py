"""Measure a model: accuracy, pass@k, calibration, and whether its confidence comes before its reasoning.

    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/before --model=countdown
    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/after --model=/tmp/run/specialist \
        --against=/tmp/before

Killed at any moment, the same command goes on where it was. `--config.evaluation.sampled=True` samples answers
behind the cuts too, as the papers do, and compares. Leaves evaluation/ and evaluation.json in --workdir.
"""

from absl import flags

from fr import cli

cli.define_flags()
flags.DEFINE_string(
    "against",
    None,
    "The --workdir of another evaluation: differences are paired by problem.",
)


def main() -> None:
    """Evaluate, print and write."""
    given, config = flags.FLAGS, cli.frozen_config()
    from fr import distributed
    from fr.evaluation.accuracy import evaluate
    from fr.report.render import render
    from fr.runs.run import open_run

    run = open_run(config, given.workdir, given.redo)
    distributed.print0(render("evaluation", evaluate(run, given.against)))
    distributed.print0(f"\n  evaluation.json and evaluation/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
