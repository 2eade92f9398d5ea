"""Selection among attempts: one answer is returned and nobody checks it, so no gold enters."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np


def plurality(answers: Sequence[str | None], generator: np.random.Generator) -> int | None:
    """Index of the first attempt with the most frequent answer; None (unparsed) abstains, ties are drawn.

    None if nobody votes.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return _drawn(list(answers), votes, generator)


def weighted(
    answers: Sequence[str | None], weights: Sequence[float], generator: np.random.Generator
) -> int | None:
    """Like `plurality`, votes counting their attempts' confidence: argmax_a Σ_i w_i 1[a_i = a] (arXiv 2508.15260)."""
    votes: dict[str, list[float]] = {}
    for answer, weight in zip(answers, weights):
        if answer is not None:
            votes.setdefault(answer, []).append(weight)
    # fsum: the same in any order of the attempts
    totals = {answer: math.fsum(own) for answer, own in votes.items()}
    return _drawn(list(answers), totals, generator)


def surest(
    answers: Sequence[str | None], weights: Sequence[float], generator: np.random.Generator
) -> int | None:
    """Best of n by confidence: the answer of the surest attempt that has one (after arXiv 2502.18581)."""
    most: dict[str, float] = {}
    for answer, weight in zip(answers, weights):
        if answer is not None:
            most[answer] = max(weight, most.get(answer, -math.inf))
    return _drawn(list(answers), most, generator)


def _drawn(answers: list[str | None], worth: dict[str, float], generator: np.random.Generator) -> int | None:
    """Index of the first attempt with the answer that is worth most; ties are drawn; None of no answer."""
    best = [answer for answer in worth if worth[answer] == max(worth.values())]
    return answers.index(best[generator.integers(len(best))]) if best else None
