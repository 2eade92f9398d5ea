"""Attempts of several operators that share random keys: an index is used once.

Attempts with the same index have the same key for all operators, and so are dependent.
Every statistic that mixes operators takes them from distinct indices, or keeps all
attempts of an index together.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int


def permute_within(
    right: Bool[np.ndarray, "N O A"],
    made: Bool[np.ndarray, "N O A"],
    draws: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "P N O"]:
    """Shuffle the attempts of each index over the operators.

    Where operators do not differ, those that share a key can be exchanged; attempts of
    different indices cannot, for the dependence would be lost.

    Args:
        right: right attempts of each problem, operator and index.
        made: whether there is such an attempt; only these are shuffled.
        draws: number of shuffles, P.
        rng: random stream.

    Returns:
        Right attempts after each shuffle.
    """
    found = np.empty((draws, *right.shape[:2]), np.int64)
    to = np.argsort(~made, axis=1, kind="stable")
    for i in range(draws):
        order = np.where(made, rng.random(made.shape), 2.0).argsort(axis=1)
        values = np.take_along_axis(right & made, order, axis=1)
        shuffled = np.zeros_like(values)
        np.put_along_axis(shuffled, to, values, axis=1)
        found[i] = shuffled.sum(axis=2)
    return found


def apart_within(
    right: Bool[np.ndarray, "N O A"],
    made: Bool[np.ndarray, "N O A"],
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, "N O"], Int[np.ndarray, "N O"]]:
    """Give each index to one operator, at random, so that attempts are independent.

    Each operator has about A / O of its attempts; a new order is drawn for each
    problem, so that none has more than the others on average.

    Args:
        right: right attempts of each problem, operator and index.
        made: whether there is such an attempt; others are lost to their operator.
        rng: random stream.

    Returns:
        Right attempts and all attempts of each problem and operator; 0 attempts are
        possible.
    """
    problems, operators, size = made.shape
    turns = rng.random((problems, operators)).argsort(axis=1)
    place = rng.random((problems, size)).argsort(axis=1) % operators
    owner = np.take_along_axis(turns, place, axis=1)
    own = made & (owner[:, None] == np.arange(operators)[:, None])
    return (right & own).sum(axis=2), own.sum(axis=2)


def halve_within(
    right: Bool[np.ndarray, "N O A"],
    made: Bool[np.ndarray, "N O A"],
    fixed: Bool[np.ndarray, "O"],
    splits: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "S N O"], Float[np.ndarray, "S N O"]]:
    """Draw rates in two random halves of the indices, the same for all operators.

    What one half decides does not depend on what the other half scores, also between
    operators. With unlike numbers of attempts the halves of two operators overlap.

    Args:
        right: right attempts of each problem, operator and index.
        made: whether there is such an attempt; two at least where not fixed.
        fixed: operators that have their whole rate in both halves.
        splits: number of halvings, S.
        rng: random stream.

    Returns:
        Rates of the first n // 2 attempts and of the rest.
    """
    count = made.sum(axis=2)
    whole = (right & made).sum(axis=2) / count
    here, there = np.empty((2, splits, *count.shape))
    for i in range(splits):
        keys = rng.random((len(made), 1, made.shape[2]))
        rank = np.where(made, keys, 2.0).argsort(axis=2).argsort(axis=2)
        first = made & (rank < (count // 2)[..., None])
        with np.errstate(invalid="ignore"):
            one = (right & first).sum(axis=2) / first.sum(axis=2)
            rest = made & ~first
            other = (right & rest).sum(axis=2) / rest.sum(axis=2)
        here[i], there[i] = (np.where(fixed, whole, half) for half in (one, other))
    return here, there


def index_orders(
    made: Bool[np.ndarray, "N O A"], draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "N D A"]:
    """Draw orders of the indices that all operators have, first to last.

    Orders come in groups of rotations, so that each index is as often at each place.

    Args:
        made: whether there is such an attempt; an operator without any does not count.
        draws: number of orders, D, about.
        rng: random stream.

    Returns:
        Indices; places after the last index of a problem hold -1.
    """
    common = np.asarray((made | ~made.any(axis=2, keepdims=True)).all(axis=1))
    count, size = common.sum(axis=1), common.shape[1]
    groups = max(1, draws // max(size, 1))
    keys = np.where(common[:, None], rng.random((len(made), groups, size)), 2.0)
    order = keys.argsort(axis=2)
    turn = np.arange(size)
    modulus = np.maximum(count, 1)[:, None, None]
    at = np.where(
        turn < count[:, None, None], (turn + turn[:, None]) % modulus, turn
    )  # [N, rotation, place]
    at = np.broadcast_to(at[:, None], (len(made), groups, size, size))
    found = np.take_along_axis(order[:, :, None], at, axis=3)
    found = np.where(turn < count[:, None, None, None], found, -1)
    return found.reshape(len(made), -1, size)


@dataclasses.dataclass(frozen=True)
class Indexed:
    """Attempts along drawn orders of the indices that operators share.

    Attributes:
        failed: [N, O, D, A] whether the attempt fails that an operator makes at a
            place of an order; an operator that a cell lacks always fails.
        costs: [N, O, D, A] what it costs.
        once: [O] deterministic operators: they use no index.
    """

    failed: Bool[np.ndarray, "N O D A"]
    costs: Float[np.ndarray, "N O D A"]
    once: Bool[np.ndarray, "O"]

    def of(self, rows: np.ndarray) -> "Indexed":
        """Select problems.

        Args:
            rows: their indices or a mask.

        Returns:
            The attempts at these problems.
        """
        return Indexed(self.failed[rows], self.costs[rows], self.once)


class Walk:
    """Failed attempts of several operators, made one after the other.

    Attributes:
        still: [N, D] orders along which all attempts so far have failed.
        spent: [N, D] what they cost.
    """

    def __init__(self, attempts: Indexed):
        """Begin without an attempt.

        Args:
            attempts: along drawn orders.
        """
        self._all, self._place = attempts, 0
        shape = attempts.failed.shape[0], attempts.failed.shape[2]
        self.still, self.spent = np.ones(shape, bool), np.zeros(shape, np.float32)

    def can(self, operator: int) -> bool:
        """Say whether an operator has an attempt at an index that is not used yet.

        Args:
            operator: its index.

        Returns:
            True for a deterministic one, and while indices are left.
        """
        last = self._all.failed.shape[3]
        return bool(self._all.once[operator]) or self._place < last

    def _next(self, operator: int) -> tuple[np.ndarray, np.ndarray]:
        place = 0 if self._all.once[operator] else self._place
        own = self._all
        return own.failed[:, operator, :, place], own.costs[:, operator, :, place]

    def again(self, operator: int) -> Float[np.ndarray, "N"]:
        """Compute the chance that one more attempt fails after those made.

        Args:
            operator: its index.

        Returns:
            The chance at each problem; 0 where no order is left.
        """
        fails = (self.still & self._next(operator)[0]).sum(axis=1)
        return fails / np.maximum(self.still.sum(axis=1), 1)

    def take(self, operator: int) -> Bool[np.ndarray, "N D"]:
        """Make one more attempt.

        Args:
            operator: its index.

        Returns:
            Orders along which it is the first right one.
        """
        failed, costs = self._next(operator)
        won = self.still & ~failed
        self.still, self.spent = self.still & failed, self.spent + costs
        self._place += not self._all.once[operator]
        return won
