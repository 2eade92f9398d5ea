"""A Monte-Carlo p whose draws end when enough of them are known: small p get many draws, large p few."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def sequential_p(
    draw: Callable[[int], Float[np.ndarray, "B"]],
    seen: float,
    most: int,
    enough: int = 10,
    batch: int = 20,
) -> tuple[float, Float[np.ndarray, "L"]]:
    """p of `seen` by tables of the null, drawn until `enough` are as large, and those drawn.

    p = enough / l where the l-th draw is the last one needed, else (1 + exceedances) / (1 + most): P(p ≤ α) ≤ α
    under the null for every α that p can take, whatever the rule of stopping would suggest (Besag & Clifford,
    doi 10.1093/biomet/78.2.301).

    Args:
        draw: the statistic of so many new tables.
        most: tables drawn at most; p is at least 1 / (most + 1).
        batch: tables drawn at once; those after the last one needed are not counted.
    """
    drawn = np.empty(0)
    while len(drawn) < most:
        drawn = np.append(drawn, draw(min(batch, most - len(drawn))))
        # Equal but for rounding counts as equal.
        above = np.flatnonzero(drawn >= seen - 1e-9 * abs(seen))
        if len(above) >= enough:
            drawn = drawn[: above[enough - 1] + 1]
            return enough / len(drawn), drawn
    return (1 + len(above)) / (1 + most), drawn
