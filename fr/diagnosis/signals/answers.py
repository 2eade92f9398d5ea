"""Whether a problem's failed rollouts end in the same answer; those that were not parsed have none."""

from collections import Counter

import numpy as np

from fr.config import Config
from fr.diagnosis.signals.base import Failures, mean, signal


def _counts(failures: Failures) -> list[int]:
    """How often each answer was given, most often first; nothing where there are no two to compare."""
    counts = Counter(answer for answer in failures.answers if answer is not None)
    return sorted(counts.values(), reverse=True) if counts.total() > 1 else []


@signal("unparsed_share", "answers")
def unparsed_share(failures: Failures, config: Config) -> float:
    """Share of the failed rollouts without a readable answer."""
    return mean([answer is None for answer in failures.answers])


@signal("answer_agreement", "answers")
def answer_agreement(failures: Failures, config: Config) -> float:
    """Chance that two of the rollouts give the same answer: unbiased, so that their number does not matter."""
    counts = _counts(failures)
    total = sum(counts)
    return (
        sum(n * (n - 1) for n in counts) / (total * (total - 1)) if counts else np.nan
    )


@signal("answer_plurality", "answers")
def answer_plurality(failures: Failures, config: Config) -> float:
    """Share of the answer that was given most often."""
    counts = _counts(failures)
    return counts[0] / sum(counts) if counts else np.nan


@signal("answer_entropy", "answers")
def answer_entropy(failures: Failures, config: Config) -> float:
    """Entropy of the distribution of answers, in nats; at most the log of their number."""
    share = np.array(_counts(failures)) / max(sum(_counts(failures)), 1)
    return max(0.0, -float(share @ np.log(share))) if len(share) else np.nan


@signal("answer_kinds", "answers")
def answer_kinds(failures: Failures, config: Config) -> float:
    """Number of different answers."""
    return float(len(set(failures.answers) - {None}))
