"""Grade the stored attempts of a run again with today's graders and show what changes.

    python scripts/grade.py --workdir=/tmp/run
    python scripts/grade.py --workdir=/tmp/run --write

Reads every folder of attempts in --workdir (rollouts/, attempts/, evaluation/, ...).
They hold question, reference and text, so neither the model nor the file of questions
is needed, and no token is sampled. With --write each shard with changed grades is
replaced whole; the old grades stay in the columns earlier_grade and earlier_grader.
Files made from the old grades are listed, each with the script that makes it again.
"""

from absl import flags

from fr import cli
from fr.evaluation.regrade import regrade
from fr.report.render import render

cli.define_flags(model=False)
flags.DEFINE_bool(
    "write", False, "Replace the grades in the shards; else nothing is changed."
)


def main() -> None:
    """Grade, print and, if asked to, write."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    print(render("grades", regrade(given.workdir, given.write)))


if __name__ == "__main__":
    cli.run(main)
