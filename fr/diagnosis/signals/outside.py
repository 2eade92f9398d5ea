"""What a checker of the game says of failed searches: outside truth, which a router at work does not have."""

from collections.abc import Callable, Sequence

import numpy as np

from fr.config import Config
from fr.diagnosis.signals.base import Failures, mean, signal

_OPERATIONS = "+-*/"


def _searched(name: str) -> Callable:
    """Decorator that files the mean of `read(played, words)` over the searches; `words` are those of the trace."""

    def add(read: Callable[[Sequence, int], float]) -> Callable:
        def over_searches(failures: Failures, config: Config) -> float:
            words = (len(attempt.text.split()) for attempt in failures.attempts)
            return mean([read(*each) for each in zip(failures.searches or (), words)])

        signal(name, "outside", "outside")(over_searches)
        return read

    return add


@_searched("true_steps")
def true_steps(played: Sequence, words: int) -> float:
    """Share of the steps whose arithmetic is right."""
    return np.mean([p.true for p in played]) if played else np.nan


@_searched("legal_moves")
def legal_moves(played: Sequence, words: int) -> float:
    """Share of the steps that use numbers which are there: validity (after arXiv 2505.20296)."""
    return np.mean([p.legal for p in played]) if played else np.nan


@_searched("revisited")
def revisited(played: Sequence, words: int) -> float:
    """Share of the legal steps that lead where the search has been: necessity is what is left of 1."""
    legal = [p.repeated for p in played if p.legal]
    return np.mean(legal) if legal else np.nan


@_searched("candidates")
def candidates(played: Sequence, words: int) -> float:
    """Number of candidates that the search came to: its thoughts."""
    return sum(p.candidate for p in played)


@_searched("underthinking")
def underthinking(played: Sequence, words: int) -> float:
    """UT = 1 − T̂ / T, T̂ ending with the first candidate that is right; 0 without one (arXiv 2501.18585).

    In words, which are tokens in the lineage of the package.
    """
    return next((1 - p.words / words for p in played if p.solves), 0.0)


@signal("missing_operations", "outside", "outside")
def missing_operations(failures: Failures, config: Config) -> float:
    """How many of the four operations no step of any failed rollout uses; NaN without a step."""
    used = {p.sign for played in failures.searches or () for p in played}
    return float(len(set(_OPERATIONS) - used)) if used else np.nan
