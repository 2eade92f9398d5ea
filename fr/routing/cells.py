"""What routing.json says of one cell, apart from who rescues more."""

import dataclasses
import zlib

import numpy as np

from fr.config import Config, RoutingConfig
from fr.diagnosis.labels import count_labels, label, permutation_null, unreached
from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.budget import BEST, budget_curve
from fr.routing.costs import costs
from fr.routing.outcomes import outcomes_of
from fr.routing.pool import make_pool
from fr.routing.profiles import FEATURES, OPERATORS, WEIGHT, Profiles, weights_of
from fr.routing.recorded import AXES, FORWARD
from fr.routing.rule import FALLBACK, RULE, ZStatistics, rule_or_retry
from fr.stats.bootstrap import Estimate, percent


def describe_cell(profiles: Profiles, config: Config) -> dict:
    """Labels and what chance makes of them, attempts, what nothing solved, and what a reader must know."""
    labels = label(
        profiles.rates, profiles.operators, config.routing.margin, config.routing.hard
    )
    return {
        "cell": profiles.cell,
        "n": len(profiles),
        "excluded": profiles.excluded,
        "single_failure": int((profiles.n_failed == 1).sum()),
        "attempts": _attempts(profiles),
        "labels": count_labels(labels),
        "label_null": _null(
            profiles, config.routing, stream(profiles.cell, config, "null")
        ),
        "unreached": _unreached(profiles),
        "population": _population(profiles),
        "notes": _notes(profiles),
    }


def _population(profiles: Profiles) -> dict | None:
    """Of all problems of the cell, in percent, how many are in the table and how many a deployed router meets;
    None where the table does not say.
    """
    if profiles.numbers(WEIGHT) is None:
        return None
    asked, weights = len(profiles) + profiles.excluded, weights_of(profiles)
    return {
        "share": percent(len(profiles) / asked),
        "deployed": percent(weights.sum() / asked),
    }


def _attempts(profiles: Profiles) -> dict:
    """Attempts a problem of every operator, as the table gives them or fitted to its rates (0: nothing fits)."""
    counts = recover_attempts(profiles)
    return {
        "given": profiles.attempts is not None,
        "operators": {
            name: {
                "least": int(n.min()),
                "median": float(np.median(n)),
                "most": int(n.max()),
            }
            for name, n in zip(profiles.operators, counts.T)
        },
    }


def _null(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> dict | None:
    attempts = recover_attempts(profiles)
    drawn = np.flatnonzero(~deterministic(profiles) & (attempts.max(axis=0) > 1))
    operators = tuple(profiles.operators[o] for o in drawn)
    known = (attempts[:, drawn] > 0).all(axis=1)
    if "retry" not in operators or len(operators) < 2 or not known.any():
        return None
    attempts = attempts[known][:, drawn]
    correct = successes(profiles.rates[known][:, drawn], attempts)
    null = permutation_null(
        correct,
        attempts,
        operators,
        routing.margin,
        routing.hard,
        routing.permutations,
        rng,
    )
    shares = {name: percent(null[name]) for name in ("seen", "mean", "low", "high")}
    return {
        **shares,
        "p": round(null["p"], 6),
        "problems": int(known.sum()),
        "operators": list(operators),
    }


def _unreached(profiles: Profiles) -> dict:
    attempts = recover_attempts(profiles)
    never, bound = unreached(profiles.rates, np.maximum(attempts, 1))
    known = never & (attempts > 0).all(axis=1)
    return {
        "n": int(never.sum()),
        "upper_bound": percent(np.median(bound[known])) if known.any() else None,
    }


def describe_cost(
    profiles: Profiles, config: Config, learned: dict[str, np.ndarray]
) -> dict | None:
    """{positions, curve, curves, recorded, error}: forward positions of an attempt of every operator, and what a
    budget of them, and of the other AXES, solves by the rule and `learned` routes; None where the table has no
    costs. `recorded`: whether every attempt has its own cost, else all have their mean, which is an approximation;
    `error`: the largest standard error of a share, in points, that the draws of the attempts' order leave.
    """
    positions = costs(profiles)
    if positions is None:
        return None
    everyone = rule_or_retry(
        profiles.operators, ZStatistics.fit(profiles.features), profiles.features
    )
    routes, pool = {"routed": everyone, **learned}, make_pool([profiles])
    known = {axis: outcomes_of(pool, axis) for axis in AXES}
    curves = {}
    for axis, outcomes in known.items():
        if outcomes is not None:
            rng = stream(profiles.cell, config, "budget")
            curve = budget_curve(
                profiles, routes, config.routing.bootstrap, rng, axis, outcomes
            )
            curves[axis] = [_point(budget, solved, routes) for budget, solved in curve]
            if np.ptp(pool.weight) > 0:  # as if a router met every problem of the table
                alike = dataclasses.replace(outcomes, weight=np.ones(len(profiles)))
                plain = budget_curve(profiles, routes, 1, rng, axis, alike)
                for point, (_, solved) in zip(curves[axis], plain):
                    point["unweighted"] = {
                        name: percent(e.value) for name, e in solved.items()
                    }
    found, error = known[FORWARD], None
    if found is not None:
        budgets = np.tile(found.budgets(), (len(profiles), 1))
        error = percent(
            max(found.error(found.alone(o), budgets) for o in range(len(found.most)))
        )
    return {
        "positions": {name: round(value, 6) for name, value in positions.items()},
        "recorded": found is not None and found.recorded,
        "error": error,
        "curve": curves.get(FORWARD, []),
        "curves": curves,
    }


def _point(
    budget: float, solved: dict[str, Estimate], routes: dict[str, np.ndarray]
) -> dict:
    point = {
        "budget": round(budget, 6),
        "solved": {name: percent(e.value) for name, e in solved.items()},
    }
    for name in (name for route in routes for name in (route, f"{route}_sunk")):
        point[f"{name}_minus_retry"] = difference(solved[name] - solved["retry"])
        point[f"{name}_minus_best"] = difference(solved[name] - solved[BEST])
    return point


def _notes(profiles: Profiles) -> list[str]:
    notes = []
    without = [
        name for name in (*FEATURES, *OPERATORS) if name not in profiles.operators
    ]
    without = [
        f
        for f in without
        if f not in FEATURES or np.isnan(profiles.features[:, FEATURES.index(f)]).all()
    ]
    if without:
        lines = [
            f for f, o in RULE.items() if f not in without and o in profiles.operators
        ]
        spare = (
            "; a failure without a positive z is retried" if FALLBACK in without else ""
        )
        reads = (
            f"reads {', '.join(lines)} only{spare}"
            if lines
            else "has no line and retries every failure"
        )
        notes.append(f"without {', '.join(without)}: the rule {reads}")
    if profiles.excluded:
        notes.append(
            f"{profiles.excluded} problems had no failed rollout and are left out"
        )
    return notes


def difference(estimate: Estimate) -> dict:
    """A difference of two estimates, in percentage points, with its 95 % interval and p."""
    low, high = estimate.interval()
    p = None if np.isnan(low) else round(estimate.p_value(), 6)
    return {
        "mean": percent(estimate.value),
        "low": percent(low),
        "high": percent(high),
        "p": p,
    }


def stream(cell: str, config: Config, purpose: str) -> np.random.Generator:
    """A random stream of its own for each cell and purpose: no number depends on what was computed before it."""
    return np.random.default_rng(
        [config.seed, zlib.crc32(cell.encode()), zlib.crc32(purpose.encode())]
    )
