"""V_o(t), A_o(t) and what a unit of budget buys, averaged over traces."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.atlas.branch_arrays import Branches, rates
from fr.atlas.branches import RETRY
from fr.stats.bootstrap import (
    Estimate,
    difference_record,
    estimate,
    resample_weights,
    rounded,
)

_UNIT = 1000  # forward tokens


def place_index(
    branches: Branches, places: Sequence[Sequence[int]]
) -> Int[np.ndarray, "N P"]:
    """Index of each place's cut among the cuts of its trace.

    Args:
        branches: The branches.
        places: Tokens kept at equal shares, of each trace, [N][P].

    Returns:
        Indices in [0, K).
    """
    return np.array(
        [
            np.searchsorted(cuts[cuts >= 0], own)
            for cuts, own in zip(branches.cuts, places)
        ]
    )


def at_places(
    values: Float[np.ndarray, "N K *rest"], index: Int[np.ndarray, "N P"]
) -> Float[np.ndarray, "N P *rest"]:
    """Select the cuts at equal shares.

    Args:
        values: Values by cut.
        index: Result of `place_index`.

    Returns:
        Values by place.
    """
    return values[np.arange(len(values))[:, None], index]


def trace_weights(
    branches: Branches, resamples: int, seed: int
) -> Float[np.ndarray, "R1 N"]:
    """Weights of the traces under resamples of their problems.

    Args:
        branches: The branches.
        resamples: Number of resamples, R.
        seed: Seed of the resamples.

    Returns:
        Counts; row 0 is the sample itself.
    """
    groups = branches.groups
    drawn = resample_weights(
        int(groups.max()) + 1, resamples, np.random.default_rng(seed)
    )
    return drawn[:, groups]


def weighted(
    values: Float[np.ndarray, "N"], weights: Float[np.ndarray, "R1 N"], problems: int
) -> Estimate:
    """Mean over traces under every resample; NaN is left out.

    Args:
        values: One number per trace.
        weights: Result of `trace_weights`.
        problems: Number of problems.

    Returns:
        The estimate.
    """
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = weights[:, known] @ values[known] / weights[:, known].sum(axis=1)
    return estimate(means, problems)


def value_rows(
    branches: Branches, index: Int[np.ndarray, "N P"], resamples: int, seed: int
) -> list[dict]:
    """Tabulate V, A and the price of every operator at every place.

    V_o(t) is the share of right branches of o from t. A_o(t) = V_o(t) - V_retry(t) is
    paired by key. `per_1000` is the mean of V over the mean cost of a branch, in
    rescues per 1,000 forward tokens.

    Args:
        branches: The branches.
        index: Result of `place_index`.
        resamples: Bootstrap resamples of problems.
        seed: Seed of the resamples.

    Returns:
        Rows {operator, place (share of the trace), rate, advantage, cost, per_1000}.
    """
    weights = trace_weights(branches, resamples, seed)
    problems = int(branches.groups.max()) + 1
    value = at_places(rates(branches.right), index)
    cost = at_places(rates(branches.cost), index)
    plain = branches.operators.index(RETRY)
    shares = np.linspace(0, 1, index.shape[1])
    rows = []
    for o, operator in enumerate(branches.operators):
        for p, share in enumerate(shares):
            own, price = (
                weighted(each[:, p, o], weights, problems) for each in (value, cost)
            )
            gap = weighted(value[:, p, o] - value[:, p, plain], weights, problems)
            buys = Estimate(
                _UNIT * own.value / price.value,
                _UNIT * own.samples / price.samples,
                problems,
            )
            rows.append(
                {
                    "operator": operator,
                    "place": rounded(share),
                    "rate": own.percent().as_dict(),
                    "advantage": difference_record(gap),
                    "cost": rounded(price.value),
                    "per_1000": buys.plain().as_dict(),
                }
            )
    return rows
