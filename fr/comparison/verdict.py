"""One verdict on a table: is there a lift over the best fixed operator?"""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fr.comparison.certify import (
    INCLUDED,
    ahead,
    columns_p,
    judge,
    k_fold_splits,
    out_of_fold,
)
from fr.comparison.leaks import leaking_columns
from fr.comparison.power import Power
from fr.config import Config
from fr.routing.baselines import values_of
from fr.routing.dataset import Fold, RoutingData
from fr.routing.policies import Choice, Policy, posterior_policies
from fr.stats.bootstrap import rounded
from fr.stats.sequential import sequential_p
from fr.workdir import PathLike, to_json

# Exit code of each verdict; 2 is bad input.
VERDICTS = {"lift": 0, "none": 1, "too little data": 3, "leaked": 4}
SMALLEST = 3.0  # the smallest lift that matters, in points, unless another is given
_LEVEL = 0.05
_TOLD = "columns tell operators apart"
_MOST = 19_999  # draws of permuted routes


def declared_of(
    files: Sequence[PathLike],
    config: Config,
    smallest: float,
    routes: PathLike | None = None,
    without: Sequence[str] = (),
) -> dict:
    """Describe the comparison, its data and its budget; no outcome is needed.

    Args:
        files: profile tables.
        config: its `routing` and `seed`.
        smallest: the smallest lift that matters, in points.
        routes: file of another router's choices or outcomes.
        without: operators that are left out.

    Returns:
        Plain values.
    """
    return {
        "what": "lift of a router over the best fixed operator of each model and task",
        "profiles": [epath.Path(file).name for file in files],
        "router": "posterior, out of fold" if routes is None else "given",
        "routes": None if routes is None else epath.Path(routes).name,
        "population": "all failed problems",
        "budget": "one attempt of the chosen operator",
        "smallest": smallest,
        "without": list(without),
        "seed": config.seed,
        "settings": json.loads(to_json(dataclasses.asdict(config.routing))),
    }


def verdict_of(
    data: RoutingData,
    headrooms: Sequence[float | None],
    smallest: float,
    routes: Int[np.ndarray, "N"] | None = None,
    outcomes: Float[np.ndarray, "N"] | None = None,
    certified: dict | None = None,
) -> dict:
    """Judge the router in closed form, or a router from elsewhere.

    The reference is the best fixed operator of each model on each task, chosen in other
    folds. In this order:

    - leaked: a column (of a router from elsewhere, its routes) explains a part of the
      noise of the attempts;
    - lift: the columns tell operators apart (the routes are better than the same
      routes on other failures of their model), and the lift is above 0, one-sided, both
      at 5 %;
    - none: the lift that is left, the smaller of the upper ends of the lift's 95 %
      interval and of a perfect router's headroom, is at most `smallest`;
    - too little data: otherwise.

    Args:
        data: failed problems of a population.
        headrooms: the most that a perfect router can be above the best fixed operator
            of each cell, in points; None where it is not known.
        smallest: the smallest lift that matters, in points.
        routes: the operator that another router chose for each row; it has learned from
            other data.
        outcomes: the share of that router's own attempts that were right, by row.
        certified: what `certify` found of the router in closed form, if it was asked.

    Returns:
        {"verdict", "exit", "left", "lift", "null_p", "null", "headroom", "leaks", ...};
        rates and lifts in percent.
    """
    router = "posterior" if routes is None and outcomes is None else "given"
    leaks, headroom = _leaks(data, routes), _pooled(data, headrooms)
    found: dict = {
        "smallest": smallest,
        "headroom": headroom,
        "router": router,
        "leaks": leaks,
        "uncounted": [p.cell for p in data.cells if p.attempts is None],
    }
    splits, certain, left = k_fold_splits(data), False, None
    if splits:
        judged = _certified(certified) or _judged(data, splits, routes, outcomes)
        lift, p = judged["lift"], judged["null_p"]
        certain = ahead(lift) and (p is None or p <= _LEVEL)
        ends = [e for e in (lift["interval"]["high"], headroom) if e is not None]
        left = max(0.0, min(ends)) if ends else None
        found |= {**judged, "why": None, "splits": len(splits), "included": INCLUDED}
    else:
        found |= {"lift": None, "why": data.folds("kfold")}
    if leaks:
        kind = "leaked"
    elif certain:
        kind = "lift"
    elif left is not None and left <= smallest:
        kind = "none"
    else:
        kind = "too little data"
    return found | {"left": left, "verdict": kind, "exit": VERDICTS[kind]}


def _leaks(data: RoutingData, routes: Int[np.ndarray, "N"] | None) -> list[dict]:
    """Leaking columns of all cells; of a given router its routes are the column."""
    told = data.columns if routes is None else {"routes": routes.astype(float)}
    return [
        leak
        for c, profiles in enumerate(data.cells)
        for leak in leaking_columns(
            profiles, {name: own[data.cell == c] for name, own in told.items()}
        )
    ]


def _certified(record: dict | None) -> dict:
    """A record of `certify` as `_judged` would write it; nothing without one."""
    if record is None:
        return {}
    kept = ("interval", "p", "every", "questions", "runs")
    return {
        "lift": {key: record[key] for key in kept if key in record},
        "null": _TOLD,
        "null_p": record["columns_p"],
        "kept": record["kept"],
        "folds": record["folds"],
    }


def _judged(
    data: RoutingData,
    splits: Sequence[Sequence[Fold]],
    routes: Int[np.ndarray, "N"] | None,
    outcomes: Float[np.ndarray, "N"] | None,
) -> dict:
    """The lift over the look-up, the null and its p, folds that kept the look-up."""
    (policy, *_) = posterior_policies()
    given = routes is not None or outcomes is not None
    if given:
        choice = Choice(np.zeros(len(data), int) if routes is None else routes)
        policy = Policy("given", "given router", lambda *_: lambda _: choice)
    gave, looked, kept = out_of_fold(policy, data, splits)
    p: float | None = None
    if outcomes is not None:
        gave, null = outcomes * data.mass, "no routes to permute"
    elif routes is not None:
        null = "routes permuted within models"
        p = routes_p(data, routes, data.stream("permuted routes"))
    else:
        null = _TOLD
        readable = data.reading(policy.feature_groups)
        p = columns_p(readable, data.stream(f"told {policy.name}"))
    lift = judge(data, gave, looked, len(splits[0]))
    found = {"lift": lift, "null": null, "null_p": None if p is None else rounded(p)}
    return found if given else found | {"kept": sum(kept), "folds": len(kept)}


def largest_headrooms(
    interactions: Sequence[dict], powers: Sequence[Power | None]
) -> list[float | None]:
    """Take the upper end of a perfect router's headroom in each cell.

    The test of operator × problem has it for operators whose attempts are draws; what
    deterministic operators add comes from the model of true rates.

    Args:
        interactions: of `describe_interaction`.
        powers: of each cell.

    Returns:
        Points; None where one of both is not known.
    """
    found: list[float | None] = []
    for record, power in zip(interactions, powers):
        if record["why"] is not None or power is None:
            found.append(None)
            continue
        fixed = power.record["headroom"]["of_deterministic"]["high"]
        found.append(record["headroom"]["high"] + max(0.0, fixed))
    return found


def routes_p(
    data: RoutingData, routes: Int[np.ndarray, "N"], rng: np.random.Generator
) -> float:
    """Test whether routes are better than the same routes on other failures.

    Under the null the routes of a model's failures are exchangeable; the statistic is
    the mean rescue rate.

    Args:
        data: failed problems of a population.
        routes: the operator of each row.
        rng: random stream of at most 19,999 permutations.

    Returns:
        p, one-sided.
    """
    place, firsts = data.places("model")
    groups = [np.flatnonzero(place == g) for g in range(len(firsts))]
    seen = float(values_of(data.values, routes).sum())

    def draw(tables: int) -> Float[np.ndarray, "B"]:
        totals = np.zeros(tables)
        for rows in groups:
            moved = rng.permuted(np.tile(routes[rows], (tables, 1)), axis=1)
            totals += data.values[rows, moved].sum(axis=1)
        return totals

    return sequential_p(draw, seen, _MOST, enough=20, batch=200)[0]


def _pooled(data: RoutingData, highs: Sequence[float | None]) -> float | None:
    """Largest headroom of all cells together: the mean of their upper ends."""
    if any(high is None for high in highs):
        return None
    shares = [data.mass[data.cell == c].sum() for c in range(len(highs))]
    return rounded(np.average([high or 0.0 for high in highs], weights=shares))
