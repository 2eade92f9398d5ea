"""A rate over attempts, with the interval that resampling problems gives."""

from collections.abc import Iterable

import numpy as np
from scipy.stats import beta

from fr.config import Config
from fr.routing.bootstrap import estimate, resample_weights


def rate(problems: Iterable[str], hits: Iterable[bool], config: Config) -> dict[str, float]:
    """Share of hits among attempts, with a 95 % interval from a bootstrap over problems: {mean, low, high, n}.

    Where no resample differs, as with 0 of 12, a bootstrap has no width. The interval is
    then Clopper and Pearson's, with every problem as one trial, and `exact` is True.
    """
    names, index = np.unique(list(problems), return_inverse=True)
    if not len(names):
        return {"mean": None, "low": None, "high": None, "n": 0}
    attempts = np.bincount(index)
    right = np.bincount(index, weights=np.fromiter(hits, float))
    weights = resample_weights(len(names), config.routing.bootstrap, np.random.default_rng(config.seed))
    found = estimate((weights @ right) / (weights @ attempts), len(names))
    low, high = found.interval()
    told = {"mean": found.value, "low": max(low, 0.0), "high": min(high, 1.0), "n": int(attempts.sum())}
    if np.ptp(right / attempts) > 0:
        return told
    return told | dict(zip(("low", "high"), clopper_pearson(found.value, len(names)))) | {"exact": True}


def clopper_pearson(share: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rate of which `share` was seen in so many independent trials."""
    hits, tail = share * trials, (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high
