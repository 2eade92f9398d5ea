"""What attempts at failed problems do, one after the other, and what a budget of forward positions buys of them."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.costs import positions_of
from fr.routing.pool import Pool

_POINTS = 8  # of a curve
Order = tuple[int, ...]  # operators in the order of their trial


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Chances and prices of the attempts of each operator; what a cell lacks solves nothing there, for nothing."""

    unsolved: Float[
        np.ndarray, "N O A"
    ]  # that 0, 1, ... attempts all fail, unbiased (pass@k, arXiv 2107.03374)
    most: Int[np.ndarray, "O"]  # attempts for which that is known, of every problem
    prices: Float[np.ndarray, "N O"]  # mean forward positions of one; cheap failures are cheap to try again
    cell: Int[np.ndarray, "N"]

    def solved(self, order: Order, budget: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Chance that the attempts that a budget pays for solve a problem, made in this order."""
        spent = self.prices[:, order].cumsum(axis=1)
        # Sums of means: the last digit must not decide.
        paid = (spent <= np.asarray(budget)[:, None] * (1 + 1e-9)).sum(axis=1)
        made = np.zeros((len(order) + 1, len(self.most)), int)
        for i, o in enumerate(order):
            made[i + 1 :, o] += 1
        chances = np.take_along_axis(self.unsolved, made[paid][..., None], axis=2)
        return 1 - chances[..., 0].prod(axis=1)  # attempts are independent, given the problem

    def alone(self, operator: int) -> Order:
        """One operator, as often as its attempts tell of."""
        return (operator,) * int(self.most[operator])

    def each(self, budget: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N O"]:
        """Chance that a budget solves a problem by each operator alone."""
        operators = range(len(self.most))
        return np.column_stack([self.solved(self.alone(o), budget) for o in operators])

    def budgets(self) -> Float[np.ndarray, "P"]:
        """In equal ratios, from the dearest operator's mean attempt to where the attempts at some problem run out."""
        there = self.prices > 0
        means = [self.prices[there[:, o], o].mean() for o in np.flatnonzero(there.any(axis=0))]
        # One more attempt than were recorded is where the estimator ends.
        ends = (self.prices * (self.most + 1))[there & (self.most > 1)]
        last = np.nextafter(min(ends, default=2 * max(means)), 0)
        return np.geomspace(min(max(means), last), last, _POINTS)


def outcomes_of(pool: Pool) -> Outcomes | None:
    """Outcomes of all problems of a pool; None where attempts or costs are not known."""
    known = [positions_of(profiles) for profiles in pool.cells]
    if any(found is None for found in known) or any((recover_attempts(p) == 0).any() for p in pool.cells):
        return None
    most = np.where(pool.available, pool.attempts, pool.attempts.max()).min(axis=0)
    for c, profiles in enumerate(pool.cells):
        own = [pool.operators.index(name) for name in profiles.operators]
        # A second attempt of a deterministic operator would be the same attempt.
        most[own] = np.where(deterministic(profiles), 1, most[own])
    wrong, tries = pool.attempts - successes(pool.rates, pool.attempts), np.arange(most.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        fails = np.maximum(wrong[..., None] - tries, 0) / (pool.attempts[..., None] - tries)
    fails = np.where(pool.available[..., None] & (tries < most[:, None]), fails, 1.0)
    unsolved = np.pad(fails.cumprod(axis=2), ((0, 0), (0, 0), (1, 0)), constant_values=1.0)
    absent = [np.zeros(len(profiles)) for profiles in pool.cells]
    prices = [[found.get(name, no) for name in pool.operators] for found, no in zip(known, absent)]
    return Outcomes(unsolved, most, np.concatenate([np.stack(cell, axis=1) for cell in prices]), pool.cell)
