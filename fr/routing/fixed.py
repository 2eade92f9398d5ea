"""The best fixed choice, looked up by what is known without reading a failure: everything, the family, the cell."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.costs import costs
from fr.routing.folds import Fold
from fr.routing.pool import Pool, Population

LOOKUPS = ("all", "family", "cell")
FIXED = {"all": "best_fixed", "family": "best_fixed_per_task", "cell": "best_fixed_per_cell"}


def attempt_prices(pool: Pool, price: float) -> Float[np.ndarray, "O"]:
    """Rescues that an attempt of each operator must be worth: `price` for a retry, the others by their cost.

    Costs are averaged over the cells that know them; an operator of unknown cost has retry's.
    """
    known = [found for found in map(costs, pool.cells) if found]
    relative = [
        np.mean([c[name] / c["retry"] for c in known if name in c] or [1.0]) for name in pool.operators
    ]
    return price * np.array(relative)


def fixed_routes(
    pool: Pool,
    population: Population,
    rows: Bool[np.ndarray, "N"],
    prices: Float[np.ndarray, "O"],
    by: str = "cell",
) -> Int[np.ndarray, "N"]:
    """For every row, what gained most on average over those of `rows` that share its cell (or family, or all)."""
    return fixed_gains(pool, population, rows, prices, by).argmax(axis=1)[pool.cell]


def fixed_gains(
    pool: Pool,
    population: Population,
    rows: Bool[np.ndarray, "N"],
    prices: Float[np.ndarray, "O"],
    by: str = "cell",
) -> Float[np.ndarray, "C O+1"]:
    """What each cell's operators, and stop, gained on average over those of `rows` that share it, or by `by`.

    Gains are rescue rates less prices, −inf where an operator is absent; stop, the last, gains 0. A cell that is
    not in `rows` is looked up by its family, and one whose family is not there by everything.
    """
    gains = np.zeros((len(pool.cells), len(pool.operators) + 1))
    for c in range(len(pool.cells)):
        here = pool.cell == c
        groups = [here, pool.family == pool.family[here][0], np.ones(len(pool), bool)]
        group = next(
            (g for g in groups[2 - LOOKUPS.index(by) :] if population.mass[g & rows].any()), groups[2]
        )
        learned = group & rows
        mass = (population.mass[:, None] * pool.available)[learned].sum(axis=0)
        gains[c] = _gains(population.values[learned].sum(axis=0), mass, pool.available[here][0], prices)
    return gains


def redone_look_ups(
    pool: Pool,
    population: Population,
    folds: Sequence[Fold],
    weights: Float[np.ndarray, "R+1 N"],
    prices: Float[np.ndarray, "O"],
    by: str = "cell",
) -> Float[np.ndarray, "C R+1"]:
    """What each cell's rows rescue in sum under the out-of-fold look-up, chosen anew in every resample.

    A look-up that was held fixed would be too sure of itself: where operators are alike, which one is chosen
    depends on the very problems that its value is read from in the other folds, and intervals of a difference
    covered 0 in 88 to 89 % of 10,000 tables; redone, in over 99. Every fold learns from all the others.
    """
    shape = len(pool.cells), len(folds), len(weights), len(pool.operators)
    values, mass = np.zeros(shape), np.zeros(shape)
    for c in range(len(pool.cells)):
        for f, fold in enumerate(folds):
            here = np.flatnonzero((pool.cell == c) & fold.test)
            values[c, f] = weights[:, here] @ population.values[here]
            mass[c, f] = (weights[:, here] @ population.mass[here])[:, None] * pool.available[pool.cell == c][
                0
            ]
    family = np.array([pool.family[pool.cell == c][0] for c in range(len(pool.cells))])
    found = np.zeros(shape[:1] + shape[2:3])
    for c in range(len(pool.cells)):
        offered = pool.available[pool.cell == c][0]
        groups = [np.arange(len(family)) == c, family == family[c], np.ones(len(family), bool)]
        for f in range(len(folds)):
            rest = np.arange(len(folds)) != f
            learned = [(values[g][:, rest].sum((0, 1)), mass[g][:, rest].sum((0, 1))) for g in groups]
            known = [pair for pair in learned[2 - LOOKUPS.index(by) :] if pair[1][0].any()]
            found[c] += _taken(values[c, f], *(known or learned[-1:])[0], offered, prices)
    return found


def _taken(scored, values, mass, offered: Bool[np.ndarray, "O"], prices) -> Float[np.ndarray, "R+1"]:
    """The entry of `scored` [R+1, O] whose learned mean gain is largest; stop scores 0."""
    choice = _gains(values, mass, offered, prices).argmax(axis=-1)
    return np.take_along_axis(np.pad(scored, ((0, 0), (0, 1))), choice[:, None], axis=1)[:, 0]


def _gains(values, mass, offered: Bool[np.ndarray, "O"], prices) -> Float[np.ndarray, "... O+1"]:
    """Mean values less prices of the operators, [..., O], and 0 for stop."""
    # Rounded, so that two operators that are even stay so in whatever order their problems are added.
    gains = np.round(values / np.where(mass > 0, mass, 1) - prices, 9)
    # Operators come before stop: without a price, what never rescues is still tried.
    gains = np.where(offered & (mass > 0), gains, -np.inf)
    return np.concatenate([gains, np.zeros((*gains.shape[:-1], 1))], axis=-1)
