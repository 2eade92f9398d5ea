"""Branches as arrays: right or wrong, and cost, by trace, cut, operator and index."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from fr import store
from fr.atlas.branches import RETRY, FailedTrace, origin_of
from fr.types import RIGHT

_COLUMNS = ["row", "grade", *(f"cost_{name}" for name in store.COSTS)]


@dataclasses.dataclass(frozen=True)
class Branches:
    """All branches of a run. N traces, K cuts at most, O operators, B indices.

    Attributes:
        rows: Names of the traces, [N].
        problems: Names of their problems, [N].
        operators: Names, [O]; the first one is retry.
        cuts: Tokens kept, in order; -1 where a trace has fewer cuts, [N, K].
        lengths: Tokens of each trace, [N].
        right: 1 or 0; NaN where there is no such branch, [N, K, O, B].
        cost: Forward tokens after the cut; NaN where there is no such branch.
    """

    rows: tuple[str, ...]
    problems: tuple[str, ...]
    operators: tuple[str, ...]
    cuts: Int[np.ndarray, "N K"]
    lengths: Int[np.ndarray, "N"]
    right: Float[np.ndarray, "N K O B"]
    cost: Float[np.ndarray, "N K O B"]

    @property
    def groups(self) -> Int[np.ndarray, "N"]:
        """Index of each trace's problem."""
        return np.unique(self.problems, return_inverse=True)[1]

    @property
    def known(self) -> Bool[np.ndarray, "N K"]:
        """Cuts that there are."""
        return self.cuts >= 0

    @property
    def sampled(self) -> tuple[str, ...]:
        """Operators with more than one branch at a cut."""
        return tuple(name for name in self.operators if self.counts(name)[1].max() > 1)

    def half(self, second: bool) -> Float[np.ndarray, "N K O B"]:
        """Outcomes of the first half of the indices, which detects, or of the second.

        Operators that rotate a setting over the indices have all its values in both. A
        deterministic operator has one branch, which both halves have.

        Args:
            second: The second half, which estimates.

        Returns:
            1, 0 or NaN, [N, K, O, B / 2].
        """
        own = self.right[..., self.indices(second)]
        alone = np.isnan(self.right[..., 1:]).all(-1)
        only = np.full_like(own, np.nan)
        only[..., 0] = self.right[..., 0]
        return np.where(alone[..., None], only, own)

    def indices(self, second: bool) -> slice:
        """The indices of a half.

        Args:
            second: The second half.

        Returns:
            The slice of the last axis.
        """
        middle = self.right.shape[-1] // 2
        return slice(middle, None) if second else slice(middle)

    def counts(
        self, operator: str, second: bool | None = None
    ) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]:
        """Right branches and all branches of an operator.

        Args:
            operator: Its name.
            second: One half alone, the first or the second; None: both.

        Returns:
            (right, made), [N, K] each.
        """
        taken = self.right if second is None else self.half(second)
        own = taken[:, :, self.operators.index(operator)]
        right, made = np.nansum(own, axis=-1), (~np.isnan(own)).sum(axis=-1)
        return right.astype(int), made.astype(int)


def rates(right: Float[np.ndarray, "*shape B"]) -> Float[np.ndarray, "*shape"]:
    """V = mean of the branches that there are.

    Args:
        right: 1, 0 or NaN.

    Returns:
        Rates; NaN without a branch.
    """
    made = (~np.isnan(right)).sum(axis=-1)
    return np.where(made, np.nansum(right, axis=-1) / np.maximum(made, 1), np.nan)


def read_branches(
    folder: epath.Path,
    traces: Sequence[FailedTrace],
    cuts: Mapping[str, Sequence[int]],
    ancestor_weight: float,
) -> Branches:
    """Read `branches/` of a run.

    Args:
        folder: The folder of shards.
        traces: The failed traces.
        cuts: Tokens that are kept, by name of the trace.
        ancestor_weight: Parameters of the ancestor over the specialist's.

    Returns:
        The branches of these cuts.
    """
    made: dict[tuple, dict[int, tuple[bool, float]]] = {}
    for row in store.read_table(folder, _COLUMNS).to_pylist():
        *place, index = origin_of(row["row"])
        found = made.setdefault(tuple(place), {})
        found[index] = row["grade"] == RIGHT, _cost(row, ancestor_weight)
    names = {operator for _, _, operator in made}
    operators = (RETRY, *sorted(names - {RETRY}))
    unique = [sorted(set(cuts[t.row])) for t in traces]
    shape = len(traces), max(map(len, unique)), len(operators)
    most = 1 + max(max(found) for found in made.values())
    right, cost = (np.full((*shape, most), np.nan) for _ in range(2))
    for i, trace in enumerate(traces):
        for k, cut in enumerate(unique[i]):
            origin = trace.row if cut else trace.problem.id
            for o, operator in enumerate(operators):
                for index, each in made.get((origin, cut, operator), {}).items():
                    right[i, k, o, index], cost[i, k, o, index] = each
    padded = np.full(shape[:2], -1)
    for i, own in enumerate(unique):
        padded[i, : len(own)] = own
    return Branches(
        rows=tuple(t.row for t in traces),
        problems=tuple(t.problem.id for t in traces),
        operators=operators,
        cuts=padded,
        lengths=np.array([len(t.written.tokens) for t in traces]),
        right=right,
        cost=cost,
    )


def _cost(row: dict, ancestor_weight: float) -> float:
    """Forward tokens of a branch after its cut, whose entries are copied."""
    new = row["cost_generated"] + row["cost_forced"] + row["cost_probe"]
    second = max(0, row["cost_ancestor"] - row["cost_prefill"])
    return new + ancestor_weight * second
