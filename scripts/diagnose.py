"""Token scores of the failed rollouts in --workdir, and the problem-level features: `scores/`, `profiles.csv`.

    python scripts/diagnose.py --config=configs/smollm2.py --workdir=/tmp/smollm2
"""

from absl import flags

from fr import cli
from fr.pipeline.diagnose import diagnose
from fr.pipeline.run import open_run

cli.define_flags()


def main() -> None:
    """Score and say how much."""
    run = open_run(cli.frozen_config(), flags.FLAGS.workdir)
    done = diagnose(run)
    print(f"  {done['failed_rollouts']} failed rollouts of {done['failed_problems']} problems scored; see profiles.csv")


if __name__ == "__main__":
    cli.run(main)
