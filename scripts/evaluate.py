r"""Measure a model: accuracy, pass@k, calibration, and how early its confidence comes.

    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/before \
        --model=countdown
    python scripts/evaluate.py --config=configs/quickstart.py --workdir=/tmp/after \
        --model=/tmp/run/specialist --against=/tmp/before

Killed at any moment, the same command continues. `--config.evaluation.sampled=True`
also samples answers after each cut, as the papers do, and compares. Writes evaluation/
and evaluation.json to --workdir.
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
    from fr.evaluation.accuracy import check_evaluation, evaluate
    from fr.report.render import render
    from fr.runs.run import open_run

    check_evaluation(config)
    run = open_run(config, given.workdir, given.redo)
    distributed.print0(render("evaluation", evaluate(run, given.against)))
    distributed.print0(f"\n  evaluation.json and evaluation/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
