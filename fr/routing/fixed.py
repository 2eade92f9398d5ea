"""The best fixed choice, looked up by what is known without reading a failure: everything, the family, the cell."""

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.budget import costs
from fr.routing.pool import Pool, Population

LOOKUPS = ("all", "family", "cell")


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
    """For every row, what gained most on average over those of `rows` that share its cell (or family, or all).

    Gains are rescue rates less prices; O stands for stop, which gains 0. A row whose cell is not in `rows` is
    looked up by its family, and one whose family is not there by everything.
    """
    table = np.zeros(len(pool.cells), int)
    for c in range(len(pool.cells)):
        here = pool.cell == c
        groups = [here, pool.family == pool.family[here][0], np.ones(len(pool), bool)]
        group = next(
            (g for g in groups[2 - LOOKUPS.index(by) :] if population.mass[g & rows].any()), groups[2]
        )
        table[c] = _best(pool, population, group & rows, prices, pool.available[here][0])
    return table[pool.cell]


def _best(pool: Pool, population: Population, rows, prices, available: Bool[np.ndarray, "O"]) -> int:
    mass = (population.mass[:, None] * pool.available)[rows].sum(axis=0)
    offered = available & (mass > 0)
    if not offered.any():
        return pool.operators.index("retry")
    gains = population.values[rows].sum(axis=0) / np.where(mass > 0, mass, 1) - prices
    # Operators come before stop: without a price, what never rescues is still tried.
    return int(np.argmax([*np.where(offered, gains, -np.inf), 0.0]))
