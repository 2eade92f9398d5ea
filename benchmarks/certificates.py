r"""Verdicts of certificates where the truth is known: nulls, planted lifts and leaks.

    python -m benchmarks.certificates --out=docs/results/data/certificates.json \
        [--tables=10000] [--jobs=2]

landscapes.py simulates the tables. `--tables` is the number of tables without a lift;
tables with a planted lift or leak are a hundredth of it each. Verdicts are written to
OUT.lines as they come, so a killed run goes on.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.landscapes import Landscape, reader, simulate  # noqa: E402
from benchmarks.routing_power import LIFTS, effect_of  # noqa: E402
from fr.comparison.verdict import VERDICTS, verdict_of  # noqa: E402
from fr.config import Config  # noqa: E402
from fr.profiles import Profiles  # noqa: E402
from fr.routing.columns import register_column  # noqa: E402
from fr.routing.dataset import RoutingData  # noqa: E402

SMALLEST = 3.0  # points
# Shares of the tables without a lift, by landscapes of `LIFTS`.
NULLS = {
    "no lift": 0.4,
    "no lift, operators differ": 0.2,
    "no lift, 60 problems": 0.2,
    "told but no lift: worse operators differ": 0.1,
    "told but no lift: another is as good": 0.1,
}
_BASE = Landscape(pair_sd=0.3)
_RETRY = 0  # any operator serves
# What a leaking column holds: (profiles, random stream) -> [N].
COLUMNS: dict[str, Callable] = {
    "the best operator's index": lambda p, _: p.rates.argmax(axis=1),
    "an operator's rate": lambda p, _: p.rates[:, _RETRY],
    "an operator's rate, noise of sd 0.1": lambda p, rng: (
        p.rates[:, _RETRY] + rng.normal(0, 0.1, len(p))
    ),
    "the best rate less retry's": lambda p, _: p.rates.max(axis=1) - p.rates[:, _RETRY],
    "steerable, yes or no": lambda p, _: (
        p.rates.max(axis=1) > p.rates[:, _RETRY] + 0.05
    ),
}
# Routes: (simulated table, random stream) -> [N].
ROUTES: dict[str, tuple[float, Callable]] = {
    "routes at random": (0.0, lambda s, rng: rng.integers(5, size=len(s.rates))),
    "routes by a reader, lift 6": (6.0, lambda s, _: reader(s)),
    "routes by the true rates": (6.0, lambda s, _: s.rates.argmax(axis=1)),
    "routes by the attempts (leak)": (0.0, lambda s, _: s.profiles.rates.argmax(1)),
}
_LEAK = "column_of_a_leak"
register_column(_LEAK, "signal", "given")(lambda p: p.numbers(_LEAK, gaps=True))


def verdict(task: tuple[Landscape, str, str, int]) -> tuple[str, float | None]:
    """The verdict on one simulated table.

    Args:
        task: landscape, name of COLUMNS or "", name of ROUTES or "", seed.

    Returns:
        The verdict, and the lift that is left.
    """
    landscape, column, routes, seed = task
    rng = np.random.default_rng([seed, 17])
    made = simulate(landscape, rng)
    profiles: Profiles = made.profiles
    if column:
        held = np.asarray(COLUMNS[column](profiles, rng), float)
        extras = {**profiles.extras, _LEAK: tuple(map(str, held))}
        profiles = dataclasses.replace(profiles, extras=extras)
    chosen = ROUTES[routes][1](made, rng) if routes else None
    data = RoutingData.build([profiles], Config(seed=seed), compared=False)
    # Without the headroom, which takes no part in "lift" and "leaked".
    found = verdict_of(data, [None], SMALLEST, chosen)
    return found["verdict"], found["left"]


def landscapes(tables: int) -> dict[str, tuple[Landscape, str, str, int]]:
    """List what is simulated.

    Args:
        tables: number of tables without a lift.

    Returns:
        Landscape, column, routes and number of tables, by name.
    """
    few = max(2, tables // 100)
    found = {}
    for name, (landscape, lift, _) in LIFTS.items():
        count = max(2, round(tables * NULLS[name])) if name in NULLS else few
        if lift is not None:
            effect = effect_of(landscape, lift)
            landscape = dataclasses.replace(landscape, effect=effect)
        found[name] = (landscape, "", "", count)
    for name in COLUMNS:
        found[f"column: {name} (leak)"] = (_BASE, name, "", few)
    for name, (lift, _) in ROUTES.items():
        landscape = dataclasses.replace(_BASE, blur=0.3)
        effect = effect_of(landscape, lift)
        found[name] = (dataclasses.replace(landscape, effect=effect), "", name, few)
    return found


def main() -> None:
    """Simulate, write each verdict, then count them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    path = pathlib.Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.with_suffix(path.suffix + ".lines")
    known = {(name, seed): row for name, seed, *row in _whole(lines)}
    wanted = landscapes(given.tables)
    todo = [
        (name, (*made, seed))
        for name, (*made, count) in wanted.items()
        for seed in range(count)
        if (name, seed) not in known
    ]
    bar = tqdm(total=len(known) + len(todo), initial=len(known), unit=" tables")
    with multiprocessing.get_context("fork").Pool(given.jobs) as workers, bar:
        rows = workers.imap(verdict, [task for _, task in todo], 4)
        with lines.open("a") as file:
            for (name, (*_, seed)), row in zip(todo, rows):
                known[name, seed] = list(row)
                file.write(json.dumps([name, seed, *row]) + "\n")
                file.flush()
                bar.update()
    found = {
        name: _counted([known[name, seed] for seed in range(count)])
        for name, (*_, count) in wanted.items()
    }
    report = {"smallest": SMALLEST, "landscapes": found}
    path.write_text(json.dumps(report, indent=1) + "\n")


def _whole(path: pathlib.Path) -> list[list]:
    """Lines of a file; a line that a kill cut off is taken out."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _counted(rows: list[list]) -> dict:
    counts = collections.Counter(kind for kind, _ in rows)
    left = [value for _, value in rows if value is not None]
    return {
        "tables": len(rows),
        **{kind: counts[kind] for kind in VERDICTS},
        "left": round(float(np.median(left)), 2) if left else None,
    }


if __name__ == "__main__":
    main()
