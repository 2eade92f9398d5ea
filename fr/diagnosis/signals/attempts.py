"""How often and how long a problem fails: the nuisances that every other column has to add something to."""

import numpy as np

from fr.config import Config
from fr.diagnosis.signals.base import Failures, mean, mean_signal, signal


@mean_signal("mean_length", "length", "nuisance")
def mean_length(attempt, config: Config) -> float:
    """Tokens of a failed rollout, its stop token included."""
    return len(attempt.tokens)


@mean_signal("truncated_share", "length", "nuisance")
def truncated_share(attempt, config: Config) -> float:
    """Share of the failed rollouts that spent their budget."""
    return attempt.truncated


@signal("failed_share", "failures", "nuisance")
def failed_share(failures: Failures, config: Config) -> float:
    """Share of a problem's rollouts that failed."""
    return len(failures.attempts) / failures.rollouts


@signal("length_sd", "length", "nuisance")
def length_sd(failures: Failures, config: Config) -> float:
    """Standard deviation of the failed rollouts' lengths, in tokens; NaN of a single one."""
    lengths = [len(attempt.tokens) for attempt in failures.attempts]
    centre = mean(lengths)
    return (
        np.sqrt(mean([(length - centre) ** 2 for length in lengths]))
        if len(lengths) > 1
        else np.nan
    )
