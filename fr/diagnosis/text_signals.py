"""Signals of answers and texts of failures, and outside truth about their steps."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from fr.config import Config
from fr.diagnosis.features import (
    left_early,
    loop_length,
    repeated,
    repeated_end,
    thoughts,
)
from fr.diagnosis.signals import (
    Failures,
    Search,
    mean,
    register_mean_signal,
    register_signal,
)
from fr.store import Attempt

_OPERATIONS = "+-*/"


# --------------------------------------------------------------------- answers
def _counts(failures: Failures) -> list[int]:
    """Number of rollouts per answer, largest first; empty below two answers."""
    counts = Counter(answer for answer in failures.answers if answer is not None)
    return sorted(counts.values(), reverse=True) if counts.total() > 1 else []


@register_signal("unparsed_share", "answers")
def unparsed_share(failures: Failures, config: Config) -> float:
    """Share of the failed rollouts without a readable answer."""
    return mean([answer is None for answer in failures.answers])


@register_signal("answer_agreement", "answers")
def answer_agreement(failures: Failures, config: Config) -> float:
    """sum_a n_a (n_a - 1) / (n (n - 1)): the chance that two rollouts agree.

    It is unbiased, so that its mean does not depend on the number of rollouts n.
    """
    counts = _counts(failures)
    total = sum(counts)
    return (
        sum(n * (n - 1) for n in counts) / (total * (total - 1)) if counts else np.nan
    )


@register_signal("answer_plurality", "answers")
def answer_plurality(failures: Failures, config: Config) -> float:
    """max_a n_a / n: the share of the most common answer."""
    counts = _counts(failures)
    return counts[0] / sum(counts) if counts else np.nan


@register_signal("answer_entropy", "answers")
def answer_entropy(failures: Failures, config: Config) -> float:
    """-sum_a (n_a / n) log(n_a / n), in nats; at most the log of their number."""
    share = np.array(_counts(failures)) / max(sum(_counts(failures)), 1)
    return max(0.0, -float(share @ np.log(share))) if len(share) else np.nan


@register_signal("answer_kinds", "answers")
def answer_kinds(failures: Failures, config: Config) -> float:
    """Number of different answers."""
    return float(len(set(failures.answers) - {None}))


# ---------------------------------------------- repetition and switches of thought
@register_mean_signal("repetition", "repetition")
def repetition(attempt: Attempt, config: Config) -> float:
    """Share of a trace's n-grams, of `rewards.ngram` tokens, that occurred before."""
    return repeated(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@register_mean_signal("tail_repetition", "repetition")
def tail_repetition(attempt: Attempt, config: Config) -> float:
    """Repetition among the n-grams that end in the last quarter: high in a loop."""
    return repeated_end(attempt.tokens[~attempt.forced].tolist(), config.rewards.ngram)


@register_mean_signal("loop_share", "repetition")
def loop_share(attempt: Attempt, config: Config) -> float:
    """Share of a trace that repeats one block, <= 256 tokens, at its end."""
    tokens = attempt.tokens[~attempt.forced]
    return loop_length(tokens) / max(len(tokens), 1)


@register_signal("common_prefix", "prefix")
def common_prefix(failures: Failures, config: Config) -> float:
    """Mean over pairs of |common prefix| / |shorter trace|, in tokens; NaN of one.

    As a mean over pairs it does not depend on the number of failures.
    """
    rows = [attempt.tokens[~attempt.forced] for attempt in failures.attempts]
    return mean([_shared(one, other) for one, other in itertools.combinations(rows, 2)])


def _shared(one: Int[np.ndarray, "T"], other: Int[np.ndarray, "U"]) -> float:
    size = min(len(one), len(other))
    differs = one[:size] != other[:size]
    return (int(np.argmax(differs)) if differs.any() else size) / max(size, 1)


@register_signal("thought_switches", "switches")
def thought_switches(failures: Failures, config: Config) -> float:
    """Mean number of times that a trace leaves a thought for another."""
    return mean(
        [len(thoughts(a.text, failures.switches)) - 1 for a in failures.attempts]
    )


@register_signal("left_early_share", "switches")
def left_early_share(failures: Failures, config: Config) -> float:
    """Share of thoughts left within `rewards.thought_words` words (2501.18585)."""
    words = config.rewards.thought_words
    return mean(
        [left_early(a.text, failures.switches, words) for a in failures.attempts]
    )


# ------------------------------------- outside truth: a checker replays the searches
ReadSearch = Callable[[Search, int], float]


def register_search_signal(name: str) -> Callable[[ReadSearch], ReadSearch]:
    """Register the mean over searches of `read(played, words)`, of kind outside.

    Args:
        name: Column of the profile.

    Returns:
        A decorator that returns the function unchanged; it gets the replayed steps of
        one attempt and the number of words of its text.
    """

    def add(read: ReadSearch) -> ReadSearch:
        def over_searches(failures: Failures, config: Config) -> float:
            words = (len(attempt.text.split()) for attempt in failures.attempts)
            return mean([read(*each) for each in zip(failures.searches or (), words)])

        register_signal(name, "outside", "outside")(over_searches)
        return read

    return add


@register_search_signal("true_steps")
def true_steps(played: Search, words: int) -> float:
    """Share of the steps whose arithmetic is right."""
    return float(np.mean([p.true for p in played])) if played else np.nan


@register_search_signal("legal_moves")
def legal_moves(played: Search, words: int) -> float:
    """Share of the steps whose operands are on the board: validity (2505.20296)."""
    return float(np.mean([p.legal for p in played])) if played else np.nan


@register_search_signal("revisited")
def revisited(played: Search, words: int) -> float:
    """Share of the legal steps that lead to an earlier state; 1 - necessity."""
    legal = [p.repeated for p in played if p.legal]
    return float(np.mean(legal)) if legal else np.nan


@register_search_signal("candidates")
def candidates(played: Search, words: int) -> float:
    """Number of candidates that the search came to: its thoughts."""
    return sum(p.candidate for p in played)


@register_search_signal("underthinking")
def underthinking(played: Search, words: int) -> float:
    """UT = 1 - T' / T, T' = words up to the first right candidate; 0 without one.

    Words are tokens in the lineage of the package (arXiv 2501.18585).
    """
    return next((1 - p.words / words for p in played if p.solves), 0.0)


@register_signal("missing_operations", "outside", "outside")
def missing_operations(failures: Failures, config: Config) -> float:
    """Number of the four operations that no step of any failure uses; NaN: no step."""
    used = {p.sign for played in failures.searches or () for p in played}
    return float(len(set(_OPERATIONS) - used)) if used else np.nan
