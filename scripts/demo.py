"""A look at what fr finds, in seconds: a verdict, a routing table, one failed trace.

    python scripts/demo.py

Reads a run that the package holds (fr/assets/demo, cut from configs/quickstart.py) and
judges it again, with fewer resamples than scripts/route.py. Needs neither a model nor
jax and writes nothing. The trace is coloured where the output is a terminal;
NO_COLOR=1 turns that off.
"""

import sys
from pathlib import Path

import fr
from fr import cli

RUN = Path(fr.__file__).parent / "assets" / "demo"
FAILURE = "countdown-3-5-8-to-23/rollout/2"
SAID = "it says yes to 19, and 23 was asked."
LEFT_OUT = ("sparse_steer_random", "local_temp")  # operators, to save seconds


def main() -> None:
    """Judge the table, print the result and the trace."""
    from threadpoolctl import threadpool_limits

    from fr.comparison.brief import summarise_briefly
    from fr.comparison.verdict import SMALLEST
    from fr.config import Config, RoutingConfig
    from fr.layout.text import to_text
    from fr.profiles import read_cells
    from fr.report.findings import findings
    from fr.routing.dataset import RoutingData

    few = RoutingConfig(
        bootstrap=300, splits=20, permutations=20, nulls=99, posterior=20, splittings=2
    )
    with threadpool_limits(1):  # small arrays: more threads would only wait
        cells = read_cells([RUN / "profiles.csv"], LEFT_OUT)
        data = RoutingData.build(cells, Config(routing=few))
        found, _, costs, _ = findings(summarise_briefly(data, SMALLEST))
    print(to_text([found, costs]))
    print(f"\n── One failure\n\n{one_failure(cells[0])}")
    print(
        "\n  next: scripts/reproduce.py --config=configs/quickstart.py "
        "--workdir=runs/quickstart"
    )


def one_failure(profiles) -> str:
    """A failed trace, coloured by entropy, and the operators' rates at its problem."""
    from fr import store
    from fr.layout.coloured import shows_colours, to_coloured
    from fr.layout.text import to_text
    from fr.viewer.one_failure import failure_blocks
    from fr.viewer.pieces import Pieces

    (failed,) = (one for one in store.read(RUN) if one.row == FAILURE)
    pieces, _ = Pieces(RUN.parent).split(RUN.name, failed.tokens)
    i = profiles.problems.index(failed.problem)
    counts = zip(profiles.successes[i].tolist(), profiles.tried[i].tolist())
    tried = dict(zip(profiles.operators, counts))
    head, passage, told = failure_blocks(failed, pieces, tried, SAID)
    coloured = to_coloured(passage, shows_colours(sys.stdout))
    return "\n\n".join([to_text([f"  {head}"]), coloured, to_text([f"  {told}"])])


if __name__ == "__main__":
    cli.run(main)
