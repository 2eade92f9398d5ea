"""What could have rescued a failed problem, and what chance alone would say (arXiv 2606.05145)."""

import numpy as np
from jaxtyping import Bool, Float, Int

LABELS = ("steerable", "resample", "beyond")
STEERABLE, RESAMPLE, BEYOND = range(3)
# sparse_steer_random is a control too, but the source counts it among the rescuers.
UNCOUNTED = ("retry", "wrong_geodesic")


def counted(operators: tuple[str, ...]) -> list[int]:
    """Indices of the operators whose rates make up `best`: all but retry and the controls."""
    return [i for i, name in enumerate(operators) if name not in UNCOUNTED]


def label(
    rates: Float[np.ndarray, "... O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
) -> Int[np.ndarray, "..."]:
    """Index into LABELS: steerable iff best − retry >= margin and 1 − retry >= hard, else beyond iff best =
    0.

    Compared in float64 as written (the source's code): a difference that misses the margin by one rounding
    misses it.
    """
    best = rates[..., counted(operators)].max(axis=-1)
    retry = rates[..., operators.index("retry")]
    steerable = (best - retry >= margin) & (1 - retry >= hard)
    return np.where(steerable, STEERABLE, np.where(best == 0, BEYOND, RESAMPLE))


def count_labels(labels: Int[np.ndarray, "N"]) -> dict[str, int]:
    """Problems of each label."""
    return {name: int((labels == code).sum()) for code, name in enumerate(LABELS)}


def unreached(
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    level: float = 0.95,
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Problems that no operator solved, retry included, and what their success probability is at most.

    The bound is the one-sided Clopper-Pearson bound at 0 of n, n = attempts of all operators: 1 − (1 −
    level)^(1/n).
    """
    return (rates == 0).all(axis=1), 1 - (1 - level) ** (1 / attempts.sum(axis=1))


def permute_attempts(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "P N O"]:
    """Successes after shuffling each problem's attempts over its operators, whose counts are kept."""
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
) -> dict[str, float]:
    """Share of problems labelled steerable, as seen and if the operators did not differ on any problem.

    Returns `seen`, `mean`, `low`, `high` (95 % of the draws) and the one-sided `p`. Give stochastic operators
    only: a deterministic one has no attempts to exchange.
    """

    def share(successes):
        return (label(successes / attempts, operators, margin, hard) == STEERABLE).mean(
            axis=-1
        )

    seen = float(share(correct))
    null = share(permute_attempts(correct, attempts, draws, rng))
    low, high = np.quantile(null, (0.025, 0.975))
    p = (1 + int((null >= seen).sum())) / (1 + draws)
    return {
        "seen": seen,
        "mean": float(null.mean()),
        "low": float(low),
        "high": float(high),
        "p": p,
    }
