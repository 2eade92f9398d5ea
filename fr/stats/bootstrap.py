"""Paired bootstrap over problems, and the one record of an interval."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import beta

LEVEL = 0.95  # of every interval
# Head of every JSON file with intervals.
HEADER = {"schema": 2, "unit": "percent", "level": LEVEL}
_DECIMALS = 6  # of a printed number: all machines agree on them


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; the only spelling of an interval in JSON.

    Attributes:
        value: the estimate, in the unit of its table; None where it is unknown.
        low: lower end; None where nothing was resampled.
        high: upper end; None where nothing was resampled.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """`{"value", "low", "high"}`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, float | None]) -> "Interval":
        """Read what `as_dict` gave.

        Args:
            stored: an object with exactly the three keys.

        Returns:
            The interval.

        Raises:
            ValueError: for other keys.
        """
        if stored.keys() != {"value", "low", "high"}:
            raise ValueError(f"not an interval: it has the keys {sorted(stored)}")
        return cls(**stored)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic, and the same statistic on every resample; differences are paired.

    A percentile interval of few problems is too narrow: its tails are read at Student's
    quantile, as in Hesterberg's expanded percentile interval (arXiv 1411.5279).

    Attributes:
        value: the statistic of the sample.
        samples: [R] the statistic of each resample; NaN where a resample leaves
            nothing to average.
        problems: number of problems that carry it (Kish's effective number if they
            have different weights).
    """

    value: float
    samples: Float[np.ndarray, "R"]
    problems: float

    def __sub__(self, other: "Estimate") -> "Estimate":
        carried = min(self.problems, other.problems)
        return Estimate(self.value - other.value, self.samples - other.samples, carried)

    def widened(self, factor: float) -> "Estimate":
        """Scale the distance of the resamples from the value.

        Args:
            factor: multiplies every distance.

        Returns:
            An estimate with the same value.
        """
        spread = factor * (self.samples - self.value)
        return dataclasses.replace(self, samples=self.value + spread)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Compute the expanded percentile interval.

        Args:
            level: coverage, in (0, 1).

        Returns:
            (low, high); NaN if no resample has a value.
        """
        found = self._known()
        if not len(found):
            return float("nan"), float("nan")
        tail = ndtr(-self._reach(level))
        low, high = np.quantile(found, (tail, 1 - tail))
        return float(low), float(high)

    @property
    def constant(self) -> bool:
        """True if the value and all resamples are 0: the two sides are the same."""
        return self.value == 0 and not self.samples.any()

    def percent(self) -> Interval:
        """The value and its interval, times 100."""
        return Interval(percent(self.value), *map(percent, self.interval()))

    def plain(self) -> Interval:
        """The value and its interval, in their own unit."""
        return Interval(*map(rounded, (self.value, *self.interval())))

    def p_value(self) -> float:
        """Two-sided p of "the value is 0", from the interval that just reaches 0.

        Where no resample reaches 0, the tail follows from the distance of the value to
        0, in standard deviations of the resamples. A count alone would give one p for
        all such values, and Holm's adjustment would take it above any level.

        Returns:
            p, above 0.
        """
        found = self._known()
        tail = min((found <= 0).sum(), (found >= 0).sum())
        # The sample counts as one of its resamples, so that p is never 0.
        reach = ndtri(min(0.5, (1 + tail) / (1 + len(found))))
        if not tail and found.std():
            reach = min(reach, -abs(self.value) / found.std())
        degrees = self._degrees()
        return float(2 * stdtr(degrees, reach / np.sqrt(1 + 1 / degrees)))

    def detectable(self, power: float = 0.8, level: float = LEVEL) -> float:
        """Compute the true value that a two-sided test finds, from the resamples' sd.

        Args:
            power: probability of finding it.
            level: 1 − level is the size of the test.

        Returns:
            The value, in the unit of the estimate; NaN with fewer than two resamples.
        """
        found = self._known()
        if len(found) < 2:
            return float("nan")
        return float((self._reach(level) + ndtri(power)) * found.std())

    def _known(self) -> np.ndarray:
        return self.samples[~np.isnan(self.samples)]

    def _degrees(self) -> float:
        return max(1.0, self.problems - 1)

    def _reach(self, level: float) -> float:
        degrees = self._degrees()
        quantile = stdtrit(degrees, (1 + level) / 2)
        return float(np.sqrt(1 + 1 / degrees) * quantile)


def difference_record(gap: Estimate) -> dict:
    """Describe a paired difference for a table.

    Args:
        gap: a difference of two estimates, as a share.

    Returns:
        {"interval", "p"} in points. If both sides are the same under every resample,
        nothing was measured: value 0, no interval and no p.
    """
    if gap.constant:
        return {"interval": Interval(0.0).as_dict()}
    interval = gap.percent()
    p = {} if interval.low is None else {"p": rounded(gap.p_value())}
    return {"interval": interval.as_dict(), **p}


def resample_weights(
    problems: int, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "R1 N"]:
    """Draw bootstrap resamples of exchangeable problems.

    Args:
        problems: their number, N.
        resamples: number of resamples, R.
        rng: random stream.

    Returns:
        Count of each problem in each resample. Row 0 is the sample itself, so that one
        expression computes the value and its resamples.
    """
    shares = np.full(problems, 1 / problems)
    drawn = rng.multinomial(problems, shares, size=resamples)
    return np.concatenate([np.ones((1, problems)), drawn])


def estimate(values: Float[np.ndarray, "R1"], problems: float) -> Estimate:
    """Make an estimate from the rows of `resample_weights`.

    Args:
        values: the statistic of the sample, then of each resample.
        problems: number of problems that carry it.

    Returns:
        The estimate.
    """
    return Estimate(float(values[0]), values[1:], problems)


def fold_correction(folds: int) -> float:
    """Compute the factor of a lift's standard error for choices learned in folds.

    Folds learn from each other's problems, so their results are correlated by about
    1 / K; the variance of their mean is 1 + K / (K − 1) times the independent one
    (doi 10.1023/A:1024068626366). Without the factor 8 % of simulated tables without a
    lift had one, on either side.

    Args:
        folds: number of folds, K.

    Returns:
        √(1 + K / (K − 1)).
    """
    return float(np.sqrt(1 + folds / (folds - 1)))


def percent(share: float) -> float | None:
    """Convert a share to percent, rounded to six decimals.

    Args:
        share: a share or a difference of shares.

    Returns:
        100 · share; None for NaN.
    """
    return None if np.isnan(share) else round(100 * float(share), _DECIMALS)


def rounded(value: float) -> float | None:
    """Round a number to the six decimals that tables store.

    Args:
        value: any number.

    Returns:
        The rounded number; None for NaN.
    """
    return None if np.isnan(value) else round(float(value), _DECIMALS)


def effective(weights: Float[np.ndarray, "N"]) -> float:
    """Compute Kish's effective number of problems, (Σ w)² / Σ w².

    Args:
        weights: weight of each problem.

    Returns:
        The number of equally weighted problems with the same variance.
    """
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust a family of p-values by Holm's step-down method.

    Args:
        p_values: the raw p-values.

    Returns:
        Adjusted p-values in the same order.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return [float(p) for p in adjusted]


def rate(
    problems: Iterable[str], hits: Iterable[bool], resamples: int, seed: int
) -> dict:
    """Estimate a share of hits among attempts, with a bootstrap over problems.

    If no resample differs, as for 0 of 12, the bootstrap has no width; the interval is
    then Clopper and Pearson's, with each problem as one trial, and `exact` is True.

    Args:
        problems: the problem of each attempt.
        hits: whether each attempt is a hit.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Returns:
        {"interval", "n"}: percent and the number of attempts; "exact" is True if the
        interval is exact.
    """
    names, index = np.unique(list(problems), return_inverse=True)
    if not len(names):
        return {"interval": Interval(None).as_dict(), "n": 0}
    attempts = np.bincount(index)
    right = np.bincount(index, weights=np.fromiter(hits, float))
    weights = resample_weights(len(names), resamples, np.random.default_rng(seed))
    found = estimate((weights @ right) / (weights @ attempts), len(names))
    exact = not np.ptp(right / attempts) > 0
    low, high = clopper_pearson(found.value, len(names)) if exact else found.interval()
    ends = Interval(percent(found.value), percent(max(low, 0)), percent(min(high, 1)))
    record = {"interval": ends.as_dict(), "n": int(attempts.sum())}
    return record | ({"exact": True} if exact else {})


def clopper_pearson(
    share: float, trials: int, level: float = LEVEL
) -> tuple[float, float]:
    """Compute the exact interval of a binomial rate.

    Args:
        share: observed share of hits.
        trials: number of independent trials.
        level: coverage.

    Returns:
        (low, high).
    """
    hits, tail = share * trials, (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high
