"""The row of every routing table: a rate or a difference with its interval."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fr.stats.bootstrap import Estimate, Interval, holm, rounded


@dataclasses.dataclass
class Row:
    """A policy's rate, or its difference from a reference, in one place.

    Attributes:
        protocol: by which it was judged.
        population: of problems.
        cell: name, or "all cells".
        policy: name.
        interval: percent of attempts, or points.
        n: number of problems; a mean over halvings in split halves.
        reference: name; None: the row is a rate.
        p: two-sided p of a difference; None if both sides are the same.
        p_holm: Holm's, over the declared family.
        cost: mean forward tokens of the chosen attempt and of what is read.
        cost_per_rescue: forward tokens.
        route_entropy: of the choices, in nats.
        departures: percent of choices that differ from the fixed choice.
        routes: number of problems by chosen operator, or "stop".
        kept: folds in which the policy chose as its basis throughout.
        folds: folds that judge these problems.
        detectable: points that would be seen with 80 % power.
    """

    protocol: str
    population: str
    cell: str
    policy: str
    interval: Interval
    n: float
    reference: str | None = None
    p: float | None = None
    p_holm: float | None = None
    cost: float | None = None
    cost_per_rescue: float | None = None
    route_entropy: float | None = None
    departures: float | None = None
    routes: dict[str, int] | None = None
    kept: int | None = None
    folds: int | None = None
    detectable: float | None = None

    def as_dict(self) -> dict:
        """Plain JSON values; fields that are None are left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["interval"] = self.interval.as_dict()
        return {name: value for name, value in values.items() if value is not None}


def row_of_difference(
    where: tuple[str, str, str], policy: str, reference: str, gap: Estimate, n: float
) -> Row:
    """Make the row of a paired difference.

    Args:
        where: protocol, population and cell.
        policy: name.
        reference: name.
        gap: policy minus reference, as a share.
        n: number of problems.

    Returns:
        The row; value 0 without interval and p if both are the same under every
        resample, for then nothing was measured.
    """
    if gap.constant:
        return Row(*where, policy, Interval(0.0), n, reference)
    interval = gap.percent()
    p = None if interval.low is None else rounded(gap.p_value())
    return Row(*where, policy, interval, n, reference, p)


def adjust(rows: Sequence[Row], raw: Sequence[float] | None = None) -> None:
    """Set Holm's adjusted p of a family of rows.

    Args:
        rows: the family; those without a p are left out unless `raw` is given.
        raw: p of each row before rounding; None: the rows' own.
    """
    family, values = list(rows), raw
    if values is None:
        family = [row for row in rows if row.p is not None]
        values = [row.p for row in family if row.p is not None]
    for row, adjusted in zip(family, holm(values)):
        if row.p is not None:
            row.p_holm = rounded(adjusted)


def entropy_of(route: Int[np.ndarray, "N"]) -> float:
    """Compute the entropy of choices.

    Args:
        route: index of each problem's operator.

    Returns:
        Nats; 0 for a router that always chooses the same.
    """
    share = np.unique(route, return_counts=True)[1] / len(route)
    return float(max(0.0, -(share * np.log(share)).sum()))
