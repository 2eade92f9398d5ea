"""The best fixed choice, looked up by what is known without reading a failure: everything, the family, the cell,
the model on its family.

The last is the baseline of routing. A cell may mix failures of several models, and to
tell which model failed is no reading of the failure.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.costs import costs
from fr.routing.folds import Fold
from fr.routing.pool import Pool, Population

LOOKUPS = ("all", "family", "cell", "model")
FIXED = {
    "all": "best_fixed",
    "family": "best_fixed_per_task",
    "cell": "best_fixed_per_cell",
    "model": "best_fixed_per_model",
}


def attempt_prices(pool: Pool, price: float) -> Float[np.ndarray, "O"]:
    """Rescues that an attempt of each operator must be worth: `price` for a retry, the others by their cost.

    Costs are averaged over the cells that know them; an operator of unknown cost has retry's.
    """
    known = [found for found in map(costs, pool.cells) if found]
    relative = [
        np.mean([c[name] / c["retry"] for c in known if name in c] or [1.0])
        for name in pool.operators
    ]
    return price * np.array(relative)


def places_of(pool: Pool, by: str) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "G"]]:
    """The place of every row that a look-up distinguishes, and a row of each: cells, or the models in them."""
    if by != "model":
        return pool.cell, np.array(
            [np.flatnonzero(pool.cell == c)[0] for c in range(len(pool.cells))]
        )
    pairs = np.stack([pool.cell, pool.model], axis=1)
    _, first, index = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    return index.reshape(-1), first


def fixed_routes(
    pool: Pool,
    population: Population,
    rows: Bool[np.ndarray, "N"],
    prices: Float[np.ndarray, "O"],
    by: str = "cell",
) -> Int[np.ndarray, "N"]:
    """For every row, what gained most on average over those of `rows` that share its cell (or what `by` says)."""
    return fixed_gains(pool, population, rows, prices, by).argmax(axis=1)[
        places_of(pool, by)[0]
    ]


def fixed_gains(
    pool: Pool,
    population: Population,
    rows: Bool[np.ndarray, "N"],
    prices: Float[np.ndarray, "O"],
    by: str = "cell",
) -> Float[np.ndarray, "G O+1"]:
    """What each place's operators, and stop, gained on average over those of `rows` that share what `by` says.

    Places are the cells, or with `model` each model in each cell. Gains are rescue rates less prices, −inf where an
    operator is absent; stop, the last, gains 0. A model that is not in `rows` is looked up by its cell, a cell by its
    family, and one whose family is not there by everything.
    """
    firsts = places_of(pool, by)[1]
    gains = np.zeros((len(firsts), len(pool.operators) + 1))
    for g, i in enumerate(firsts):
        group = next(
            (
                group
                for group in groups_of(pool, i, by)
                if population.mass[group & rows].any()
            ),
            np.ones(len(pool), bool),
        )
        learned = group & rows
        mass = (population.mass[:, None] * pool.available)[learned].sum(axis=0)
        gains[g] = _gains(
            population.values[learned].sum(axis=0), mass, pool.available[i], prices
        )
    return gains


def groups_of(pool: Pool, row: int, by: str) -> list[Bool[np.ndarray, "N"]]:
    """Rows that are alike to a row, from the finest that `by` distinguishes to all of them."""
    kinds = (pool.model, pool.cell, pool.family, np.zeros(len(pool), int))
    return [kind == kind[row] for kind in kinds[len(LOOKUPS) - 1 - LOOKUPS.index(by) :]]


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
    index, firsts = places_of(pool, by)
    shape = len(firsts), len(folds), len(weights), len(pool.operators)
    values, mass = np.zeros(shape), np.zeros(shape)
    for g, i in enumerate(firsts):
        for f, fold in enumerate(folds):
            here = np.flatnonzero((index == g) & fold.test)
            values[g, f] = weights[:, here] @ population.values[here]
            mass[g, f] = (weights[:, here] @ population.mass[here])[
                :, None
            ] * pool.available[i]
    found = np.zeros((len(pool.cells), len(weights)))
    for g, i in enumerate(firsts):
        groups = [group[firsts] for group in groups_of(pool, i, by)]
        for f in range(len(folds)):
            rest = np.arange(len(folds)) != f
            learned = (
                (values[group][:, rest].sum((0, 1)), mass[group][:, rest].sum((0, 1)))
                for group in groups
            )
            every = values[:, rest].sum((0, 1)), mass[:, rest].sum((0, 1))
            known = next((pair for pair in learned if pair[1][0].any()), every)
            found[pool.cell[i]] += _taken(
                values[g, f], *known, pool.available[i], prices
            )
    return found


def _taken(
    scored, values, mass, offered: Bool[np.ndarray, "O"], prices
) -> Float[np.ndarray, "R+1"]:
    """The entry of `scored` [R+1, O] whose learned mean gain is largest; stop scores 0."""
    choice = _gains(values, mass, offered, prices).argmax(axis=-1)
    return np.take_along_axis(
        np.pad(scored, ((0, 0), (0, 1))), choice[:, None], axis=1
    )[:, 0]


def _gains(
    values, mass, offered: Bool[np.ndarray, "O"], prices
) -> Float[np.ndarray, "... O+1"]:
    """Mean values less prices of the operators, [..., O], and 0 for stop."""
    # Rounded, so that two operators that are even stay so in whatever order their problems are added.
    gains = np.round(values / np.where(mass > 0, mass, 1) - prices, 9)
    # Operators come before stop: without a price, what never rescues is still tried.
    gains = np.where(offered & (mass > 0), gains, -np.inf)
    return np.concatenate([gains, np.zeros((*gains.shape[:-1], 1))], axis=-1)
