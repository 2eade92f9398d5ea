"""Repetition and switches of thought in failed traces."""

from fr.config import Config
from fr.diagnosis.signals.base import Failures, mean, mean_signal, signal
from fr.diagnosis.thoughts import left_early, repeated, thoughts


@mean_signal("repetition", "repetition")
def repetition(attempt, config: Config) -> float:
    """Share of a trace's n-grams of tokens, of `rewards.ngram` each, that it has had before."""
    return repeated(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@signal("thought_switches", "switches")
def thought_switches(failures: Failures, config: Config) -> float:
    """How often a trace leaves a thought."""
    return mean([len(thoughts(a.text, failures.switches)) - 1 for a in failures.attempts])


@signal("left_early_share", "switches")
def left_early_share(failures: Failures, config: Config) -> float:
    """Share of a trace's thoughts that are left within `rewards.thought_words` words (after arXiv 2501.18585)."""
    words = config.rewards.thought_words
    return mean([left_early(a.text, failures.switches, words) for a in failures.attempts])
