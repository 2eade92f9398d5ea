"""Chances of binomial counts, and intervals of many shares at a time."""

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.special import betaln, xlog1py, xlogy

_Z = 1.959964  # of a 95 % interval


def binomial(
    k: Int[np.ndarray, "*#S"],
    n: int,
    p: float | Float[np.ndarray, "*#S"],
) -> Float[np.ndarray, "*S"]:
    """Compute P(k of n) = C(n, k) p^k (1 - p)^(n - k), also at p = 0 and p = 1.

    Args:
        k: successes, in 0, ..., n.
        n: trials.
        p: chance of a success.

    Returns:
        The chances.
    """
    logs = xlogy(k, p) + xlog1py(n - k, -np.asarray(p))
    return np.exp(logs - np.log(n + 1) - betaln(k + 1, n - k + 1))


def wilson(
    k: Num[np.ndarray, "*S"], n: Num[np.ndarray, "*S"], z: float = _Z
) -> tuple[Float[np.ndarray, "*S"], Float[np.ndarray, "*S"], Float[np.ndarray, "*S"]]:
    """Compute shares with Wilson's intervals (doi 10.1080/01621459.1927.10502953).

    (s + z^2 / 2n ± z sqrt(s (1 - s) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        k: successes.
        n: trials; NaN results from 0.
        z: half width in standard errors.

    Returns:
        (share, low, high).
    """
    n = np.where(n > 0, n, np.nan)
    share = k / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return share, middle - half, middle + half
