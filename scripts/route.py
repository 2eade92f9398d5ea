"""Labels, the training-free rule, the learned head, their baselines and intervals, from problem-level profiles;
needs no model.

    python scripts/route.py --profiles=a.csv,b.csv --workdir=/tmp/route

Without --profiles it reads the profiles.csv that diagnose and intervene left in --workdir. With --nohead nothing
is trained.
"""

from absl import flags
from etils import epath

from fr import cli
from fr.config import Config
from fr.pipeline.route import route

cli.define_flags(model=False)
flags.DEFINE_list("profiles", None, "Profile tables (CSV); default: profiles.csv of --workdir.")
flags.DEFINE_list("without", [], "Operators to leave out, such as those that use truth from outside.")
flags.DEFINE_bool("head", True, "Train the learned heads and judge them too.")


def main() -> None:
    """Evaluate, write, print."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    config = cli.frozen_config() if given.config else Config()
    files = given.profiles or [epath.Path(given.workdir) / "profiles.csv"]
    announce = lambda text: print(text, end="\n\n", flush=True)
    result = route(files, config, given.workdir, given.head, announce, given.without)
    print("\n\n".join(result["tables"]))
    print(f"\n  routing.json and plots/ are in {given.workdir}")


if __name__ == "__main__":
    cli.run(main)
