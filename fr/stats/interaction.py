"""Test of operator × problem variance: without it there is nothing to route."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, gammaln

from fr.stats.bootstrap import Interval
from fr.stats.paired import apart_within

# sd of the interaction, in logits
_SDS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
_SPLITS = 5  # of the indices over operators that share random keys
_TABLES = 200  # simulated at each of them
_STEPS = 20  # of Newton, for the operators' effects
_LARGEST = 4.0  # logits between an operator and the mean operator
_ATTEMPTS = 600  # of a problem, whose chances of any total are numbers of float64


@dataclasses.dataclass(frozen=True)
class Interaction:
    """Result of the test.

    Attributes:
        statistic: T of the table.
        null: mean of T under the null.
        p: one-sided p-value.
        sd: sd of the interaction, in logits.
        headroom: mean rate of a perfect router minus the best fixed operator's, as
            shares of attempts.
    """

    statistic: float
    null: float
    p: float
    sd: Interval
    headroom: Interval


def interaction(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
    headroom: bool = True,
) -> Interaction:
    """Test whether operators differ alike on every problem, by parametric bootstrap.

    Null: logit p[n, o] = problem[n] + operator[o]. The score of the interaction's
    variance at 0 is T = Σ (c[n, o] − E[c[n, o] | Σ_o c[n, o]])². Tables of the null are
    drawn given the number of right attempts at each problem, which is sufficient for
    the problem's effect: p does not depend on the spread of those effects. Operators'
    effects are fitted by conditional maximum likelihood, and again, in one step, in
    each drawn table. The interval of the sd holds all sds under which T is in neither
    2.5 % tail; the headroom's follows from it. Attempts must be independent: where
    operators share random keys, see `interaction_apart`.

    Args:
        correct: right attempts of each problem and operator.
        attempts: all attempts; each at least 1. No deterministic operators.
        draws: tables of the null; p is at least 1 / (draws + 1).
        rng: random stream.
        headroom: also compute the intervals of the sd and the headroom.

    Returns:
        The result.
    """
    rows, group = np.unique(attempts, axis=0, return_inverse=True)
    group = group.reshape(-1)
    null = _Null(_fit(correct, rows, group), rows, group)
    seen = float(null.statistic(correct[None])[0])
    drawn = null.statistic(null.draw(correct.sum(axis=1), draws, rng))
    p = (1 + int((drawn >= seen * (1 - 1e-9)).sum())) / (1 + draws)
    sd = points = Interval(0.0, 0.0, 0.0)
    if headroom:
        sd, points = _invert(null, correct, attempts, seen, float(drawn.mean()), rng)
    return Interaction(seen, float(drawn.mean()), p, sd, points)


def interaction_apart(
    right: Bool[np.ndarray, "N O A"],
    made: Bool[np.ndarray, "N O A"],
    draws: int,
    rng: np.random.Generator,
    headroom: bool = True,
) -> Interaction | None:
    """Test operators that share random keys, each index given to one of them.

    The test is made with several splits of the indices. p is twice their median, which
    stays valid for dependent splits; the rest are medians.

    Args:
        right: right attempts of each problem, operator and index.
        made: whether there is such an attempt.
        draws: tables of the null of each split.
        rng: random stream.
        headroom: also compute the intervals of the sd and the headroom.

    Returns:
        The result; None where an operator's part of the indices is empty.
    """
    found = []
    for _ in range(_SPLITS):
        correct, attempts = apart_within(right, made, rng)
        if (attempts == 0).any():
            return None
        found.append(interaction(correct, attempts, draws, rng, headroom))
    middle = lambda *path: float(
        np.median([functools.reduce(getattr, path, each) for each in found])
    )
    spans = (
        Interval(*(middle(name, end) for end in ("value", "low", "high")))
        for name in ("sd", "headroom")
    )
    p = min(1.0, 2 * middle("p"))
    return Interaction(middle("statistic"), middle("null"), p, *spans)


@dataclasses.dataclass(frozen=True)
class _Null:
    """Tables without an interaction."""

    effects: Float[np.ndarray, "O"]
    rows: Int[np.ndarray, "G O"]  # the different rows of attempts
    group: Int[np.ndarray, "N"]  # the row of each problem

    def draw(
        self, totals: Int[np.ndarray, "N"], draws: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "B N O"]:
        """Right attempts given each problem's total: noncentral hypergeometric."""
        each = [_weights(self.effects + t, self.rows) for t in self.tilts]
        # Operators after o, by their number of right attempts.
        rests = [[np.ones((len(self.rows), 1))] for _ in each]
        for weights, rest in zip(each, rests):
            for weight in weights[:0:-1]:
                rest.append(_convolve(rest[-1], weight))
        left = np.broadcast_to(totals, (draws, len(totals))).copy()
        operators = self.rows.shape[1]
        found = np.zeros((draws, len(totals), operators), int)
        for o in range(operators - 1):
            count = each[0][o].shape[1]
            chances = []
            for weights, rest in zip(each, rests):
                after = rest[operators - 1 - o]
                at = np.arange(count + after.shape[1] - 1)[:, None] - np.arange(count)
                inside = (at >= 0) & (at < after.shape[1])
                others = after[:, np.clip(at, 0, after.shape[1] - 1)]
                chance = np.where(inside, others, 0.0) * weights[o][:, None, :]
                chance = chance.cumsum(axis=-1)
                chances.append(chance / np.maximum(chance[..., -1:], 1e-300))
            chance = self._by_total(chances, self.rows[:, o:].sum(axis=1))
            uniform = rng.random(left.shape)
            for c in range(count - 1):
                found[..., o] += uniform > chance[self.group, left, c]
            left -= found[..., o]
        found[..., -1] = left
        return found

    def statistic(self, correct: Int[np.ndarray, "B N O"]) -> Float[np.ndarray, "B"]:
        """T of each table, its operators' effects moved by one Newton step."""
        mean, variance = self.moments()
        totals = correct.sum(axis=-1)
        residual = correct - mean[self.group, totals]
        spread = variance[self.group, totals]
        whole = np.maximum(spread.sum(axis=-1, keepdims=True), 1e-12)
        # Covariance of a row given its total: diag(v) − v vᵀ / Σ v.
        information = -np.einsum("bno,bnp->bop", spread / whole, spread)
        count = spread.shape[-1]
        information[:, np.arange(count), np.arange(count)] += spread.sum(axis=1)
        score = residual.sum(axis=1)
        step = np.einsum("bop,bp->bo", np.linalg.pinv(information), score)[:, None]
        moved = spread * (step - (spread * step).sum(axis=-1, keepdims=True) / whole)
        return ((residual - moved) ** 2).sum(axis=(1, 2))

    def moments(self) -> tuple[Float[np.ndarray, "G T O"], Float[np.ndarray, "G T O"]]:
        """Mean and variance of each operator's right attempts, by their total."""
        found = [self._moments(self.effects + tilt) for tilt in self.tilts]
        made = self.rows.sum(axis=1)
        mean, variance = (self._by_total(each, made) for each in zip(*found))
        return mean, variance

    @functools.cached_property
    def tilts(self) -> Float[np.ndarray, "K"]:
        """Logits that are added to all effects, so that no total's chance underflows.

        Given the total nothing depends on them. At the k-th the mean share of right
        attempts is (k + 1/2) / K.
        """
        count = 1 + int(self.rows.sum(axis=1).max()) // _ATTEMPTS
        if count == 1:
            return np.zeros(1)
        shares = (np.arange(count) + 0.5) / count
        made = self.rows.mean(axis=0)
        low, high = np.full(count, -50.0), np.full(count, 50.0)
        for _ in range(60):
            middle = (low + high) / 2
            mean = expit(self.effects + middle[:, None]) @ made / made.sum()
            low = np.where(mean < shares, middle, low)
            high = np.where(mean < shares, high, middle)
        return middle

    def _by_total(
        self, tilted: Sequence[Float[np.ndarray, "G T X"]], made: Int[np.ndarray, "G"]
    ) -> Float[np.ndarray, "G T X"]:
        """Take each total's values at the tilt whose mean is nearest to it."""
        if len(tilted) == 1:
            return tilted[0]
        total = np.arange(tilted[0].shape[1])
        nearest = len(tilted) * total // np.maximum(made, 1)[:, None]
        nearest = np.minimum(nearest, len(tilted) - 1)
        return np.stack(tilted)[nearest, np.arange(len(made))[:, None], total]

    def _moments(
        self, effects: Float[np.ndarray, "O"]
    ) -> tuple[Float[np.ndarray, "G T O"], Float[np.ndarray, "G T O"]]:
        weights = _weights(effects, self.rows)
        total = 1 + sum(weight.shape[1] - 1 for weight in weights)
        found = np.zeros((2, len(self.rows), total, len(weights)))
        before = [np.ones((len(self.rows), 1))]
        for weight in weights[:-1]:
            before.append(_convolve(before[-1], weight))
        after = np.ones((len(self.rows), 1))
        for o in range(len(weights) - 1, -1, -1):
            others, c = _convolve(before[o], after), np.arange(weights[o].shape[1])
            mass = np.maximum(_convolve(others, weights[o]), 1e-300)
            mean = _convolve(others, weights[o] * c) / mass
            found[0, :, :, o] = mean
            square = _convolve(others, weights[o] * c**2) / mass
            found[1, :, :, o] = np.maximum(square - mean**2, 0.0)
            after = _convolve(after, weights[o])
        return found[0], found[1]


def _weights(effects: np.ndarray, rows: np.ndarray) -> list[Float[np.ndarray, "_ _"]]:
    """C(m, c) exp(effect · c) per operator, scaled; 0 above a row's own attempts m."""
    found = []
    for effect, m in zip(effects, rows.T):
        c = np.arange(m.max() + 1)
        m = m[:, None]
        fewer = gammaln(np.maximum(m - c, 0) + 1)
        logs = gammaln(m + 1) - gammaln(c + 1) - fewer + effect * c
        logs = np.where(c <= m, logs, -np.inf)
        found.append(np.exp(logs - logs.max(axis=1, keepdims=True)))
    return found


def _convolve(
    one: Float[np.ndarray, "G A"], other: Float[np.ndarray, "G B"]
) -> Float[np.ndarray, "G C"]:
    """Products of polynomials, row by row."""
    found = np.zeros((len(one), one.shape[1] + other.shape[1] - 1))
    for i in range(other.shape[1]):
        found[:, i : i + one.shape[1]] += one * other[:, i : i + 1]
    return found


def _fit(
    correct: np.ndarray, rows: np.ndarray, group: np.ndarray
) -> Float[np.ndarray, "O"]:
    """Operators' effects by conditional maximum likelihood, their mean 0."""
    effects, totals = np.zeros(correct.shape[1]), correct.sum(axis=1)
    for _ in range(_STEPS):
        mean, variance = _Null(effects, rows, group).moments()
        residual = (correct - mean[group, totals]).sum(axis=0)
        spread = variance[group, totals]
        whole = np.maximum(spread.sum(axis=1, keepdims=True), 1e-12)
        information = np.diag(spread.sum(axis=0)) - (spread / whole).T @ spread
        step = np.linalg.pinv(information) @ residual
        effects = effects + step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-9))
        effects = np.clip(effects - effects.mean(), -_LARGEST, _LARGEST)
        if np.abs(step).max() < 1e-6:
            break
    return effects


def _invert(
    null: _Null, correct, attempts, seen: float, expected: float, rng
) -> tuple[Interval, Interval]:
    """Intervals of the sd and of the headroom: sds under which T is not surprising."""
    share = (correct.sum(axis=1) + 0.5) / (attempts.sum(axis=1) + 1)
    problem = np.log(share / (1 - share))[:, None]
    shape = (_TABLES, *correct.shape)
    normal, uniform = rng.normal(size=shape), rng.integers(2**63, size=2)
    middle, low, high, points = [], [], [], []
    for sd in _SDS:
        rates = 1 / (1 + np.exp(-(null.effects + problem + sd * normal)))
        # The same stream for each sd, so that quantiles grow with it.
        tables = np.random.default_rng(uniform).binomial(attempts, rates)
        values = null.statistic(tables)
        middle.append(values.mean())
        low.append(np.quantile(values, 0.025))
        high.append(np.quantile(values, 0.975))
        best = rates.mean(axis=(0, 1)).max()
        points.append(max(0.0, rates.max(axis=-1).mean() - best))
    scale = expected / max(middle[0], 1e-12)
    ends = []
    for drawn in (middle, high, low):
        grown = np.maximum.accumulate(scale * np.array(drawn))
        ends.append(float(np.interp(seen, grown, _SDS)))
    headroom = (float(np.interp(end, _SDS, points)) for end in ends)
    return Interval(*ends), Interval(*headroom)
