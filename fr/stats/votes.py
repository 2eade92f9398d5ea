"""Majority votes and the spread of answers, from counts of equal answers."""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import Float


def vote_rate(
    counts: Mapping[str, int], right: Collection, abstained: int, k: int
) -> float:
    """Probability that a plurality of k attempts chooses a right answer.

    The k attempts are drawn without replacement, as pass@k draws them; of t answers
    with the most votes, r of them right, one is chosen at random: E[r / t]. Attempts
    without an answer abstain; if all do, no answer is chosen. Exact, by a sum over the
    largest number of votes.

    Args:
        counts: Attempts by answer.
        right: The answers that are right.
        abstained: Attempts without an answer.
        k: Votes, at most the number of attempts.

    Returns:
        The probability.

    Raises:
        ValueError: There are fewer attempts than k, or k is not positive.
    """
    total = sum(counts.values()) + abstained
    if not 1 <= k <= total:
        raise ValueError(f"a vote of {k} among {total} attempts")
    most = range(1, min(k, max(counts.values(), default=0)) + 1)
    won = sum(_won(counts, right, total, k, votes) for votes in most)
    return won / math.comb(total, k)


def _won(
    counts: Mapping[str, int], right: Collection, total: int, k: int, most: int
) -> float:
    """Draws of k attempts, weighed by r / t, whose largest number of votes is `most`.

    `ways[n, t]` counts draws of n attempts with t answers of `most` votes, and
    `wins[n, t]` the same draws, each times its number of right ones.
    """
    able = {answer: count for answer, count in counts.items() if count >= most}
    # Answers that cannot have as many votes, and abstentions, are drawn freely.
    rest, ties = total - sum(able.values()), k // most
    ways, wins = np.zeros((k + 1, ties + 1)), np.zeros((k + 1, ties + 1))
    ways[:, 0] = [float(math.comb(rest, n)) for n in range(k + 1)]
    for answer, count in able.items():
        below = [float(math.comb(count, n)) for n in range(most)]
        chosen = float(math.comb(count, most))
        top, won = np.zeros((2, *ways.shape))
        top[most:, 1:] = chosen * ways[:-most, :-1]
        won[most:, 1:] = chosen * wins[:-most, :-1]
        ways, wins = _drawn(ways, below) + top, _drawn(wins, below) + won
        if answer in right:
            wins += top
    return float((wins[k, 1:] / np.arange(1, ties + 1)).sum())


def _drawn(ways: Float[np.ndarray, "K T"], counts: Sequence[float]) -> np.ndarray:
    """Ways after more attempts are drawn: `counts[n]` ways to draw n of them."""
    total = np.zeros_like(ways)
    for n, count in enumerate(counts):
        total[n:] += count * ways[: len(ways) - n]
    return total


def answer_entropy(answers: Sequence[Hashable]) -> float:
    """Entropy of the answers of one problem's attempts, -sum_a p_a log p_a.

    Args:
        answers: Answer of each attempt that has one.

    Returns:
        Nats; 0 for no answer. p_a are shares, so n attempts give at most log n.
    """
    shares = np.array(list(Counter(answers).values()), float) / max(len(answers), 1)
    return float(-(shares * np.log(shares)).sum())
