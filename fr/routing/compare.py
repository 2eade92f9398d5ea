"""Who rescues more: paired rows of {policy, protocol, reference, diff, low, high, n, cost}, over many cells."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.config import RoutingConfig
from fr.routing.costs import costs
from fr.routing.evaluate import route_entropy
from fr.routing.fixed import FIXED, LOOKUPS, attempt_prices, redone_look_ups
from fr.routing.folds import OUT_OF_FOLD, Fold, make_folds, resample_problems
from fr.routing.learn import READS
from fr.routing.policies import out_of_fold, random_operator, shuffled, values_of
from fr.routing.pool import Pool, Population
from fr.routing.posterior import POSTERIORS
from fr.routing.references import FAMILY, FROZEN, REFERENCES, charge
from fr.stats.bootstrap import (
    Estimate,
    effective,
    estimate,
    fold_correction,
    holm,
    percent,
)

EVERYWHERE = "all cells"
TRANSFER = "transfer"  # protocol of what was fitted elsewhere, beside what the other folds say here


@dataclasses.dataclass(frozen=True)
class Judged:
    """The policies of one protocol in one population: their choices, and what the heads among them expect."""

    protocol: str
    population: str
    routes: dict[str, Int[np.ndarray, "N"]]
    expected: dict[str, Float[np.ndarray, "N O"]]


def compare(
    pool: Pool,
    populations: dict[str, Population],
    routing: RoutingConfig,
    generator,
    heads: bool,
    frozen: dict[str, Int[np.ndarray, "N"]] | None = None,
) -> tuple[dict, list[Judged]]:
    """{"rates", "comparisons", "unsupported"}: every policy under every out-of-fold protocol, by cell and pooled;
    and what each of them chose.

    `generator(purpose)` gives a random stream. `frozen` choices, by policies that have not learned here, are rows
    of the protocol `transfer`. Look-ups are chosen anew in every resample, heads are not trained anew: what they
    depart from moves, their departures are held fixed, as the rule's and all frozen routes are. Intervals are over
    problems; measured on tables without any effect, those of a difference from a look-up cover 0 in 99 %.
    """
    found: dict = {"rates": [], "comparisons": [], "unsupported": []}
    judged: list[Judged] = []
    weights = resample_problems(
        pool, np.arange(len(pool)), routing.bootstrap, generator("rows")
    )
    prices = attempt_prices(pool, routing.price)
    for protocol in OUT_OF_FOLD:
        given = frozen or {} if protocol == "kfold" else {}
        folds = make_folds(pool, protocol, routing.folds, generator(protocol))
        if isinstance(folds, str):
            names = [protocol, TRANSFER] if given else [protocol]
            found["unsupported"] += [{"protocol": name, "why": folds} for name in names]
            continue
        for name, population in populations.items():
            learned = out_of_fold(
                pool, population, folds, routing, generator(f"{protocol} {name}"), heads
            )
            judged.append(Judged(protocol, name, *learned))
            redone = {
                by: redone_look_ups(pool, population, folds, weights, prices, by)
                for by in LOOKUPS
            }
            for row in _rows(
                pool, population, learned[0] | given, folds, weights, redone
            ):
                said = TRANSFER if row["policy"] in FROZEN else protocol
                found[row.pop("table")].append(
                    {"protocol": said, "population": name} | row
                )
            for said in (protocol, TRANSFER):
                _adjust(found["comparisons"], said, name)
    return found, judged


def _rows(
    pool: Pool,
    population: Population,
    routes: dict,
    folds: list[Fold],
    weights,
    redone: dict,
) -> list:
    values = {
        name: values_of(population.values, choice) for name, choice in routes.items()
    }
    values["random_operator"] = random_operator(pool, population.values)
    for name in REFERENCES:
        if name in routes:
            values[f"{name} permuted"] = shuffled(pool, population, routes[name], folds)
    rows = []
    places = {EVERYWHERE: np.arange(len(pool.cells))}
    places |= {profiles.cell: np.array([c]) for c, profiles in enumerate(pool.cells)}
    for cell, numbers in places.items():
        held = np.flatnonzero(np.isin(pool.cell, numbers))
        mass = population.mass[held]
        if not mass.any():
            continue
        moved = {FIXED[by]: redone[by][numbers].sum(axis=0) for by in LOOKUPS}
        means = _means(
            {name: value[held] for name, value in values.items()},
            mass,
            weights[:, held],
            moved,
        )
        n = int((mass > 0).sum())
        charged = {
            name: _cost(pool, held, mass, routes[name], name)
            for name in routes
            if name in means
        }
        for name in (*charged, "random_operator"):
            found = _rate(pool, population, held, routes, name)
            low, high = means[name].interval()
            row = {"policy": name, "cell": cell, "rate": percent(means[name].value)}
            row |= {
                "low": percent(low),
                "high": percent(high),
                "n": n,
                "cost": charged.get(name),
            }
            row["cost_per_rescue"] = _each(row["cost"], means[name].value)
            rows.append({"table": "rates", **row, **found})
        for name, references in REFERENCES.items():
            for reference in references:
                other = f"{name} permuted" if reference == "permuted" else reference
                if name in means and other in means:
                    row = {"policy": name, "reference": reference, "cell": cell}
                    gap = means[name] - means[other]
                    gap = (
                        gap.widened(fold_correction(len(folds)))
                        if name in POSTERIORS
                        else gap
                    )
                    row |= {**gap_of(gap), "n": n, "cost": charged[name]}
                    if other == _basis(name) and name != other:
                        row |= _kept(
                            routes[name] == routes[other], folds, held[mass > 0]
                        )
                    rows.append({"table": "comparisons", **row})
    return rows


def _kept(same: np.ndarray, folds: Sequence[Fold], rows: np.ndarray) -> dict:
    """In how many of the folds that judge these rows a policy chose as its look-up did throughout."""
    judged = [here for here in (rows[fold.test[rows]] for fold in folds) if len(here)]
    return {
        "kept": sum(bool(same[here].all()) for here in judged),
        "folds": len(judged),
    }


def gap_of(gap: Estimate) -> dict:
    """A difference in points with its 95 % interval and p: {diff, low, high, p}; None for what is not known.

    Where the two are one and the same under every resample there is nothing that was measured: 0 and no interval.
    """
    if gap.value == 0 and not gap.samples.any():
        return {"diff": 0.0, "low": None, "high": None, "p": None}
    low, high = gap.interval()
    p = None if np.isnan(low) else round(gap.p_value(), 6)
    return {
        "diff": percent(gap.value),
        "low": percent(low),
        "high": percent(high),
        "p": p,
    }


def _means(
    values: dict, mass: np.ndarray, resampled: np.ndarray, moved: dict
) -> dict[str, Estimate]:
    """Mean of every policy that has an answer on all these rows, each under the same resamples.

    `moved` has the sums of the look-ups redone; a head is the look-up that it departs from, and its departures.
    """
    known = [name for name, value in values.items() if not np.isnan(value).any()]
    table = np.column_stack([values[name] for name in known])
    for i, name in enumerate(known):
        if _basis(name):
            table[:, i] -= values[_basis(name)]
    sums = dict(zip(known, (resampled @ table).T))
    total = resampled @ mass
    with np.errstate(invalid="ignore"):
        means = {
            name: (sums[name] + moved.get(_basis(name), 0.0)) / total for name in known
        }
    return {name: estimate(mean, effective(mass)) for name, mean in means.items()}


def _basis(name: str) -> str | None:
    """The look-up that a policy, or its shuffled form, departs from; of a look-up itself, it."""
    name = name.removesuffix(" permuted")
    if name in FIXED.values():
        return name
    if name in POSTERIORS:
        return FIXED["model"]
    reads = READS.get(name)
    return None if reads is None else FIXED["cell" if "prompt" in reads else "all"]


def _rate(
    pool: Pool, population: Population, held: np.ndarray, routes: dict, name: str
) -> dict:
    """What a policy chose, and how often something else than the look-up; None where it does not choose."""
    if name not in routes:
        return {"route_entropy": None, "departures": None, "routes": None}
    counted = population.mass[held] > 0
    basis = "frozen_fixed" if name in FROZEN else "best_fixed_per_cell"
    basis = FIXED["model"] if name in POSTERIORS else basis
    choice, fixed = routes[name][held][counted], routes[basis][held][counted]
    names = (*pool.operators, "stop")
    return {
        "route_entropy": round(route_entropy(choice), 6),
        "departures": percent(float((choice != fixed).mean())),
        "routes": {names[o]: int((choice == o).sum()) for o in np.unique(choice)},
    }


def _cost(pool: Pool, held, mass, choice: np.ndarray, name: str) -> float | None:
    """Mean forward positions of the chosen attempt, and of what the policy reads of failures."""
    total = 0.0
    for c in np.unique(pool.cell[held]):
        known = costs(pool.cells[c])
        if known is None:
            return None
        here = pool.cell[held] == c
        prices = np.array(
            [known.get(operator, 0.0) for operator in (*pool.operators, "stop")]
        )
        total += (mass[here] * (prices[choice[held][here]] + charge(name, known))).sum()
    return round(float(total / mass.sum()), 6)


def _each(cost: float | None, rate: float) -> float | None:
    return None if cost is None or not rate > 0 else round(cost / rate, 6)


def _adjust(rows: Sequence[dict], protocol: str, population: str) -> None:
    """Holm over FAMILY among the pooled rows of one protocol and population."""
    family = [
        row
        for row in rows
        if (row["protocol"], row["population"], row["cell"])
        == (protocol, population, EVERYWHERE)
        and (row["policy"], row["reference"]) in FAMILY
        and row["p"] is not None
    ]
    for row, adjusted in zip(family, holm([row["p"] for row in family])):
        row["p_holm"] = round(adjusted, 6)
