"""What is tried when the first choice has failed: orders of operators, for all failures or by a router's choice."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.routing.learn import train_head
from fr.routing.outcomes import Order, Outcomes
from fr.routing.pool import Pool, Population
from fr.routing.trained import ANYWHERE, Head

ONE_ORDER = "one_order"  # for all failures of a family: it reads none
MODEL_ORDER = (
    "one_order_per_model"  # for all failures of a model on a family: nor does that
)
LEAST = 20  # training problems with a router's choice, from which an order of their own is learned
_GAIN = 1e-9  # solved problems a position that an attempt must be worth


def greedy(outcomes: Outcomes, rows: Bool[np.ndarray, "N"]) -> Order:
    """The order in which each next attempt solves most of the `rows` a position, until none solves any.

    Problems count as often as they are met. Only those still open are tried again, so only they cost, and a
    failed attempt is charged what the attempts that are left take on average. Greedy in a submodular gain over
    its cost, as in Streeter and Golovin (NeurIPS 2008).
    """
    unsolved, prices = outcomes.unsolved[rows], outcomes.next_price[rows]
    counts, still, order = (
        np.zeros(prices.shape[1], int),
        outcomes.weight[rows].copy(),
        [],
    )
    while True:
        gains = np.full(len(counts), -1.0)
        for o in np.flatnonzero(
            (prices > 0).any(axis=(0, 2)) & (counts < outcomes.most)
        ):
            spent = (still * prices[:, o, counts[o]]).sum()
            gains[o] = (still * (1 - _again(unsolved, o, counts[o]))).sum() / max(
                spent, _GAIN
            )
        best = int(gains.argmax())
        if gains[best] <= _GAIN:
            return tuple(order)
        still = still * _again(unsolved, best, counts[best])
        counts[best] += 1
        order.append(best)


def _again(
    unsolved: Float[np.ndarray, "M O A"], operator: int, made: int
) -> Float[np.ndarray, "M"]:
    """Chance that one more attempt fails, where those that were made have."""
    before, after = unsolved[:, operator, made], unsolved[:, operator, made + 1]
    return np.divide(after, before, out=np.zeros(len(before)), where=before > 0)


def learn_orders(
    pool: Pool,
    outcomes: Outcomes,
    train: Bool[np.ndarray, "N"],
    choice: Int[np.ndarray, "N"],
) -> dict[str, dict[str, Order]]:
    """Orders by family (ANYWHERE: all of them), and in it by a router's choice where LEAST problems have it.

    ONE_ORDER is the order for all failures of a family, which is known without reading one.
    """
    found = {}
    for family, name in ((-1, ANYWHERE), *enumerate(pool.families)):
        rows = train & ((pool.family == family) | (family < 0))
        if not rows.any():
            continue
        found[name] = {ONE_ORDER: greedy(outcomes, rows)}
        for o, operator in enumerate(pool.operators):
            if (rows & (choice == o)).sum() >= LEAST:
                found[name][operator] = greedy(outcomes, rows & (choice == o))
    return found


def model_orders(
    pool: Pool, outcomes: Outcomes, train: Bool[np.ndarray, "N"]
) -> dict[int, Order]:
    """The order for all failures of each model on each family that there is something to learn from."""
    rows = {int(m): train & (pool.model == m) for m in np.unique(pool.model[train])}
    return {m: greedy(outcomes, own) for m, own in rows.items()}


def budget_population(pool: Pool, outcomes: Outcomes, retries: float) -> Population:
    """What each operator alone solves at each problem for the price of so many mean retries.

    It is what a head learns that chooses among orders. An attempt is another thing: an operator may rescue less at
    its first and, failing now here and now there, more within ten.
    """
    price = outcomes.prices[
        :, pool.operators.index("retry") if "retry" in pool.operators else 0
    ]
    budget = np.full(len(pool), retries * price[price > 0].mean())
    return Population(pool.weight, outcomes.each(budget) * pool.weight[:, None])


def train_order_head(
    pool: Pool,
    outcomes: Outcomes,
    train: Bool[np.ndarray, "N"],
    reads: Sequence[str],
    routing: RoutingConfig,
    rng: np.random.Generator,
) -> tuple[Head, Int[np.ndarray, "N"]]:
    """A head that learned from the rows `train` what solves most for `routing.budget` retries, and its choices."""
    population = budget_population(pool, outcomes, routing.budget)
    routing = dataclasses.replace(routing, price=0.0)  # costs are in the budget
    return train_head(pool, population, train, reads, routing, rng)[:2]


def order_for(
    orders: Mapping[str, Mapping[str, Sequence]], family: str, choice: str
) -> Sequence:
    """What follows a choice in a family: the order of both, or else that of the family, or else that of all."""
    own = orders.get(family, orders[ANYWHERE])
    return own.get(choice, own[ONE_ORDER])


def named(
    orders: Mapping[str, Mapping[str, Order]], operators: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """What `learn_orders` found, with the names of operators."""
    return {
        family: {choice: [operators[o] for o in order] for choice, order in own.items()}
        for family, own in orders.items()
    }
