"""Labels, the training-free rule, the learned head, their baselines and intervals, from problem-level profiles;
needs no model.

    python scripts/route.py --profiles=a.csv,b.csv --workdir=/tmp/route

Without --profiles it reads the profiles.csv that diagnose and intervene left in --workdir. With --nohead nothing
is trained. With --declare what will be compared is written down, hashed and dated, and nothing is read: the same
command without it says whether that was before the outcomes.

What an earlier run has learned is judged on other failures, as it is, with

    python scripts/route.py --profiles=grpo.csv --frozen=/tmp/route_sft --workdir=/tmp/sft_to_grpo
"""

from absl import flags
from etils import epath

from fr import cli
from fr.config import Config

cli.define_flags(model=False)
flags.DEFINE_list(
    "profiles", None, "Profile tables (CSV); default: profiles.csv of --workdir."
)
flags.DEFINE_list(
    "without", [], "Operators to leave out, such as those that use truth from outside."
)
flags.DEFINE_bool("head", True, "Train the learned heads and judge them too.")
flags.DEFINE_bool(
    "declare", False, "Write declaration.json and stop: before the profiles are there."
)
flags.DEFINE_string(
    "frozen", None, "The --workdir of another run, whose head and rule are judged here."
)


def main() -> None:
    """Evaluate, write, print."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    config = cli.frozen_config() if given.config else Config()
    from fr.pipeline.route import declared_of, route
    from fr.report.page import write_page
    from fr.runs.declaration import declare, record

    files = given.profiles or [epath.Path(given.workdir) / "profiles.csv"]
    if given.declare:
        content = declared_of(files, config, given.head, given.without, given.frozen)
        declaration = declare(given.workdir, content, files)
        record(given.workdir, declaration)
        print(declaration)
        return
    announce = lambda text: print(text, end="\n\n", flush=True)
    result = route(
        files, config, given.workdir, given.head, announce, given.without, given.frozen
    )
    print("\n\n".join(result["tables"]))
    write_page(given.workdir, config)
    print(f"\n  report.html, routing.json and plots/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
