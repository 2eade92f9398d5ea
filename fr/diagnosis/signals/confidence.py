"""Confidence in the own answer along a failed trace (arXiv 2605.24396), where `sampling.probe_cuts` asked for it.

A rollout without an answer of its own has none; probes cost positions, which its diagnosis is charged.
"""

import numpy as np

from fr.config import Config
from fr.diagnosis.signals.base import Failures, mean, mean_signal, signal
from fr.stats.calibration import premature


def _end_of(attempt, cut: int) -> float:
    known = attempt.confidence.get("own_probability")
    return np.nan if known is None else float(known[cut])


def _ranked(failures: Failures) -> tuple[np.ndarray, np.ndarray]:
    """Rank correlation with the cut and flatness of the trajectories there are."""
    known = [a.confidence.get("own_probability") for a in failures.attempts]
    known = [trajectory for trajectory in known if trajectory is not None]
    return premature(np.array(known)) if known else (np.zeros(0), np.zeros(0, bool))


@mean_signal("confidence_first", "confidence")
def confidence_first(attempt, config: Config) -> float:
    """Probability of the own answer before any reasoning."""
    return _end_of(attempt, 0)


@mean_signal("confidence_last", "confidence")
def confidence_last(attempt, config: Config) -> float:
    """Probability of the own answer behind all of the reasoning."""
    return _end_of(attempt, -1)


@signal("confidence_rho", "confidence")
def confidence_rho(failures: Failures, config: Config) -> float:
    """Mean Spearman correlation of confidence with its cut, of the trajectories that are not flat."""
    return mean(_ranked(failures)[0].tolist())


@signal("premature_share", "confidence")
def premature_share(failures: Failures, config: Config) -> float:
    """Share of the trajectories that are not flat and whose correlation is below `evaluation.premature`."""
    rho, flat = _ranked(failures)
    return mean((~flat & (rho < config.evaluation.premature)).tolist())


@signal("flat_share", "confidence")
def flat_share(failures: Failures, config: Config) -> float:
    """Share of the trajectories that do not move."""
    return mean(_ranked(failures)[1].tolist())
