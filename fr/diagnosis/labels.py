"""Labels of failed problems by what rescues them (arXiv 2606.05145), defined here.

Let `retry` be the rescue rate of the operator retry on a problem (the share of its
attempts that end right), and `best` the largest rescue rate of the operators that are
neither retry nor the control wrong_geodesic. With `routing.margin` (0.05) and
`routing.hard` (0.50) a problem is

    steerable-hard  if best - retry >= margin and 1 - retry >= hard:
                    an operator beats retry, and retry mostly fails
    beyond reach    else, if best = 0: no operator solved it
    resample        else: retry works, or no operator beats it by the margin

Tables print these names; code and JSON say steerable, beyond and resample. Rates are
noisy, so every count is shown with the count that chance alone gives
(`permutation_null`). N problems, O operators.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.paired import permute_within

LABELS = ("steerable", "resample", "beyond")
STEERABLE, RESAMPLE, BEYOND = range(3)
# sparse_steer_random is a control too, but the source counts it among the rescuers.
UNCOUNTED = ("retry", "wrong_geodesic")


def counted(operators: tuple[str, ...]) -> list[int]:
    """Operators whose rates make up `best`.

    Args:
        operators: Names, [O].

    Returns:
        Indices of all but retry and wrong_geodesic.
    """
    return [i for i, name in enumerate(operators) if name not in UNCOUNTED]


def label(
    rates: Float[np.ndarray, "*rows O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
) -> Int[np.ndarray, "*rows"]:
    """Label problems as the docstring of this file defines.

    The comparison is in float64 as written, like the source's code: a difference that
    misses the margin by one rounding misses it.

    Args:
        rates: Rescue rates, [..., O], in [0, 1].
        operators: Names, [O]; retry is among them.
        margin: Least lead of the best operator over retry.
        hard: Least failure rate of retry.

    Returns:
        Indices into LABELS, [...].
    """
    best = rates[..., counted(operators)].max(axis=-1)
    retry = rates[..., operators.index("retry")]
    steerable = (best - retry >= margin) & (1 - retry >= hard)
    return np.where(steerable, STEERABLE, np.where(best == 0, BEYOND, RESAMPLE))


def count_labels(labels: Int[np.ndarray, "N"]) -> dict[str, int]:
    """Count the problems of each label.

    Args:
        labels: Indices into LABELS, [N].

    Returns:
        Number of problems by name of the label.
    """
    return {name: int((labels == code).sum()) for code, name in enumerate(LABELS)}


def unreached(
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N I"],
    level: float = 0.95,
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Problems that no operator solved, retry included, and a bound on their success.

    The bound is the one-sided Clopper-Pearson bound at 0 of n, n = attempts of all
    operators: 1 - (1 - level)^(1/n).

    Args:
        rates: Rescue rates, [N, O].
        attempts: Numbers of independent attempts, [N, I]: of each operator, or of those
            that share keys together.
        level: Confidence level of the bound.

    Returns:
        True where no attempt was right, [N], and the largest success probability that
        each problem's attempts allow, [N].
    """
    return (rates == 0).all(axis=1), 1 - (1 - level) ** (1 / attempts.sum(axis=1))


def permute_attempts(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "P N O"]:
    """Shuffle each problem's attempts over its operators, which keep their counts.

    Args:
        correct: Right attempts, [N, O].
        attempts: Number of attempts, [N, O].
        draws: Number of shuffles, P.
        rng: Source of the draws.

    Returns:
        Right attempts after each shuffle, [P, N, O].
    """
    shuffled = np.empty((draws, *correct.shape), np.int64)
    left = np.broadcast_to(correct.sum(axis=1), (draws, len(correct)))
    pool = attempts.sum(axis=1)
    # A multivariate hypergeometric draw, one operator after the other.
    for o in range(correct.shape[1]):
        shuffled[..., o] = rng.hypergeometric(left, pool - left, attempts[:, o])
        left = left - shuffled[..., o]
        pool = pool - attempts[:, o]
    return shuffled


def permutation_null(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
    draws: int,
    rng: np.random.Generator,
    paired: tuple[Bool[np.ndarray, "N O A"], Bool[np.ndarray, "N O A"]] | None = None,
) -> dict[str, float]:
    """Share of steerable problems, as seen and where operators do not differ.

    Args:
        correct: Right attempts of stochastic operators, [N, O]: a deterministic one has
            no attempts to exchange.
        attempts: Number of attempts, [N, O].
        operators: Names, [O].
        margin: See `label`.
        hard: See `label`.
        draws: Number of shuffles.
        rng: Source of the draws.
        paired: Where operators share random keys, the right attempts and the attempts
            made by index: they are shuffled within each index.

    Returns:
        `seen`, and over the shuffles `mean`, `low`, `high` (95 %) and the one-sided
        `p`.
    """

    def share(successes: Int[np.ndarray, "*rows O"]) -> np.ndarray:
        labels = label(successes / attempts, operators, margin, hard)
        return (labels == STEERABLE).mean(axis=-1)

    seen = float(share(correct))
    if paired is None:
        shuffled = permute_attempts(correct, attempts, draws, rng)
    else:
        shuffled = permute_within(*paired, draws, rng)
    null = share(shuffled)
    low, high = np.quantile(null, (0.025, 0.975))
    p = (1 + int((null >= seen).sum())) / (1 + draws)
    return {
        "seen": seen,
        "mean": float(null.mean()),
        "low": float(low),
        "high": float(high),
        "p": p,
    }
