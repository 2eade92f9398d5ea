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
from fr.comparison.cell_summary import describe_population
from fr.config import Config
from fr.orders.budgets import outcomes_of
from fr.orders.schedules import budget_target, judge_orders
from fr.pipeline.profile_tables import table_name
from fr.profiles import read_cells, write_profiles
from fr.routing.baselines import look_up, values_of
from fr.routing.dataset import Fold, RoutingData
from fr.routing.policies import LOOK_UPS, learned_policies
from fr.routing.training import fit_learned, train_router
from fr.stats.bootstrap import estimate, percent
from fr.stats.clustered import resample_problems
from fr.workdir import write_json

POLICIES = {policy.name: policy for policy in learned_policies(fit_learned)}
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
    data = RoutingData.build(cells, config)
    unrecorded = [dataclasses.replace(p, recorded=None) for p in cells]
    drawn = outcomes_of(data)
    means = outcomes_of(RoutingData.build(unrecorded, config))
    # Beyond a few thousand forward tokens nothing is compared.
    budgets = drawn.budgets()
    whole = np.tile(budgets, (len(data), 1))
    rows = []
    for o, name in enumerate(data.operators):
        truth = np.zeros(whole.shape)
        for c, profiles in enumerate(cells):
            costs, right = profiles.recorded.costs["forward"], profiles.recorded.right
            here, own = np.flatnonzero(data.cell == c), profiles.operators.index(name)
            truth[here] = [
                _exact(costs[i, own], right[i, own], budgets)
                for i in range(len(profiles))
            ]
        row = {"operator": name, "exact": [percent(x) for x in truth.mean(axis=0)]}
        for title, outcomes in (("mean prices", means), ("recorded", drawn)):
            gap = outcomes.solved(outcomes.alone(o), whole).mean(axis=0) - truth.mean(
                axis=0
            )
            row[title] = {"least": percent(gap.min()), "most": percent(gap.max())}
        row["stated error"] = percent(drawn.error(drawn.alone(o), whole))
        rows.append(row)
    return {
        "problems": len(data),
        "budgets": [round(float(b), 1) for b in budgets],
        "operators": rows,
    }


def _population(config: Config, workdir: epath.Path) -> list[dict]:
    """Problems after K failures, problems that a router meets, and retry's rates."""
    rows = []
    for first in config.diagnosis.failures:
        cells = read_cells([workdir / table_name(first)])
        data = RoutingData.build(cells, config)
        outcomes, o = outcomes_of(data), data.operators.index("retry")
        budget = np.full((len(data), 1), 256.0)
        solved = outcomes.solved(outcomes.alone(o), budget)[:, 0]
        whole = sum(len(p) + p.excluded for p in cells)
        met = [describe_population(p) for p in cells]
        sizes = [len(p) + p.excluded for p in cells]
        rows.append(
            {
                "failures": first,
                "problems": len(data),
                "share": percent(len(data) / whole),
                "deployed": round(
                    float(np.average([m["deployed"] for m in met], weights=sizes)), 6
                ),
                "retry, an attempt": percent(
                    np.average(data.rates[:, o], weights=data.weight)
                ),
                "retry, an attempt, unweighted": percent(data.rates[:, o].mean()),
                "retry within 256": percent(np.average(solved, weights=data.weight)),
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
        data = RoutingData.build(
            read_cells([workdir / "profiles.csv"], without), config
        )
        data = dataclasses.replace(
            data, config=dataclasses.replace(data.config, attempt_price=0.0)
        )
        learned = ("learned", "learned_question") if not without else ("learned",)
        routes = {name: np.full(len(data), -1) for name in (*LOOK_UPS, *learned)}
        for k, fold in enumerate(_folds(data, config)):
            chosen = {n: look_up(data, fold.train, by) for n, by in LOOK_UPS.items()}
            for name in learned:
                table = data.reading(POLICIES[name].feature_groups)
                stream = np.random.default_rng([config.seed, k])
                chosen[name] = train_router(table, fold.train, stream)[1].operator
            for name, choice in chosen.items():
                routes[name][fold.test] = choice[fold.test]
        values = {name: values_of(data.values, route) for name, route in routes.items()}
        values["retry"] = data.rates[:, data.operators.index("retry")]
        weights = _resamples(data, config)
        weights /= weights.sum(axis=1, keepdims=True)
        questions = len(np.unique(data.problem))
        found = {
            name: estimate(weights @ value, questions) for name, value in values.items()
        }
        row = {"operators": title, "problems": len(data), "questions": questions}
        row["rescued"] = {name: percent(e.value) for name, e in found.items()}
        for name in learned:
            for reference in ("best_fixed_per_cell", "best_fixed_per_model"):
                gap = found[name] - found[reference]
                ends = [percent(end) for end in gap.interval()]
                row[f"{name} minus {reference}"] = [percent(gap.value), *ends]
        rows.append(row)
    return rows


def _orders(config: Config, workdir: epath.Path) -> dict:
    """Orders at equal cost after two failures, without ancestor and outside truth."""
    cells = read_cells([workdir / table_name(2)], SETS["nor truth from outside"])
    data = RoutingData.build(cells, config)
    data = dataclasses.replace(data, resamples=_resamples(data, config))
    outcomes, folds = outcomes_of(data), _folds(data, config)
    policy = POLICIES["learned_free"]
    target = budget_target(data, outcomes).reading(policy.feature_groups)
    chosen = []
    for k, fold in enumerate(folds):
        stream = np.random.default_rng([config.seed, k])
        chosen.append(train_router(target, fold.train, stream)[1].operator)
    given = {"schedule_free": (policy.cost, np.stack(chosen))}
    found, curves = judge_orders(data, outcomes, folds, given)
    return {name: v for name, v in found.items() if name != "orders"} | {
        "curves": curves
    }


def _folds(data: RoutingData, config: Config) -> list[Fold]:
    rng, count = np.random.default_rng(config.seed), config.routing.folds
    fold = data.assign(np.ones(len(data), bool), count, rng)
    return [Fold(fold != k, fold == k) for k in range(count)]


def _resamples(data: RoutingData, config: Config) -> np.ndarray:
    rng = np.random.default_rng(config.seed)
    return resample_problems(data.problem, data.cell, config.routing.bootstrap, rng)


if __name__ == "__main__":
    cli.run(main)
