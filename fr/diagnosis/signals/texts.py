"""Repetition, loops, common beginnings and switches of thought in failed traces."""

import itertools

import numpy as np

from fr.config import Config
from fr.diagnosis.features import (
    left_early,
    loop_length,
    repeated,
    repeated_end,
    thoughts,
)
from fr.diagnosis.signals.base import Failures, mean, mean_signal, signal


@mean_signal("repetition", "repetition")
def repetition(attempt, config: Config) -> float:
    """Share of a trace's n-grams of tokens, of `rewards.ngram` each, that it has had before."""
    return repeated(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@mean_signal("tail_repetition", "repetition")
def tail_repetition(attempt, config: Config) -> float:
    """The same of the n-grams that end in the last quarter: a trace that runs into a loop has them there."""
    return repeated_end(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@mean_signal("loop_share", "repetition")
def loop_share(attempt, config: Config) -> float:
    """Share of a trace that its end makes up, where that repeats one block of up to 256 tokens; 0 without a loop."""
    tokens = attempt.tokens[~attempt.forced]
    return loop_length(tokens) / max(len(tokens), 1)


@signal("common_prefix", "prefix")
def common_prefix(failures: Failures, config: Config) -> float:
    """Mean over pairs of failures of |common prefix| / |shorter one|, in tokens: 1 where they are the same.

    A mean over pairs, so that the number of failures does not matter; NaN of a single one.
    """
    rows = [attempt.tokens[~attempt.forced] for attempt in failures.attempts]
    return mean([_shared(one, other) for one, other in itertools.combinations(rows, 2)])


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    size = min(len(one), len(other))
    differs = one[:size] != other[:size]
    return (int(np.argmax(differs)) if differs.any() else size) / max(size, 1)


@signal("thought_switches", "switches")
def thought_switches(failures: Failures, config: Config) -> float:
    """How often a trace leaves a thought."""
    return mean(
        [len(thoughts(a.text, failures.switches)) - 1 for a in failures.attempts]
    )


@signal("left_early_share", "switches")
def left_early_share(failures: Failures, config: Config) -> float:
    """Share of a trace's thoughts that are left within `rewards.thought_words` words (after arXiv 2501.18585)."""
    words = config.rewards.thought_words
    return mean(
        [left_early(a.text, failures.switches, words) for a in failures.attempts]
    )
