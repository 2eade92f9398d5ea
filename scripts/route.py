r"""Routing from problem-level profiles: labels, routers, baselines, intervals.

    python scripts/route.py --profiles=a.csv,b.csv --workdir=/tmp/route

Needs no model. Without --profiles it reads the profiles.csv that diagnose and intervene
left in --workdir. The verdict, what there is to route and what it costs are printed;
--full prints every table, and report.html has them folded. With --nolearned nothing is
trained. With --declare what will be compared is written down, hashed and dated, and
nothing is read: the same command without it says whether that was before the outcomes.

The routers of an earlier run are judged on other failures, as they are, with

    python scripts/route.py --profiles=grpo.csv --frozen=/tmp/sft \
        --workdir=/tmp/transfer
"""

from absl import flags
from etils import epath

from fr import cli
from fr.config import Config

cli.define_flags(model=False)
flags.DEFINE_list("profiles", None, "Profile tables (CSV); default: of --workdir.")
flags.DEFINE_list(
    "without", [], "Operators to leave out, such as those that are told truth."
)
flags.DEFINE_bool("learned", True, "Train the learned routers and judge them too.")
flags.DEFINE_bool(
    "declare", False, "Write declaration.json and stop, without profiles."
)
flags.DEFINE_bool("full", False, "Print every table.")
flags.DEFINE_string(
    "frozen", None, "The --workdir of a run whose routers are judged here."
)
cli.rename_flags(head="learned")


def main() -> None:
    """Evaluate, write, print."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    config = cli.frozen_config() if given.config else Config()
    from fr.layout.text import to_text
    from fr.pipeline.route import declared_of, route
    from fr.report.page import write_page
    from fr.report.render import render
    from fr.runs.declaration import declare, record, restore

    files = given.profiles or [epath.Path(given.workdir) / "profiles.csv"]
    if given.declare:
        content = declared_of(files, config, given.learned, given.without, given.frozen)
        declaration = declare(given.workdir, content, files)
        record(given.workdir, declaration)
        print(declaration)
        return
    where = given.workdir, given.learned, given.without, given.frozen
    found = route(files, config, *where)
    print(render("routing", found, full=given.full))
    print(to_text(["", f"  {restore(given.workdir)}"]))
    write_page(given.workdir, config)
    print(f"  report.html, routing.json and plots/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
