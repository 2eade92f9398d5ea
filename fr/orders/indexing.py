"""Recorded attempts of all cells along drawn orders of their indices."""

import numpy as np
from jaxtyping import Bool, Float

from fr.routing.dataset import RoutingData
from fr.stats.outcomes import number_of_draws
from fr.stats.paired import Indexed, index_orders


def index_attempts(
    data: RoutingData,
    axis: str,
    prices: Float[np.ndarray, "N O"],
    once: Bool[np.ndarray, "O"],
) -> Indexed | None:
    """Lay the attempts of operators that share random keys along orders of indices.

    Along an order every attempt has an index of its own, so that attempts of several
    operators are independent given the problem, as in a live run. In a cell
    whose operators have their own keys, each operator has orders of its own.

    Args:
        data: the failed problems.
        axis: of cost.
        prices: mean cost of an attempt, for cells that do not know each attempt's.
        once: deterministic operators.

    Returns:
        The attempts; None if operators share keys in no cell.
    """
    if all(profiles.paired is None for profiles in data.cells):
        return None
    size = int(data.attempts.max())
    shape = (*data.rates.shape, size)
    made, right = np.zeros((2, *shape), bool)
    costs = np.repeat(prices[..., None], size, axis=2)
    shared = np.zeros(len(data), bool)
    for c, profiles in enumerate(data.cells):
        rows, found = np.flatnonzero(data.cell == c), profiles.recorded
        shared[rows] = profiles.paired is not None
        for o, name in enumerate(profiles.operators):
            at = data.operators.index(name)
            if found is None:  # in any order: its operators are independent
                made[rows, at] = np.arange(size) < profiles.tried[:, o, None]
                right[rows, at] = np.arange(size) < profiles.successes[:, o, None]
                continue
            last = found.made.shape[2]
            made[rows, at, :last] = found.made[:, o]
            right[rows, at, :last] = found.right[:, o]
            if found.knows(axis):
                own = np.where(found.made[:, o], found.costs[axis][:, o], 0.0)
                costs[rows, at, :last] = own
    rng, draws = np.random.default_rng(data.seed), number_of_draws(len(data))
    common = index_orders(made[:, ~once], draws, rng)
    places = int((common >= 0).sum(axis=2).min())
    failed, spent = [], []
    for o in range(shape[1]):
        order = common
        if not shared.all():
            own_order = index_orders(made[:, o : o + 1], draws, rng)
            order = np.where(shared[:, None, None], common, own_order)
        order = np.zeros_like(order) if once[o] else order
        along = lambda table, o=o, order=order: np.take_along_axis(
            table[:, o, None], order[..., :places], axis=2
        )
        there = made[:, o].any(axis=1)[:, None, None]
        failed.append(~along(right) | ~there)
        spent.append(np.where(there, along(costs), 0.0).astype(np.float32))
    return Indexed(np.stack(failed, axis=1), np.stack(spent, axis=1), once)
