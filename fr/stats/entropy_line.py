"""The law R = -a exp(H) + b between a policy's entropy and its reward."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_POINTS = 3  # of a line that is worth fitting


def fit_entropy_line(
    entropy: Sequence[float] | Float[np.ndarray, "N"],
    reward: Sequence[float] | Float[np.ndarray, "N"],
) -> dict[str, float]:
    """Fit R = -a exp(H) + b by least squares (arXiv 2505.22617).

    b - a is the reward once all entropy is spent.

    Args:
        entropy: H of the policy at each point, nats per token.
        reward: R at the same points, such as accuracy.

    Returns:
        `a`, `b`, and `r2`, the share of R's variance that the line explains (1 if R
        does not vary); empty for fewer than three points, or if H does not vary.
    """
    spent, y = np.exp(np.asarray(entropy, float)), np.asarray(reward, float)
    x = spent - spent.mean() if len(spent) else spent
    if len(spent) < _POINTS or not x.any():
        return {}
    a = -float(x @ y / (x @ x))
    b = float(y.mean() + a * spent.mean())
    rest, total = y - (b - a * spent), y - y.mean()
    r2 = 1 - float(rest @ rest / (total @ total)) if total.any() else 1.0
    return {"a": a, "b": b, "r2": r2}
