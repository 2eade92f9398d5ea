"""The attempts behind a rate: how many there were, and their two disjoint halves."""

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.profiles import Profiles

_CAP = 10  # released rates are means over min(n_failed, 10) attempts ...
_LARGEST = (
    50  # ... dense_steer's over another count, of at most the 50 rollouts of a problem
)
_PRINTED = 1e-6  # and printed with six decimals


def recover_attempts(profiles: Profiles) -> Int[np.ndarray, "N O"]:
    """Attempts of every rate: as given, or else the count that fits a printed rate; 0 where none fits.

    Tried first is min(n_failed_rollouts, 10), then the smallest denominator up to 50. A fraction in lowest
    terms hides a common factor, so the second is a lower bound.
    """
    if profiles.attempts is not None:
        return profiles.attempts
    rates = profiles.rates[..., None]
    usual = np.minimum(profiles.n_failed, _CAP)[:, None, None]
    tried = np.concatenate(
        [
            np.broadcast_to(usual, rates.shape),
            np.broadcast_to(np.arange(1, _LARGEST + 1), rates.shape[:2] + (_LARGEST,)),
        ],
        axis=2,
    )
    fits = np.abs(np.round(rates * tried) / tried - rates) <= _PRINTED
    first = np.take_along_axis(tried, fits.argmax(-1)[..., None], axis=-1)[..., 0]
    return np.where(fits.any(-1), first, 0)


def successes(
    rates: Float[np.ndarray, "N O"], attempts: Int[np.ndarray, "N O"]
) -> Int[np.ndarray, "N O"]:
    """Attempts that ended correct."""
    return np.round(rates * attempts).astype(np.int64)


def deterministic(profiles: Profiles) -> Bool[np.ndarray, "O"]:
    """Operators whose attempts at a problem are all the same one: no draws from a rate.

    Said by the table (`Profiles.deterministic`), or by one attempt a problem where a retry has several.
    """
    said = np.isin(profiles.operators, profiles.deterministic)
    if profiles.attempts is None:
        return said
    once = (profiles.attempts == 1).all(axis=0)
    return said | (once & ~once[profiles.operators.index("retry")])


def fixed_rates(profiles: Profiles) -> Bool[np.ndarray, "O"]:
    """Operators whose rate cannot be split, so that both halves have the same: deterministic, or tried once."""
    return deterministic(profiles) | (recover_attempts(profiles) == 1).all(axis=0)


def halve(
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    fixed: Bool[np.ndarray, "O"],
    splits: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "S N O"], Float[np.ndarray, "S N O"]]:
    """Rates in two disjoint random halves of the attempts: hypergeometric thinning, n // 2 against the rest.

    Every operator that is not `fixed` needs two attempts a problem.
    """
    first = attempts // 2
    drawn = rng.hypergeometric(
        correct, attempts - correct, first, size=(splits, *correct.shape)
    )
    with np.errstate(invalid="ignore"):
        whole = correct / attempts
        here = np.where(fixed, whole, drawn / first)
        there = np.where(fixed, whole, (correct - drawn) / (attempts - first))
    return here, there
