"""What is tried when the first choice has failed: orders of operators, for all failures or by a router's choice."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.attempts import fixed_rates, recover_attempts, successes
from fr.routing.budget import costs
from fr.routing.pool import Pool
from fr.routing.trained import ANYWHERE

SCHEDULE = "schedule"  # the order for all failures of a family, which reads none
LEAST = 20  # training problems with a router's choice, from which an order of their own is learned
_GAIN = 1e-9  # solved problems a position that an attempt must be worth
Order = tuple[int, ...]  # operators in the order of their trial


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What attempts at failed problems do, and what they take."""

    unsolved: Float[
        np.ndarray, "N O A"
    ]  # chance that 0, 1, ... attempts all fail, unbiased (arXiv 2107.03374)
    most: Int[np.ndarray, "O"]  # attempts for which that is known, of every problem
    prices: Float[np.ndarray, "C O"]  # forward positions of one, by cell
    available: Bool[np.ndarray, "C O"]
    cell: Int[np.ndarray, "N"]

    def solved(self, order: Order, budgets: Float[np.ndarray, "C"]) -> Float[np.ndarray, "N"]:
        """Chance that what a budget pays for solves a problem: attempts in this order, of what its cell has."""
        counts = np.array([self._affordable(c, order, budget) for c, budget in enumerate(budgets)])
        chances = np.take_along_axis(self.unsolved, counts[self.cell][..., None], axis=2)
        return 1 - chances[..., 0].prod(axis=1)  # attempts are independent, given the problem

    def _affordable(self, cell: int, order: Order, budget: float) -> Int[np.ndarray, "O"]:
        order = [o for o in order if self.available[cell, o]]
        paid = np.searchsorted(np.cumsum(self.prices[cell, order]), budget, side="right")
        return np.bincount(order[:paid], minlength=len(self.most))


def outcomes_of(pool: Pool) -> Outcomes | None:
    """Outcomes of all problems of a pool; None where attempts or costs are not known."""
    known = [costs(profiles) for profiles in pool.cells]
    if any(found is None for found in known) or any((recover_attempts(p) == 0).any() for p in pool.cells):
        return None
    available = np.array([[name in p.operators for name in pool.operators] for p in pool.cells])
    most = np.where(pool.available, pool.attempts, pool.attempts.max()).min(axis=0)
    for c, profiles in enumerate(pool.cells):
        own = [pool.operators.index(name) for name in profiles.operators]
        # A second attempt of a deterministic operator would be the same attempt.
        once = fixed_rates(profiles.operators, profiles.rates, pool.attempts[pool.cell == c][:, own])
        most[own] = np.where(once, 1, most[own])
    wrong, tries = pool.attempts - successes(pool.rates, pool.attempts), np.arange(most.max())
    known_here = pool.available[..., None] & (tries < most[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        fails = np.maximum(wrong[..., None] - tries, 0) / (pool.attempts[..., None] - tries)
    fails = np.where(known_here, fails, 1.0)  # what a cell lacks solves nothing there
    unsolved = np.pad(fails.cumprod(axis=2), ((0, 0), (0, 0), (1, 0)), constant_values=1.0)
    prices = np.array([[found.get(name, np.inf) for name in pool.operators] for found in known])
    return Outcomes(unsolved, most, prices, available, pool.cell)


def greedy(outcomes: Outcomes, rows: Bool[np.ndarray, "N"]) -> Order:
    """The order in which each next attempt solves most of the `rows` a position, until none solves any.

    Greedy in a submodular gain over its cost, as in Streeter and Golovin (NeurIPS 2008).
    """
    cells, unsolved = outcomes.cell[rows], outcomes.unsolved[rows]
    there = outcomes.available[cells]
    offered = there.any(axis=0)
    price = np.where(there, outcomes.prices[cells], 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    counts, still, order = np.zeros(len(offered), int), np.ones(len(unsolved)), []
    while True:
        gains = np.full(len(offered), -1.0)
        for o in np.flatnonzero(offered & (counts < outcomes.most)):
            gains[o] = (still * (1 - _again(unsolved, o, counts[o]))).sum() / price[o]
        best = int(gains.argmax())
        if gains[best] <= _GAIN:
            return tuple(order)
        still = still * _again(unsolved, best, counts[best])
        counts[best] += 1
        order.append(best)


def _again(unsolved: Float[np.ndarray, "M O A"], operator: int, made: int) -> Float[np.ndarray, "M"]:
    """Chance that one more attempt fails, where those that were made have."""
    before, after = unsolved[:, operator, made], unsolved[:, operator, made + 1]
    return np.divide(after, before, out=np.zeros(len(before)), where=before > 0)


def learn_orders(
    pool: Pool, outcomes: Outcomes, train: Bool[np.ndarray, "N"], choice: Int[np.ndarray, "N"]
) -> dict[str, dict[str, Order]]:
    """Orders by family (ANYWHERE: all of them), and in it by a router's choice where LEAST problems have it.

    SCHEDULE is the order for all failures of a family, which is known without reading one.
    """
    found = {}
    for family, name in ((-1, ANYWHERE), *enumerate(pool.families)):
        rows = train & ((pool.family == family) | (family < 0))
        if not rows.any():
            continue
        found[name] = {SCHEDULE: greedy(outcomes, rows)}
        for o, operator in enumerate(pool.operators):
            if (rows & (choice == o)).sum() >= LEAST:
                found[name][operator] = greedy(outcomes, rows & (choice == o))
    return found


def order_for(orders: Mapping[str, Mapping[str, Sequence]], family: str, choice: str) -> Sequence:
    """What follows a choice in a family: the order of both, or else that of the family, or else that of all."""
    own = orders.get(family, orders[ANYWHERE])
    return own.get(choice, own[SCHEDULE])


def named(
    orders: Mapping[str, Mapping[str, Order]], operators: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """What `learn_orders` found, with the names of operators."""
    return {
        family: {choice: [operators[o] for o in order] for choice, order in own.items()}
        for family, own in orders.items()
    }
