"""One score from several attempts: pass@k, and the choice of one answer by vote."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped


def pass_at_k(
    right: Shaped[np.ndarray, "N"] | Sequence[float], n: int, k: int
) -> Float[np.ndarray, "_"]:
    """Estimate the probability that one of k attempts is right (arXiv 2107.03374).

    Unbiased: 1 − C(n − c, k) / C(n, k), in whole numbers up to the one division.

    Args:
        right: number of right attempts at each problem, c.
        n: attempts at each problem.
        k: attempts of a draw, at most n.

    Returns:
        The probability for each problem.

    Raises:
        ValueError: unless 1 ≤ k ≤ n and 0 ≤ c ≤ n are whole numbers.
    """
    right = np.asarray(right)
    if not (1 <= k <= n and k == int(k) and n == int(n)):
        raise ValueError(
            f"pass@{k} of {n} attempts: k must be a whole number from 1 to {n}"
        )
    if right.size and not ((right >= 0) & (right <= n) & (right % 1 == 0)).all():
        raise ValueError(
            f"counts of right attempts must be whole numbers from 0 to {n}"
        )
    # Integers, so that no array of truth values is taken for a mask.
    n, k, right = int(n), int(k), right.astype(int)
    ways = math.comb(n, k)
    table = np.array([(ways - math.comb(n - c, k)) / ways for c in range(n + 1)])
    return table[right]


def plurality(
    answers: Sequence[str | None], generator: np.random.Generator
) -> int | None:
    """Choose the most frequent answer.

    Args:
        answers: answer of each attempt; None (unparsed) abstains.
        generator: draws among ties.

    Returns:
        Index of the first attempt with that answer; None if every attempt abstains.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return _first_best(list(answers), votes, generator)


def weighted(
    answers: Sequence[str | None],
    weights: Sequence[float],
    generator: np.random.Generator,
) -> int | None:
    """Choose the answer with the largest summed weight (arXiv 2508.15260).

    argmax_a Σ_i w_i 1[a_i = a]

    Args:
        answers: answer of each attempt; None abstains.
        weights: weight of each attempt, such as its confidence.
        generator: draws among ties.

    Returns:
        Index of the first attempt with that answer; None if every attempt abstains.
    """
    votes: dict[str, list[float]] = {}
    for answer, weight in zip(answers, weights):
        if answer is not None:
            votes.setdefault(answer, []).append(weight)
    # fsum: the same in any order of the attempts
    totals = {answer: math.fsum(own) for answer, own in votes.items()}
    return _first_best(list(answers), totals, generator)


def surest(
    answers: Sequence[str | None],
    weights: Sequence[float],
    generator: np.random.Generator,
) -> int | None:
    """Choose the answer of the attempt with the largest weight (arXiv 2502.18581).

    Args:
        answers: answer of each attempt; None abstains.
        weights: weight of each attempt, such as its confidence.
        generator: draws among ties.

    Returns:
        Index of the first attempt with that answer; None if every attempt abstains.
    """
    most: dict[str, float] = {}
    for answer, weight in zip(answers, weights):
        if answer is not None:
            most[answer] = max(weight, most.get(answer, -math.inf))
    return _first_best(list(answers), most, generator)


def _first_best(
    answers: list[str | None],
    scores: Mapping[str, float],
    generator: np.random.Generator,
) -> int | None:
    best = [answer for answer in scores if scores[answer] == max(scores.values())]
    return answers.index(best[generator.integers(len(best))]) if best else None
