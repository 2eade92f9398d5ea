"""A Monte-Carlo p-value whose draws end when enough of them are known."""

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
    """One-sided p of a statistic: many draws for a small p, few for a large one.

    p = enough / l, where draw l is the last of `enough` draws that are at least `seen`;
    p = (1 + exceedances) / (1 + most) if there are fewer. P(p <= a) <= a under the null
    for every value a that p can take (Besag & Clifford, doi 10.1093/biomet/78.2.301).

    Args:
        draw: Gives the statistic of n new tables of the null, [n].
        seen: The statistic of the data.
        most: Largest number of tables; p is at least 1 / (most + 1).
        enough: Exceedances after which drawing stops.
        batch: Tables per call of `draw`; the ones after the last exceedance that is
            needed are not counted.

    Returns:
        p, and the L draws that it counts.
    """
    drawn = np.empty(0)
    while len(drawn) < most:
        drawn = np.append(drawn, draw(min(batch, most - len(drawn))))
        # A difference by rounding alone counts as equal.
        above = np.flatnonzero(drawn >= seen - 1e-9 * abs(seen))
        if len(above) >= enough:
            drawn = drawn[: above[enough - 1] + 1]
            return enough / len(drawn), drawn
    return (1 + len(above)) / (1 + most), drawn
