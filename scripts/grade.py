"""Grade the stored attempts of a run again with today's graders, and show what changes; nothing is sampled.

    python scripts/grade.py --workdir=/tmp/run
    python scripts/grade.py --workdir=/tmp/run --write

Reads every folder of attempts in --workdir (rollouts/, attempts/, evaluation/, ...), in which the question, the
reference and the text are kept, so that neither the model nor the file of questions is needed. With --write each
shard whose grades differ is replaced whole, and its old grades stay in the columns earlier_grade and
earlier_grader; the files that were made of the old grades are listed with the script that makes them again.
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
