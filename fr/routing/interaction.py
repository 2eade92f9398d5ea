"""Is there anything to route? A test of operator × problem variance, and the headroom that it leaves possible."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from fr.config import Config
from fr.routing.attempts import deterministic, recover_attempts, successes
from fr.routing.bootstrap import holm, percent
from fr.routing.cells import stream
from fr.routing.profiles import Profiles

_SDS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)  # of the interaction, in logits
_TABLES = 200  # simulated at each of them
_STEPS = 20  # of Newton, for the operators' effects
_FEWEST = 5  # problems of a test
_LARGEST = 4.0  # logits between an operator and the mean operator


@dataclasses.dataclass(frozen=True)
class Interaction:
    """`statistic` beside its mean under the null, one-sided `p`; sd of the interaction in logits and the headroom
    of a perfect router over the best fixed operator (share of attempts), each as (value, low, high) at 95 %.
    """

    statistic: float
    null: float
    p: float
    sd: tuple[float, float, float]
    headroom: tuple[float, float, float]


def interaction(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
    headroom: bool = True,
) -> Interaction:
    """Parametric bootstrap test of logit p[n, o] = problem n + operator o against an interaction of the two.

    T = Σ (c[n, o] − E[c[n, o] | Σ_o c[n, o]])² is the score of the interaction's variance at 0. Tables of the null
    are drawn given every problem's number of right attempts, which the problem's effect is sufficient for: whatever
    the spread of those effects (overdispersion over problems included), p does not depend on it. The operators'
    effects are fitted by conditional maximum likelihood, and again, in one step, in every drawn table. Under the null
    one operator is best on every problem, and there is nothing to route.

    The interval of the interaction's sd, and with it that of the headroom, is of the sds under which T is not in
    either tail of 2.5 %. Attempts of the same random numbers for all operators make the test conservative.

    Args:
        correct: right attempts of every problem and operator.
        attempts: all attempts; each at least 1. Deterministic operators do not belong here.
        draws: tables of the null; p is at least 1 / (draws + 1).
    """
    rows, group = np.unique(attempts, axis=0, return_inverse=True)
    group = group.reshape(-1)
    effects = _fit(correct, rows, group)
    null = _Null(effects, rows, group)
    seen = float(null.statistic(correct[None])[0])
    drawn = null.statistic(null.draw(correct.sum(axis=1), draws, rng))
    p = (1 + int((drawn >= seen * (1 - 1e-9)).sum())) / (1 + draws)
    nothing = (0.0, 0.0, 0.0)
    sd, points = (
        _invert(null, correct, attempts, seen, float(drawn.mean()), rng) if headroom else (nothing, nothing)
    )
    return Interaction(seen, float(drawn.mean()), p, sd, points)


@dataclasses.dataclass(frozen=True)
class _Null:
    """Tables without an interaction: operators' effects, and the different rows of attempts (`group` of each)."""

    effects: Float[np.ndarray, "O"]
    rows: Int[np.ndarray, "G O"]
    group: Int[np.ndarray, "N"]

    def draw(self, totals: Int[np.ndarray, "N"], draws: int, rng) -> Int[np.ndarray, "B N O"]:
        """Right attempts given their number on every problem: noncentral multivariate hypergeometric."""
        weights = _weights(self.effects, self.rows)
        rest = [np.ones((len(self.rows), 1))]  # of the operators after o, by their number of right attempts
        for weight in weights[:0:-1]:
            rest.append(_convolve(rest[-1], weight))
        left = np.broadcast_to(totals, (draws, len(totals))).copy()
        found = np.zeros((draws, len(totals), len(weights)), int)
        for o, (weight, after) in enumerate(zip(weights[:-1], rest[::-1])):
            count = weight.shape[1]
            at = np.arange(weight.shape[1] + after.shape[1] - 1)[:, None] - np.arange(count)
            inside = (at >= 0) & (at < after.shape[1])
            chance = np.where(inside, after[:, np.clip(at, 0, after.shape[1] - 1)], 0.0) * weight[:, None, :]
            chance = chance.cumsum(axis=-1)
            chance /= np.maximum(chance[..., -1:], 1e-300)
            uniform = rng.random(left.shape)
            for c in range(count - 1):
                found[..., o] += uniform > chance[self.group, left, c]
            left -= found[..., o]
        found[..., -1] = left
        return found

    def statistic(self, correct: Int[np.ndarray, "B N O"]) -> Float[np.ndarray, "B"]:
        """T of every table, its operators' effects moved by one Newton step from these."""
        mean, variance = self.moments()
        totals = correct.sum(axis=-1)
        residual = correct - mean[self.group, totals]
        spread = variance[self.group, totals]
        whole = np.maximum(spread.sum(axis=-1, keepdims=True), 1e-12)
        # Covariance of a row given its total: diag(v) − v vᵀ / Σ v.
        information = -np.einsum("bno,bnp->bop", spread / whole, spread)
        count = spread.shape[-1]
        information[:, np.arange(count), np.arange(count)] += spread.sum(axis=1)
        step = np.einsum("bop,bp->bo", np.linalg.pinv(information), residual.sum(axis=1))[:, None]
        moved = spread * (step - (spread * step).sum(axis=-1, keepdims=True) / whole)
        return ((residual - moved) ** 2).sum(axis=(1, 2))

    def moments(self) -> tuple[Float[np.ndarray, "G T O"], Float[np.ndarray, "G T O"]]:
        """Mean and variance of every operator's right attempts, by their sum over the operators."""
        weights = _weights(self.effects, self.rows)
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
            found[1, :, :, o] = np.maximum(_convolve(others, weights[o] * c**2) / mass - mean**2, 0.0)
            after = _convolve(after, weights[o])
        return found[0], found[1]


def _weights(effects: np.ndarray, rows: np.ndarray) -> list[Float[np.ndarray, "G C"]]:
    """Of each operator, C(m, c) exp(effect c) for c = 0 ... its most attempts, scaled; 0 above a row's own."""
    found = []
    for effect, m in zip(effects, rows.T):
        c = np.arange(m.max() + 1)
        m = m[:, None]
        logs = gammaln(m + 1) - gammaln(c + 1) - gammaln(np.maximum(m - c, 0) + 1) + effect * c
        logs = np.where(c <= m, logs, -np.inf)
        found.append(np.exp(logs - logs.max(axis=1, keepdims=True)))
    return found


def _convolve(one: Float[np.ndarray, "G A"], other: Float[np.ndarray, "G B"]) -> Float[np.ndarray, "G A+B-1"]:
    """Products of polynomials, row by row."""
    found = np.zeros((len(one), one.shape[1] + other.shape[1] - 1))
    for i in range(other.shape[1]):
        found[:, i : i + one.shape[1]] += one * other[:, i : i + 1]
    return found


def _fit(correct: np.ndarray, rows: np.ndarray, group: np.ndarray) -> Float[np.ndarray, "O"]:
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


def _invert(null: _Null, correct, attempts, seen: float, expected: float, rng) -> tuple[tuple, tuple]:
    """(value, low, high) of the interaction's sd, and of the headroom: sds under which T is no surprise."""
    share = (correct.sum(axis=1) + 0.5) / (attempts.sum(axis=1) + 1)
    problem = np.log(share / (1 - share))[:, None]
    shape = (_TABLES, *correct.shape)
    normal, uniform = rng.normal(size=shape), rng.integers(2**63, size=2)
    middle, low, high, points = [], [], [], []
    for sd in _SDS:
        rates = 1 / (1 + np.exp(-(null.effects + problem + sd * normal)))
        # The same stream for each sd, so that quantiles grow with it.
        values = null.statistic(np.random.default_rng(uniform).binomial(attempts, rates))
        middle.append(values.mean())
        low.append(np.quantile(values, 0.025))
        high.append(np.quantile(values, 0.975))
        points.append(max(0.0, rates.max(axis=-1).mean() - rates.mean(axis=(0, 1)).max()))
    scale = expected / max(middle[0], 1e-12)
    grow = lambda values: np.maximum.accumulate(scale * np.array(values))
    ends = [float(np.interp(seen, grow(values), _SDS)) for values in (middle, high, low)]
    return tuple(ends), tuple(float(np.interp(end, _SDS, points)) for end in ends)


def describe_interaction(cells: Sequence[Profiles], config: Config) -> list[dict]:
    """One record a cell: p of "operators differ alike on every problem", with Holm's over the cells, and headroom.

    Deterministic operators and those without a second attempt anywhere are left out: all that they do differently on
    a problem would be called an interaction. Problems with unknown attempts are left out. `why`: no test, and why.
    """
    records = []
    for profiles in cells:
        attempts = recover_attempts(profiles)
        kept = ~deterministic(profiles) & (attempts.max(axis=0) > 1)
        known = (attempts[:, kept] > 0).all(axis=1)
        record = {
            "cell": profiles.cell,
            "problems": int(known.sum()),
            "operators": [name for name, keep in zip(profiles.operators, kept) if keep],
            "left_out": [name for name, keep in zip(profiles.operators, kept) if not keep],
            "why": None,
        }
        if kept.sum() < 2 or known.sum() < _FEWEST:
            few = "two operators of several attempts" if kept.sum() < 2 else f"{_FEWEST} problems of known attempts"
            records.append(record | {"why": f"needs {few}"})
            continue
        attempts = attempts[known][:, kept]
        correct = successes(profiles.rates[known][:, kept], attempts)
        rng = stream(profiles.cell, config, "interaction")
        found = interaction(correct, attempts, config.routing.nulls, rng)
        excess = found.statistic / found.null - 1 if found.null else np.nan
        record |= {"excess": percent(excess), "p": round(found.p, 6)}
        record["sd"] = dict(zip(("value", "low", "high"), (round(sd, 6) for sd in found.sd)))
        record["headroom"] = dict(zip(("value", "low", "high"), map(percent, found.headroom)))
        records.append(record)
    tested = [record for record in records if record["why"] is None]
    for record, p in zip(tested, holm([record["p"] for record in tested])):
        record["p_holm"] = round(p, 6)
    return records
