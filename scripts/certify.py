r"""A certificate of any profile table: one verdict on the lift of a router.

    python scripts/certify.py --profiles=a.csv,b.csv --workdir=runs/certified

Reads tables of this project, the released ones, and others with the columns cell,
problem_id, n_failed_rollouts, retry, and for each further operator X its rescue rate X
and its attempts X_n. Every other column of numbers is read as a signal. With --routes
the choices of a router from elsewhere are judged in place of the router in closed form:
a CSV with cell, problem_id, and either operator or rate (the share of its own attempts
that were right).

The verdict is the exit code: 0 lift, 1 none beyond x points, 3 too little data to tell,
4 leaked; 2 is bad input, 70 a fault of the script. With --declare what will be compared
is written down, hashed and dated, and no outcome is read.
"""

import math
import sys
import traceback

from absl import flags
from etils import epath

from fr import cli
from fr.comparison.verdict import SMALLEST, declared_of
from fr.config import Config
from fr.errors import UserError

_FAULT = 70  # exit code of an error of the script: Python's own, 1, is a verdict

cli.define_flags(model=False, modules=False)
flags.DEFINE_list("profiles", None, "Profile tables (CSV); default: of --workdir.")
flags.DEFINE_string("routes", None, "A router's choices or outcomes (CSV).")
flags.DEFINE_float(
    "smallest", SMALLEST, "The smallest lift that matters, in points.", lower_bound=0.0
)
flags.DEFINE_list("without", [], "Operators to leave out.")
flags.DEFINE_bool("declare", False, "Write declaration.json and stop.")


def main() -> None:
    """Judge, write, print; the exit code is the verdict."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    if not math.isfinite(given.smallest):
        raise UserError(f"--smallest={given.smallest} is not a number of points")
    config = cli.frozen_config() if given.config else Config()
    from fr.pipeline.certificate import certify_table
    from fr.report.render import render
    from fr.runs.declaration import declare, record

    files = given.profiles or [epath.Path(given.workdir) / "profiles.csv"]
    asked = given.smallest, given.routes, given.without
    if given.declare:
        declaration = declare(given.workdir, declared_of(files, config, *asked), files)
        record(given.workdir, declaration)
        print(declaration)
        return
    found = certify_table(files, config, given.workdir, *asked)
    print(render("certificate", found))
    print(f"\n  certificate.json is in {given.workdir}")
    sys.exit(found["exit"])


if __name__ == "__main__":
    try:
        cli.run(main)
    except Exception:
        traceback.print_exc()
        sys.exit(_FAULT)
