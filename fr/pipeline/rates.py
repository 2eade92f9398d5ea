"""A rate over attempts, with the interval that resampling problems gives."""

from collections.abc import Iterable

import numpy as np

from fr.config import Config
from fr.routing.bootstrap import estimate, resample_weights


def rate(problems: Iterable[str], hits: Iterable[bool], config: Config) -> dict[str, float]:
    """Share of hits among attempts, with a 95 % interval from a bootstrap over problems: {mean, low, high, n}."""
    names, index = np.unique(list(problems), return_inverse=True)
    if not len(names):
        return {"mean": None, "low": None, "high": None, "n": 0}
    attempts = np.bincount(index)
    right = np.bincount(index, weights=np.fromiter(hits, float))
    weights = resample_weights(len(names), config.routing.bootstrap, np.random.default_rng(config.seed))
    found = estimate((weights @ right) / (weights @ attempts), len(names))
    low, high = found.interval()
    return {"mean": found.value, "low": max(low, 0.0), "high": min(high, 1.0), "n": int(attempts.sum())}
