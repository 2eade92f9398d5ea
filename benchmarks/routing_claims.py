r"""Figures of docs/results/routing.md: prices, populations, baselines, planted causes.

    python -m benchmarks.routing_claims --config=configs/planted.py \
        --run=runs/planted --workdir=runs/claims

Reads the finished lineages of --run (made by benchmarks/planted.py) and writes their
tables, completed from the stored attempts, and claims.json to --workdir. The run itself
is left alone. --parts selects the measurements: prices, population, attempt, orders.
"""

import dataclasses
import json
import math
import time

import numpy as np
from absl import flags
from etils import epath

from benchmarks.planted_causes import gather
from benchmarks.retrofit import retrofit
from fr import cli
from fr.config import Config
from fr.pipeline.profile_tables import table_name
from fr.routing.cells import describe_cell
from fr.routing.fixed import FIXED, LOOKUPS, attempt_prices, fixed_routes
from fr.routing.folds import make_folds, resample_problems
from fr.routing.learn import READS, train_head
from fr.routing.outcomes import outcomes_of
from fr.routing.policies import values_of
from fr.routing.pool import make_pool, make_populations
from fr.routing.profiles import read_cells, write_profiles
from fr.routing.schedule_curves import judge_orders
from fr.routing.schedules import train_order_head
from fr.stats.bootstrap import estimate, percent
from fr.workdir import write_json

PARTS = ("prices", "population", "attempt", "orders")
# Which operators are left out, as in docs/results/planted.md.
SETS = {
    "all eight": (),
    "no ancestor in the loop": ("sparse_steer", "dense_sampled"),
    "nor truth from outside": ("sparse_steer", "dense_sampled", "calculator", "repair"),
}
cli.define_flags(model=False)
flags.DEFINE_string("run", None, "The --workdir of benchmarks/planted.py.")
flags.DEFINE_list("parts", list(PARTS), "What is measured.")


def main() -> None:
    """Complete the tables, then measure part by part; earlier measurements are kept."""
    config, given = cli.frozen_config(), flags.FLAGS
    cli.require(workdir=given.workdir, run=given.run)
    workdir = epath.Path(given.workdir)
    lineages = _complete(epath.Path(given.run), workdir)
    path = workdir / "claims.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for table in ("profiles.csv", *map(table_name, config.diagnosis.failures)):
        write_profiles(workdir / table, gather(config, workdir, table))
    measures = {
        "prices": _prices,
        "population": _population,
        "attempt": _attempt,
        "orders": _orders,
    }
    for part in given.parts:
        start = time.monotonic()
        said = measures[part](config, workdir)
        seconds = round(time.monotonic() - start, 1)
        found[part] = {"lineages": lineages, "seconds": seconds, "found": said}
        write_json(path, found)
        print(json.dumps({part: found[part]}, indent=1), flush=True)


def _complete(run: epath.Path, into: epath.Path) -> list[str]:
    """Complete the tables of finished lineages; return the names of the lineages."""
    names = []
    for summary in sorted(run.glob("*/seed-*/summary.json")):
        cause, seed = summary.parent.parent.name, summary.parent.name
        if not (into / cause / seed / "profiles.csv").exists():
            retrofit(summary.parent, into / cause / seed)
        names.append(f"{cause} {seed}")
    return names


def _exact(costs: np.ndarray, right: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """P(solved within each budget) over all orders of whole-numbered costs.

    Sum over k and r of (sets of k failures that leave room for r) / C(n, k) / (n - k).
    """
    costs = np.round(costs)
    count, limit = len(costs), int(budgets.max())
    wrong = [int(c) for c in costs[~right]]
    ways = np.zeros((len(wrong) + 1, limit + 1))
    ways[0, 0] = 1
    for cost in (c for c in wrong if c <= limit):
        ways[1:, cost:] += ways[:-1, : limit + 1 - cost].copy()
    ways = ways.cumsum(axis=1)
    last = min(len(wrong) + 1, count)
    chance = np.array([1 / math.comb(count, k) / (count - k) for k in range(last)])
    weighted = chance @ ways[:last]
    room = np.floor(budgets * (1 + 1e-9)).astype(int)[:, None] - costs[right].astype(
        int
    )
    return np.where(room >= 0, weighted[np.maximum(room, 0)], 0.0).sum(axis=1)


def _prices(config: Config, workdir: epath.Path) -> dict:
    """Error of the curve of one operator against all permutations, in points.

    For mean prices, and for recorded attempts as `Outcomes` draws them, on the tables
    after two failures.
    """
    cells = read_cells([workdir / table_name(2)])
    pool = make_pool(cells)
    plain = make_pool([dataclasses.replace(p, recorded=None) for p in cells])
    drawn, means = outcomes_of(pool), outcomes_of(plain)
    # Beyond a few thousand positions nothing is compared.
    budgets = drawn.budgets()
    whole = np.tile(budgets, (len(pool), 1))
    rows = []
    for o, name in enumerate(pool.operators):
        truth = np.zeros(whole.shape)
        for c, profiles in enumerate(cells):
            costs, right = profiles.recorded.costs["forward"], profiles.recorded.right
            here, own = np.flatnonzero(pool.cell == c), profiles.operators.index(name)
            truth[here] = [
                _exact(costs[i, own], right[i, own], budgets)
                for i in range(len(profiles))
            ]
        row = {"operator": name, "exact": [percent(x) for x in truth.mean(axis=0)]}
        for title, outcomes in (("mean prices", means), ("recorded", drawn)):
            gap = outcomes.curve(outcomes.alone(o), whole).mean(axis=0) - truth.mean(
                axis=0
            )
            row[title] = {"least": percent(gap.min()), "most": percent(gap.max())}
        row["stated error"] = percent(drawn.error(drawn.alone(o), whole))
        rows.append(row)
    return {
        "problems": len(pool),
        "budgets": [round(float(b), 1) for b in budgets],
        "operators": rows,
    }


def _population(config: Config, workdir: epath.Path) -> list[dict]:
    """Problems after K failures, problems that a router meets, and retry's rates."""
    rows = []
    for first in config.diagnosis.failures:
        cells = read_cells([workdir / table_name(first)])
        pool = make_pool(cells)
        outcomes, o = outcomes_of(pool), pool.operators.index("retry")
        budget = np.full(len(pool), 256.0)
        solved = outcomes.solved(outcomes.alone(o), budget)
        whole = sum(len(p) + p.excluded for p in cells)
        met = [describe_cell(p, config)["population"] for p in cells]
        sizes = [len(p) + p.excluded for p in cells]
        rows.append(
            {
                "failures": first,
                "problems": len(pool),
                "share": percent(len(pool) / whole),
                "deployed": round(
                    float(np.average([m["deployed"] for m in met], weights=sizes)), 6
                ),
                "retry, an attempt": percent(
                    np.average(pool.rates[:, o], weights=pool.weight)
                ),
                "retry, an attempt, unweighted": percent(pool.rates[:, o].mean()),
                "retry within 256": percent(np.average(solved, weights=pool.weight)),
                "retry within 256, unweighted": percent(solved.mean()),
            }
        )
    return rows


def _attempt(config: Config, workdir: epath.Path) -> list[dict]:
    """Rescues per attempt over all failures, k-fold by question, with routes held
    fixed.
    """
    rows = []
    for title, without in SETS.items():
        pool = make_pool(read_cells([workdir / "profiles.csv"], without))
        everyone = make_populations(pool, [None] * len(pool.cells), config.routing)[
            "all"
        ]
        folds = make_folds(
            pool, "kfold", config.routing.folds, np.random.default_rng(config.seed)
        )
        heads = ("head", "head_question") if not without else ("head",)
        routes = {name: np.full(len(pool), -1) for name in (*FIXED.values(), *heads)}
        charged = attempt_prices(pool, 0.0)
        for k, fold in enumerate(folds):
            chosen = {
                FIXED[by]: fixed_routes(pool, everyone, fold.train, charged, by)
                for by in LOOKUPS
            }
            for name in heads:
                stream = np.random.default_rng([config.seed, k])
                chosen[name] = train_head(
                    pool, everyone, fold.train, READS[name], config.routing, stream
                )[1]
            for name, choice in chosen.items():
                routes[name][fold.test] = choice[fold.test]
        values = {
            name: values_of(everyone.values, route) for name, route in routes.items()
        }
        values["retry"] = pool.rates[:, pool.operators.index("retry")]
        draw = np.random.default_rng(config.seed)
        weights = resample_problems(
            pool, np.arange(len(pool)), config.routing.bootstrap, draw
        )
        weights /= weights.sum(axis=1, keepdims=True)
        questions = len(np.unique(pool.problem))
        found = {
            name: estimate(weights @ value, questions) for name, value in values.items()
        }
        row = {"operators": title, "problems": len(pool), "questions": questions}
        row["rescued"] = {name: percent(e.value) for name, e in found.items()}
        for name in heads:
            for reference in ("best_fixed_per_cell", "best_fixed_per_model"):
                gap = found[name] - found[reference]
                ends = [percent(end) for end in gap.interval()]
                row[f"{name} minus {reference}"] = [percent(gap.value), *ends]
        rows.append(row)
    return rows


def _orders(config: Config, workdir: epath.Path) -> dict:
    """Orders at equal cost after two failures, without ancestor and outside truth."""
    cells = read_cells([workdir / table_name(2)], SETS["nor truth from outside"])
    pool, routing = make_pool(cells), config.routing
    outcomes = outcomes_of(pool)
    folds = make_folds(pool, "kfold", routing.folds, np.random.default_rng(config.seed))
    learned = lambda k, fold: train_order_head(
        pool,
        outcomes,
        fold.train,
        READS["head_free"],
        routing,
        np.random.default_rng([config.seed, k]),
    )[1]
    chosen = {"head_free": np.stack([learned(k, fold) for k, fold in enumerate(folds)])}
    draw = np.random.default_rng(config.seed)
    weights = resample_problems(pool, np.arange(len(pool)), routing.bootstrap, draw)
    found = judge_orders(pool, outcomes, folds, chosen, weights)
    return {
        name: value for name, value in found.items() if name not in ("orders", "curve")
    }


if __name__ == "__main__":
    cli.run(main)
