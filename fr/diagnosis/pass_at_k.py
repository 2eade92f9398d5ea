"""How often one of k attempts is right, without bias, from n >= k attempts at each problem."""

import math

import numpy as np
from jaxtyping import Float, Int


def pass_at_k(right: Int[np.ndarray, "N"], n: int, k: int) -> Float[np.ndarray, "N"]:
    """1 − C(n − c, k) / C(n, k): the probability that k of a problem's n attempts hold one of its c right ones.

    The unbiased estimator of arXiv 2107.03374, in whole numbers up to the one division. Raises ValueError unless
    1 <= k <= n and 0 <= c <= n, all of them whole numbers.
    """
    right = np.asarray(right)
    if not (1 <= k <= n and k == int(k) and n == int(n)):
        raise ValueError(f"pass@{k} of {n} attempts: k must be a whole number from 1 to {n}")
    if right.size and not ((0 <= right) & (right <= n) & (right % 1 == 0)).all():
        raise ValueError(f"counts of right attempts must be whole numbers from 0 to {n}")
    # Of integers, so that no array of truth values is taken for a mask.
    n, k, right = int(n), int(k), right.astype(int)
    ways = math.comb(n, k)
    table = np.array([(ways - math.comb(n - c, k)) / ways for c in range(n + 1)])
    return table[right]
