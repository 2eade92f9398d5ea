"""Problems solved within a budget, by attempts that are made one after the other."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.stats.bootstrap import Estimate, difference_record, estimate, percent
from fr.stats.outcomes import POINTS, Outcomes

BEST = "best_in_hindsight"  # the operator that solves most, by its own outcomes
PERMUTED = "permuted"  # reference: a policy's own sequences, exchanged over problems
# Costs of a problem's attempts in order, and whether it is solved by the first n.
Spent = tuple[Float[np.ndarray, "_"], Callable[[int], bool]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Attempts of a policy at each problem.

    Attributes:
        orders: the different sequences of operators.
        choice: [N] index of each problem's sequence.
        paid: [N] what the policy pays before its first attempt.
        references: policies that it is compared with.
        diagnosis: "paid" or "done"; None if the policy reads nothing that costs.
    """

    orders: Sequence[Sequence[int]]
    choice: Int[np.ndarray, "N"]
    paid: Float[np.ndarray, "N"] | float = 0.0
    references: Sequence[str] = ()
    diagnosis: str | None = None


@dataclasses.dataclass(frozen=True)
class Solved:
    """Share of each problem that a policy solves within each budget.

    Attributes:
        policy: its name.
        within: [N, P] shares.
        references: policies that it is compared with.
        fields: further fields of its rows, such as {"diagnosis": "paid"}.
        exchanged: [N, P] the same with its sequences exchanged over problems; None
            if it is not compared with that.
    """

    policy: str
    within: Float[np.ndarray, "N P"]
    references: Sequence[str] = ()
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exchanged: Float[np.ndarray, "N P"] | None = None


def run_plan(
    name: str,
    plan: Plan,
    outcomes: Outcomes,
    budgets: Float[np.ndarray, "P"],
    groups: Sequence[Int[np.ndarray, "M"]],
) -> Solved:
    """Compute what a plan solves within each budget.

    Args:
        name: of the policy.
        plan: its sequences.
        outcomes: of all problems.
        budgets: of every problem.
        groups: rows whose sequences are exchanged for the `permuted` reference, by
            exact expectation: one group per cell and fold. They hold each row once.

    Returns:
        The shares.
    """
    shape = len(outcomes.weight), len(budgets)
    left = (
        np.broadcast_to(budgets, shape) - np.broadcast_to(plan.paid, shape[0])[:, None]
    )
    exchange = PERMUTED in plan.references
    solved, exchanged = np.zeros(shape), np.zeros(shape)
    for here in groups:
        for s, times in zip(*np.unique(plan.choice[here], return_counts=True)):
            rows = here if exchange else here[plan.choice[here] == s]
            values = outcomes.of(rows).solved(plan.orders[s], left[rows])
            own = plan.choice[rows] == s
            solved[rows[own]] = values[own]
            if exchange:
                exchanged[rows] += values * times / len(here)
    fields = {} if plan.diagnosis is None else {"diagnosis": plan.diagnosis}
    other = exchanged if exchange else None
    return Solved(name, solved, plan.references, fields, other)


def budget_curves(
    policies: Sequence[Solved],
    budgets: Float[np.ndarray, "P"],
    weights: Float[np.ndarray, "R1 N"],
    carried: float,
    total: Float[np.ndarray, "R1"] | float = 1.0,
    best_of: Sequence[tuple[slice | Bool[np.ndarray, "N"], np.ndarray]] = (),
    alike: bool = True,
) -> list[dict]:
    """Tabulate shares and paired differences within each budget.

    Args:
        policies: what each policy solves; one of them at most per name and fields.
        budgets: the budgets.
        weights: weight of each problem in the sample and each resample.
        carried: effective number of problems.
        total: sum of the weights, per resample.
        best_of: (rows, what each of their operators solves alone) of each cell, for
            BEST: chosen again in every resample and at every budget.
        alike: False: problems differ in how often they are met, and rows also have
            `unweighted` shares.

    Returns:
        Rows {budget, policy, reference?, diagnosis?, interval, p?, unweighted?}.
    """
    rows: list[dict] = []
    for p, budget in enumerate(budgets):
        found = {
            id(one): _share(weights, one.within[:, p], total, carried)
            for one in policies
        }
        named = {one.policy: found[id(one)] for one in policies}
        at: dict = {"budget": round(float(budget), 6)}
        if best_of:
            named[BEST] = _best(best_of, p, weights, total, carried)
            interval = named[BEST].percent().as_dict()
            rows.append(at | {"policy": BEST, "interval": interval})
            if not alike:
                best = sum(alone[:, p].sum(axis=0).max() for _, alone in best_of)
                rows[-1]["unweighted"] = percent(best / weights.shape[1])
        for one in policies:
            row = at | {"policy": one.policy, **one.fields}
            rows.append(row | {"interval": found[id(one)].percent().as_dict()})
            if not alike:
                rows[-1]["unweighted"] = percent(one.within[:, p].mean())
            for reference in one.references:
                other = named.get(reference)
                if reference == PERMUTED and one.exchanged is not None:
                    other = _share(weights, one.exchanged[:, p], total, carried)
                if other is not None:
                    gap = difference_record(found[id(one)] - other)
                    rows.append(row | {"reference": reference, **gap})
    return rows


def spent_curves(
    made: Mapping[str, Sequence[Spent]],
    reference: str,
    complete: Mapping[str, Bool[np.ndarray, "N"]],
    weights: Float[np.ndarray, "R1 N"],
    declared: float = 0.0,
) -> list[dict]:
    """Tabulate what live attempts solved at equal cost, as `budget_curves` does.

    Budgets run, in equal ratios, from the largest first attempt to where some policy
    has spent all on a problem that is not complete: above that, it would be compared
    by attempts that were not made.

    Args:
        made: attempts of each policy at each problem, the same problems in order.
        reference: the policy that all others are compared with.
        complete: problems for which more attempts would change nothing.
        weights: shares of the problems in the sample and each resample.
        declared: a budget that was declared before the attempts: it gets rows of its
            own, marked `declared`, if it lies within the range; 0: none.

    Returns:
        Rows as in `budget_curves`.
    """
    totals = {
        name: np.array([costs.sum() for costs, _ in spent])
        for name, spent in made.items()
    }
    ends = np.concatenate([totals[name][~complete[name]] for name in made])
    first = max(costs[0] for spent in made.values() for costs, _ in spent)
    last = max(min(ends, default=max(map(np.max, totals.values()))), first)
    named = [declared] if 0 < declared <= last else []
    budgets = np.array(sorted([*np.geomspace(first, last, POINTS), *named]))
    policies = []
    for name, spent in made.items():
        within = np.array([list(_within(problem, budgets)) for problem in spent])
        references = () if name == reference else (reference,)
        policies.append(Solved(name, within, references))
    rows = budget_curves(policies, budgets, weights, len(made[reference]))
    for row in rows:
        if declared and row["budget"] == round(declared, 6):
            row["declared"] = True
    return rows


def affordable(costs: Float[np.ndarray, "A"], budget: float) -> int:
    """Count the attempts that a budget pays for.

    Args:
        costs: of the attempts, in order.
        budget: in the same unit.

    Returns:
        Their number.
    """
    # Sums of tokens are whole numbers except an ancestor's share: the last digit must
    # not decide.
    return int(np.searchsorted(np.cumsum(costs), budget * (1 + 1e-9), side="right"))


def _within(spent: Spent, budgets: Float[np.ndarray, "P"]) -> Iterator[float]:
    costs, solved = spent
    return (float(solved(affordable(costs, budget))) for budget in budgets)


def _share(weights, values, total, carried: float) -> Estimate:
    return estimate(weights @ values / total, carried)


def _best(best_of, p: int, weights, total, carried: float) -> Estimate:
    best = np.zeros(len(weights))
    for rows, alone in best_of:
        shares = [weights[:, rows] @ alone[:, p, o] for o in range(alone.shape[2])]
        best += np.max(shares, axis=0)
    return estimate(best / total, carried)
