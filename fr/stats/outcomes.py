"""Outcomes of attempts that are made one after the other, and what they cost."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.paired import Indexed, Walk

POINTS = 8  # of a curve
_DRAWS = 60_000  # orders of the failed attempts, over all problems ...
_FEWEST, _MOST = 32, 2048  # ... and of each of them


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Recorded attempts of each operator, drawn without replacement.

    The chance that the first k attempts all fail is an exact share (pass@k, arXiv
    2107.03374). The k failures cost what a random subset of the failed attempts
    costs, of which D orders are drawn: a right attempt costs something else than a
    wrong one of the same problem, and is the last. An operator that a cell lacks
    solves nothing there, at no cost.

    Attributes:
        unsolved: [N, O, A+1] chance that 0, 1, ... attempts all fail.
        most: [O] attempts for which that is known, at every problem.
        prices: [N, O] mean cost of an attempt.
        lost: [N, O, D, A+1] cost of the first 0, 1, ... failures.
        won: [N, O, D] cost of the right attempt that follows them.
        next_price: [N, O, A+1] expected cost of an attempt after k failures.
        weight: [N] how often each problem is met.
        once: [O] deterministic operators: retries follow their one attempt.
        retry: index of retry; None without it.
        recorded: whether every attempt has its own cost; else all have their mean.
        indexed: where operators share random keys, their attempts along orders of the
            indices. What mixes operators is read from these, as a mean over orders.
    """

    unsolved: Float[np.ndarray, "N O A"]
    most: Int[np.ndarray, "O"]
    prices: Float[np.ndarray, "N O"]
    lost: Float[np.ndarray, "N O D A"]
    won: Float[np.ndarray, "N O D"]
    next_price: Float[np.ndarray, "N O A"]
    weight: Float[np.ndarray, "N"]
    once: Bool[np.ndarray, "O"]
    retry: int | None
    recorded: bool
    indexed: Indexed | None = None

    def of(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"]) -> "Outcomes":
        """Select problems.

        Args:
            rows: their indices or a mask.

        Returns:
            The outcomes of these problems.
        """
        names = ("unsolved", "prices", "lost", "won", "next_price", "weight")
        cut = {name: getattr(self, name)[rows] for name in names}
        indexed = self.indexed and self.indexed.of(rows)
        return dataclasses.replace(self, **cut, indexed=indexed)

    def draws(
        self, order: Sequence[int], budgets: Float[np.ndarray, "N P"]
    ) -> Float[np.ndarray, "N P D"]:
        """Compute the chance that a budget pays for a right attempt, per drawn order.

        solved(b) = Σ_j P(the first j fail, the next is right) 1[their cost ≤ b]

        Args:
            order: operators in the order of their attempts.
            budgets: budgets of each problem.

        Returns:
            The chances.
        """
        count, draws = self.lost.shape[0], self.lost.shape[2]
        made = np.zeros(len(self.most), int)
        spent, still = np.zeros((count, draws), np.float32), np.ones(count)
        # Sums of costs: the last digit must not decide.
        limits = (np.asarray(budgets, np.float64) * (1 + 1e-6)).astype(np.float32)
        if self.indexed is not None and len({o for o in order if not self.once[o]}) > 1:
            return _walked(self.indexed, order, limits)
        found = np.zeros((count, limits.shape[1], draws), np.float32)
        for o in order:
            k = made[o]
            others = spent - self.lost[:, o, :, k]
            before, after = self.unsolved[:, o, k], self.unsolved[:, o, k + 1]
            rest = np.divide(after, before, out=np.zeros(count), where=before > 0)
            chance = (still * (1 - rest)).astype(np.float32)
            paid = (spent + self.won[:, o])[:, None] <= limits[..., None]
            found += chance[:, None, None] * paid
            still = still * rest
            made[o] += 1
            spent = others + self.lost[:, o, :, k + 1]
        return found

    def solved(
        self, order: Sequence[int], budgets: Float[np.ndarray, "N P"]
    ) -> Float[np.ndarray, "N P"]:
        """Average `draws` over the drawn orders.

        Args:
            order: operators in the order of their attempts.
            budgets: budgets of each problem.

        Returns:
            The chance that each budget solves each problem.
        """
        return self.draws(order, budgets).mean(axis=2, dtype=np.float64)

    def error(self, order: Sequence[int], budgets: Float[np.ndarray, "N P"]) -> float:
        """Compute the standard error of the weighted share that the draws leave.

        Args:
            order: operators in the order of their attempts.
            budgets: budgets of each problem.

        Returns:
            The largest over the budgets, as a share.
        """
        share = self.weight / self.weight.sum()
        drawn = self.draws(order, budgets)
        spread = drawn.var(axis=2, dtype=np.float64) / drawn.shape[2]
        return float(np.sqrt(share**2 @ spread).max())

    def alone(self, operator: int) -> tuple[int, ...]:
        """Repeat one operator as often as its attempts are known, then retry.

        Args:
            operator: its index. A deterministic one is tried once: a second attempt
                would be the same attempt. A live run does the same.

        Returns:
            The sequence.
        """
        own = (operator,) * int(self.most[operator])
        if not self.once[operator] or self.retry in (None, operator):
            return own
        return own + (self.retry,) * int(self.most[self.retry])

    def each(self, budgets: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N P O"]:
        """Compute what each operator alone solves.

        Args:
            budgets: budgets of each problem.

        Returns:
            The chance that each budget solves each problem.
        """
        alone = [self.alone(o) for o in range(len(self.most))]
        return np.stack([self.solved(order, budgets) for order in alone], axis=2)

    def budgets(self) -> Float[np.ndarray, "P"]:
        """Budgets in equal ratios, up to where the attempts at some problem run out.

        They start at the largest mean price of an operator.
        """
        there = self.prices > 0
        means = [
            self.prices[there[:, o], o].mean()
            for o in np.flatnonzero(there.any(axis=0))
        ]
        # One more attempt than were recorded is where the estimator ends.
        ends = (self.prices * (self.most + 1))[there & (self.most > 1)]
        last = np.nextafter(min(ends, default=2 * max(means)), 0)
        return np.geomspace(min(max(means), last), last, POINTS)


def _walked(
    attempts: Indexed, order: Sequence[int], limits: Float[np.ndarray, "N P"]
) -> Float[np.ndarray, "N P D"]:
    walk = Walk(attempts)
    found = np.zeros((*limits.shape, walk.still.shape[1]), np.float32)
    for o in order:
        if not walk.can(o):
            break
        won = walk.take(o)
        found += won[:, None] & (walk.spent[:, None] <= limits[..., None])
    return found


def number_of_draws(problems: int) -> int:
    """Choose how many orders of the failed attempts are drawn per problem.

    Args:
        problems: their number.

    Returns:
        An even number.
    """
    return 2 * int(np.clip(_DRAWS / problems, _FEWEST, _MOST) / 2)


def draw_costs(
    costs: Float[np.ndarray, "M B"],
    right: Bool[np.ndarray, "M B"],
    wrong: Bool[np.ndarray, "M B"],
    draws: int,
    longest: int,
    rng: np.random.Generator,
) -> tuple[
    Float[np.ndarray, "M D A"], Float[np.ndarray, "M D"], Float[np.ndarray, "M A1"]
]:
    """Draw what k failures cost, and the right attempt that follows them.

    The orders come in pairs: the failures of the second are in the opposite order, so
    that early costs of one are late costs of the other. Right attempts are drawn by
    strata.

    Args:
        costs: of each attempt at each problem; 0 where there is none.
        right: right attempts.
        wrong: wrong attempts.
        draws: orders, D.
        longest: attempts of a sequence, A.
        rng: random stream.

    Returns:
        Cost of the first 1, 2, ... failures, of the right attempt (0 without one), and
        the expected cost of an attempt after 0, 1, ... failures.
    """
    half = max(1, draws // 2)
    keys = np.where(wrong[:, None], rng.random((len(costs), half, costs.shape[1])), 2.0)
    order = keys.argsort(axis=2)
    number = wrong.sum(axis=1)
    place = np.broadcast_to(np.arange(costs.shape[1]), order.shape)
    count = number[:, None, None]
    back = np.where(place < count, count - 1 - place, place)
    order = np.concatenate([order, np.take_along_axis(order, back, axis=2)], axis=1)
    failed = np.where(wrong, costs, 0.0)[:, None]
    taken = np.take_along_axis(failed, order[:, :draws], axis=2)[..., :longest]
    wide = ((0, 0), (0, 0), (0, max(0, longest - taken.shape[2])))
    lost = np.pad(taken, wide).cumsum(axis=2)
    # The right attempt, by strata of its cost.
    found = right.sum(axis=1)
    ranked = np.sort(np.where(right, costs, np.inf), axis=1)
    strata = rng.random((len(costs), draws)).argsort(axis=1)
    place = (strata + rng.random((len(costs), draws))) / draws * found[:, None]
    place = np.minimum(place.astype(int), np.maximum(found - 1, 0)[:, None])
    won = np.take_along_axis(ranked, place, axis=1)
    won = np.where(found[:, None] > 0, won, 0.0)
    # The mean cost of the attempts that are left after k failures.
    each = np.where(wrong, costs, 0.0).sum(axis=1) / np.maximum(number, 1)
    left = np.maximum(number[:, None] - np.arange(longest + 1), 0)
    total = np.where(right, costs, 0.0).sum(axis=1)[:, None] + left * each[:, None]
    open_ = left + found[:, None]
    made = right | wrong
    mean = np.where(made, costs, 0.0).sum(axis=1) / made.sum(axis=1)
    later = np.where(open_ > 0, total / np.maximum(open_, 1), mean[:, None])
    return lost, won, later
