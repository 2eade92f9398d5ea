"""What attempts at failed problems do, one after the other, and what a budget buys of them."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.costs import positions_of
from fr.routing.pool import Pool
from fr.routing.recorded import FORWARD, Recorded

_POINTS = 8  # of a curve
_DRAWS = 60_000  # orders of the failed attempts, over all problems ...
_FEWEST, _MOST = 32, 2048  # ... and of each of them
Order = tuple[int, ...]  # operators in the order of their trial


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Attempts of each operator as they were recorded, drawn without replacement.

    A right attempt costs something else than a wrong one of the same problem, and is
    the last. Whether the first k attempts all fail is an exact share. What those k
    failures took in sum is that of a random subset of the failed attempts, of which D
    orders are drawn. Where only mean prices are known, every attempt costs the mean.
    What a cell lacks solves nothing there, for nothing.
    """

    # That 0, 1, ... attempts all fail, unbiased (pass@k, arXiv 2107.03374).
    unsolved: Float[np.ndarray, "N O A"]
    most: Int[np.ndarray, "O"]  # attempts for which that is known, of every problem
    prices: Float[np.ndarray, "N O"]  # mean cost of an attempt
    lost: Float[np.ndarray, "N O D A"]  # what the first 0, 1, ... failures took
    won: Float[np.ndarray, "N O D"]  # what the right attempt behind them takes
    next_price: Float[np.ndarray, "N O A"]  # expected, of an attempt behind k failures
    weight: Float[np.ndarray, "N"]  # how often each problem is met
    cell: Int[np.ndarray, "N"]
    once: Bool[np.ndarray, "O"]  # deterministic: retries follow its one attempt
    retry: int | None
    recorded: bool  # whether every attempt has its own cost

    def of(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"]) -> "Outcomes":
        """Of some of the problems."""
        names = ("unsolved", "prices", "lost", "won", "next_price", "weight", "cell")
        cut = {name: getattr(self, name)[rows] for name in names}
        return dataclasses.replace(self, **cut)

    def draws(
        self, order: Order, budgets: Float[np.ndarray, "N P"]
    ) -> Float[np.ndarray, "N P D"]:
        """Chance that a budget pays for a right attempt, given what failures take.

        solved(b) = Σ_j P(the first j fail, the next is right) 1[their cost ≤ b]
        """
        count, draws = self.lost.shape[0], self.lost.shape[2]
        made = np.zeros(len(self.most), int)
        spent, still = np.zeros((count, draws), np.float32), np.ones(count)
        # Sums of costs: the last digit must not decide.
        limits = (np.asarray(budgets, np.float64) * (1 + 1e-6)).astype(np.float32)
        found = np.zeros((count, limits.shape[1], draws), np.float32)
        for o in order:
            k = made[o]
            others = spent - self.lost[:, o, :, k]
            rest = np.divide(
                self.unsolved[:, o, k + 1],
                self.unsolved[:, o, k],
                out=np.zeros(count),
                where=self.unsolved[:, o, k] > 0,
            )
            chance = (still * (1 - rest)).astype(np.float32)
            paid = (spent + self.won[:, o])[:, None] <= limits[..., None]
            found += chance[:, None, None] * paid
            still = still * rest
            made[o] += 1
            spent = others + self.lost[:, o, :, k + 1]
        return found

    def solved(
        self, order: Order, budget: Float[np.ndarray, "N"]
    ) -> Float[np.ndarray, "N"]:
        """Chance that a budget a problem solves it by attempts in this order."""
        return self.curve(order, np.asarray(budget, float)[:, None])[:, 0]

    def curve(
        self, order: Order, budgets: Float[np.ndarray, "N P"]
    ) -> Float[np.ndarray, "N P"]:
        """The same for several budgets."""
        return self.draws(order, budgets).mean(axis=2, dtype=np.float64)

    def error(self, order: Order, budgets: Float[np.ndarray, "N P"]) -> float:
        """Standard error of the weighted share solved, by the draws; its largest."""
        share = self.weight / self.weight.sum()
        drawn = self.draws(order, budgets)
        spread = drawn.var(axis=2, dtype=np.float64) / drawn.shape[2]
        return float(np.sqrt(share**2 @ spread).max())

    def alone(self, operator: int) -> Order:
        """One operator, as often as its attempts tell of; then retries if it has one.

        That is what a live run does: a second attempt would be the same attempt.
        """
        own = (operator,) * int(self.most[operator])
        if not self.once[operator] or self.retry in (None, operator):
            return own
        return own + (self.retry,) * int(self.most[self.retry])

    def each(self, budget: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N O"]:
        """Chance that a budget solves a problem by each operator alone."""
        operators = range(len(self.most))
        return np.column_stack([self.solved(self.alone(o), budget) for o in operators])

    def budgets(self) -> Float[np.ndarray, "P"]:
        """In equal ratios, from the dearest operator's mean attempt to where the
        attempts at some problem run out.
        """
        there = self.prices > 0
        means = [
            self.prices[there[:, o], o].mean()
            for o in np.flatnonzero(there.any(axis=0))
        ]
        # One more attempt than were recorded is where the estimator ends.
        ends = (self.prices * (self.most + 1))[there & (self.most > 1)]
        last = np.nextafter(min(ends, default=2 * max(means)), 0)
        return np.geomspace(min(max(means), last), last, _POINTS)


def outcomes_of(pool: Pool, axis: str = FORWARD) -> Outcomes | None:
    """Outcomes of all problems of a pool, with costs on an axis of AXES.

    None where attempts or costs are not known. The draws are the same for the same pool.
    """
    known = [positions_of(profiles, axis) for profiles in pool.cells]
    once = np.zeros(len(pool.operators), bool)
    most = np.where(pool.available, pool.attempts, pool.attempts.max()).min(axis=0)
    for profiles, costs in zip(pool.cells, known):
        own = [pool.operators.index(name) for name in profiles.operators]
        same = deterministic(profiles)
        once[own] |= same
        most[own] = np.where(same, 1, most[own])
        if costs is None or (recover_attempts(profiles)[:, ~same] == 0).any():
            return None
    prices = np.zeros(pool.rates.shape)
    for c, (profiles, costs) in enumerate(zip(pool.cells, known)):
        for name in profiles.operators:
            prices[pool.cell == c, pool.operators.index(name)] = costs[name]
    tries = np.arange(most.max())
    wrong = _wrong(pool, once)
    with np.errstate(invalid="ignore", divide="ignore"):
        fails = np.maximum(wrong[..., None] - tries, 0) / (
            pool.attempts[..., None] - tries
        )
    fails = np.where(pool.available[..., None] & (tries < most[:, None]), fails, 1.0)
    start = ((0, 0), (0, 0), (1, 0))
    unsolved = np.pad(fails.cumprod(axis=2), start, constant_values=1.0)
    recorded = all(_has_costs(profiles.recorded, axis) for profiles in pool.cells)
    lost, won, later = _drawn(pool, axis, prices, most)
    return Outcomes(
        unsolved,
        most,
        prices,
        lost,
        won,
        later,
        pool.weight,
        pool.cell,
        once,
        pool.operators.index("retry") if "retry" in pool.operators else None,
        recorded,
    )


def _wrong(pool: Pool, once: Bool[np.ndarray, "O"]) -> Float[np.ndarray, "N O"]:
    """Failed attempts; of a deterministic operator its one attempt's chance of them."""
    counts = pool.attempts - successes(pool.rates, pool.attempts)
    return np.where(once, (1 - pool.rates) * pool.attempts, counts)


def _has_costs(recorded: Recorded | None, axis: str) -> bool:
    return recorded is not None and recorded.knows(axis)


def _drawn(
    pool: Pool, axis: str, prices: Float[np.ndarray, "N O"], most: Int[np.ndarray, "O"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What k failures took, what the right attempt behind them takes, and the expected
    price of an attempt behind k failures.

    The draws come in pairs: the failures of the second are in the order opposite to the
    first's, so that what the one has spent early the other spends late. Right attempts
    are drawn by strata.
    """
    count, operators, longest = len(pool), len(pool.operators), int(most.max())
    own = [_has_costs(profiles.recorded, axis) for profiles in pool.cells]
    draws = 2 * int(np.clip(_DRAWS / count, _FEWEST, _MOST) / 2) if any(own) else 1
    lost = np.zeros((count, operators, draws, longest + 1), np.float32)
    lost[..., 1:] = (
        prices[..., None, None] * np.arange(1, longest + 1)[None, None, None]
    )
    won = np.repeat(prices[..., None], draws, axis=2).astype(np.float32)
    later = np.repeat(prices[..., None], longest + 1, axis=2)
    for c, profiles in enumerate(pool.cells):
        if not own[c]:
            continue
        rng, found = np.random.default_rng(c), profiles.recorded
        rows = np.flatnonzero(pool.cell == c)
        for o, name in enumerate(profiles.operators):
            at = pool.operators.index(name)
            right = found.made[:, o] & found.right[:, o]
            wrong = found.made[:, o] & ~found.right[:, o]
            costs = np.where(found.made[:, o], found.costs[axis][:, o], 0.0)
            lost[rows, at, :, 1:] = _sums(costs, wrong, draws, longest, rng)
            won[rows, at] = _picked(costs, right, draws, rng)
            later[rows, at] = _expected(costs, right, wrong, longest)
    return lost, won, later


def _sums(costs, wrong, draws: int, longest: int, rng) -> Float[np.ndarray, "M D A"]:
    """Sums of the first 1, 2, ... failures in each of the drawn orders."""
    half = max(1, draws // 2)
    keys = np.where(wrong[:, None], rng.random((len(costs), half, costs.shape[1])), 2.0)
    order = keys.argsort(axis=2)
    number = wrong.sum(axis=1)[:, None, None]
    place = np.broadcast_to(np.arange(costs.shape[1]), order.shape)
    back = np.where(place < number, number - 1 - place, place)
    order = np.concatenate([order, np.take_along_axis(order, back, axis=2)], axis=1)
    taken = np.take_along_axis(
        np.where(wrong, costs, 0.0)[:, None], order[:, :draws], axis=2
    )[..., :longest]
    wide = ((0, 0), (0, 0), (0, max(0, longest - taken.shape[2])))
    return np.pad(taken, wide).cumsum(axis=2)


def _picked(costs, right, draws: int, rng) -> Float[np.ndarray, "M D"]:
    """A right attempt's cost in every draw; 0 where none is right."""
    number = right.sum(axis=1)
    ranked = np.sort(np.where(right, costs, np.inf), axis=1)
    strata = rng.random((len(costs), draws)).argsort(axis=1)
    place = (strata + rng.random((len(costs), draws))) / draws * number[:, None]
    last = np.maximum(number - 1, 0)[:, None]
    picked = np.take_along_axis(ranked, np.minimum(place.astype(int), last), axis=1)
    return np.where(number[:, None] > 0, picked, 0.0)


def _expected(costs, right, wrong, longest: int) -> Float[np.ndarray, "M A"]:
    """Mean cost of the attempts that are left behind k failures."""
    number = wrong.sum(axis=1)
    each = np.where(wrong, costs, 0.0).sum(axis=1) / np.maximum(number, 1)
    left = np.maximum(number[:, None] - np.arange(longest + 1), 0)
    total = np.where(right, costs, 0.0).sum(axis=1)[:, None] + left * each[:, None]
    open_ = left + right.sum(axis=1)[:, None]
    mean = np.where(right | wrong, costs, 0.0).sum(axis=1) / (right | wrong).sum(axis=1)
    return np.where(open_ > 0, total / np.maximum(open_, 1), mean[:, None])
