"""Repetition and switches of thought in failed traces; the words that switch are those of `rewards`."""

from fr.config import Config
from fr.diagnosis.signals.base import mean_signal
from fr.diagnosis.thoughts import left_early, repeated, thoughts


@mean_signal("repetition", "repetition")
def repetition(attempt, config: Config) -> float:
    """Share of a trace's n-grams of tokens that it has had before."""
    return repeated(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@mean_signal("thought_switches", "switches")
def thought_switches(attempt, config: Config) -> float:
    """How often a trace leaves a thought."""
    return len(thoughts(attempt.text, config.rewards.switch_words)) - 1


@mean_signal("left_early_share", "switches")
def left_early_share(attempt, config: Config) -> float:
    """Share of a trace's thoughts that are left within `rewards.thought_words` words (after arXiv 2501.18585)."""
    return left_early(attempt.text, config.rewards.switch_words, config.rewards.thought_words)
