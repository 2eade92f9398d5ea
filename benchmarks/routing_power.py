r"""Error rates of routing's claims where the truth is known: false positives and power.

    python -m benchmarks.routing_power --out=docs/results/data/routing_power.json \
        [--tables=1000] [--jobs=2]

landscapes.py simulates the tables: problems of varied difficulty, five operators, ten
attempts, and features of which the largest names the better operator. A *reader* knows
that rule and sees the same features; its lift over the best fixed operator is planted.
`--tables` scales all numbers of tables.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from benchmarks.landscapes import Landscape, reader, simulate  # noqa: E402
from fr.comparison.certify import certify  # noqa: E402
from fr.config import Config  # noqa: E402
from fr.routing.dataset import RoutingData  # noqa: E402
from fr.routing.policies import posterior_policies  # noqa: E402
from fr.stats.interaction import interaction  # noqa: E402

SPREAD = (-2.0, -1.0, 0.0, -0.5, -1.0)
# What the test of an interaction is asked: no interaction, then more and more of it.
INTERACTIONS = {
    "none, 200 problems": (Landscape(), 1.0),
    "none, operators differ": (Landscape(operators=SPREAD), 0.5),
    "none, 120 problems, 5 attempts, harder": (
        Landscape(problems=120, attempts=5, problem_sd=2.5),
        0.5,
    ),
    **{f"sd {sd}": (Landscape(pair_sd=sd), 0.06) for sd in (0.2, 0.3, 0.4, 0.6, 1.0)},
    **{
        f"sd 0.4, {n} problems": (Landscape(problems=n, pair_sd=0.4), 0.06)
        for n in (60, 400)
    },
}
# Differences between the operators that no feature tells, in all of these: a perfect
# router would have a headroom.
_BASE = Landscape(pair_sd=0.3)
_FAINT = dataclasses.replace(_BASE, blur=2.5)
_CLEAR = dataclasses.replace(_BASE, blur=0.3)
# Features say which of the worse operators is the least bad, and nothing of the two
# that are best.
_WORSE = dataclasses.replace(_CLEAR, operators=(0.0, -2.0, 0.0, -2.0, -2.0), effect=1.0)
# Features say which operator is as good as those two.
_AS_GOOD = dataclasses.replace(
    _CLEAR, operators=(-0.5, -1.5, -0.5, -1.5, -1.5), effect=1.0
)
# Landscape, a reader's lift (None: the landscape has its effect, and no choice by the
# features has a lift), share.
LIFTS = {
    "no lift": (_CLEAR, 0.0, 0.16),
    "no lift, operators differ": (
        dataclasses.replace(_CLEAR, operators=SPREAD),
        0.0,
        0.08,
    ),
    "no lift, 60 problems": (dataclasses.replace(_CLEAR, problems=60), 0.0, 0.1),
    "told but no lift: worse operators differ": (_WORSE, None, 0.16),
    "told but no lift: another is as good": (_AS_GOOD, None, 0.16),
    "faint features, a reader's lift of 6": (_FAINT, 6.0, 0.1),
    "faint features, a reader's lift of 6, 400 problems": (
        dataclasses.replace(_FAINT, problems=400),
        6.0,
        0.03,
    ),
    "clearer features, a reader's lift of 6": (
        dataclasses.replace(_BASE, blur=1.5),
        6.0,
        0.03,
    ),
    "clear features, a reader's lift of 3": (_CLEAR, 3.0, 0.03),
    "clear features, a reader's lift of 6": (_CLEAR, 6.0, 0.03),
}


class _Streams(RoutingData):
    """Routing data with the random streams of the stored results.

    A table of this study has one cell; its streams are named by their purpose alone.
    """

    def stream(self, purpose: str, cell: str = "") -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


def effect_of(landscape: Landscape, lift: float, problems: int = 100_000) -> float:
    """Find the effect that gives a reader a lift, by bisection.

    Args:
        landscape: settings of the table.
        lift: of the reader, in points.
        problems: of the simulated table.

    Returns:
        The effect, in logits.
    """
    low, high = 0.0, 6.0 if lift else 0.0
    for _ in range(14):
        middle = (low + high) / 2
        large = dataclasses.replace(landscape, effect=middle, problems=problems)
        found = simulate(large, np.random.default_rng(9))
        low, high = (
            (middle, high) if 100 * found.lift(reader(found)) < lift else (low, middle)
        )
    return round((low + high) / 2, 3)


def _one_interaction(
    landscape: Landscape, seed: int, draws: int = 199
) -> tuple[float, bool]:
    """p, and whether the headroom's interval holds the headroom of the true rates."""
    rng = np.random.default_rng([seed, 1])
    found = simulate(landscape, rng)
    correct = np.round(found.profiles.rates * found.profiles.attempts).astype(int)
    told = interaction(
        correct, found.profiles.attempts, draws, rng, headroom=seed % 10 == 0
    )
    truth = found.rates.max(axis=1).mean() - found.rates.mean(axis=0).max()
    # where nothing differs, all are 0
    low, high = (told.headroom.low - 1e-9, told.headroom.high + 1e-9)
    return told.p, (low <= truth <= high) if seed % 10 == 0 else np.nan


def one_lift(landscape: Landscape, seed: int) -> dict[str, float]:
    """Certify one simulated table by the router in closed form.

    Args:
        landscape: settings of the table.
        seed: of the random stream.

    Returns:
        The estimated lift, and 0/1 indicators of each claim.
    """
    found = simulate(landscape, np.random.default_rng([seed, 60]))
    data = _Streams.build([found.profiles], Config(seed=seed), compared=False)
    told = certify(posterior_policies()[:1], data)[0]
    interval, every = told["interval"], told["every"]
    known = interval["low"] is not None
    return {
        "lift": interval["value"],
        "found": known and interval["low"] > 0,
        "told": told["columns_p"] <= 0.05,
        "certified": told["certified"],
        # at 5 %, as `every`
        "one_sided": known and interval["value"] > 0 and told["p"] <= 0.1,
        "lost": known and interval["high"] < 0,
        "every": every is not None and every["p"] <= 0.05,
        "kept": told["kept"] / told["folds"],
    }


def study(tables: int, jobs: int, keep, parts=("interaction", "lift")) -> dict:
    """Measure all landscapes.

    Args:
        tables: number of tables, scaled by each landscape's share.
        jobs: worker processes.
        keep: function that gets the report after each landscape.
        parts: `interaction`, `lift` or both.

    Returns:
        Shares of tables by part and landscape.
    """
    report = {part: {} for part in parts}
    with multiprocessing.get_context("fork").Pool(jobs) as workers:
        for name, (landscape, share) in (
            INTERACTIONS.items() if "interaction" in parts else ()
        ):
            count = max(2, round(tables * share))
            p, held = np.array(
                workers.starmap(
                    _one_interaction, [(landscape, s) for s in range(count)], 8
                )
            ).T
            found = {"tables": count, "found": float((p <= 0.05).mean())}
            if landscape.pair_sd:  # else all headrooms are 0
                covered = held[~np.isnan(held)]
                found |= {"covered": float(covered.mean()), "covered_of": len(covered)}
            report["interaction"][name] = found
            print(name, found, flush=True)
            keep(report)
        for name, (landscape, lift, share) in LIFTS.items() if "lift" in parts else ():
            count = max(2, round(tables * share))
            if lift is not None:
                landscape = dataclasses.replace(
                    landscape, effect=effect_of(landscape, lift)
                )
            rows = workers.starmap(one_lift, [(landscape, s) for s in range(count)], 4)
            means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            report["lift"][name] = {
                "tables": count,
                "effect": landscape.effect,
                **means,
            }
            print(name, report["lift"][name], flush=True)
            keep(report)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("interaction", "lift"),
        default=("interaction", "lift"),
    )
    given = parser.parse_args()
    path = pathlib.Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = lambda report: path.write_text(json.dumps(report, indent=1) + "\n")
    study(given.tables, given.jobs, keep, given.parts)
