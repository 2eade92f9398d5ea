"""The best fixed operator, looked up by what is known without reading a failure.

By everything, the family, the cell, or the model on its family. The last is the
baseline of routing: a cell may mix failures of several models, and the failed model is
known without reading the failure.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.diagnosis.labels import counted
from fr.routing.dataset import Fold, RoutingData

_KINDS = ("all", "family", "cell", "model")  # from the coarsest to the finest


def look_up(
    data: RoutingData, rows: Bool[np.ndarray, "N"], by: str
) -> Int[np.ndarray, "N"]:
    """Choose for each row what gained most over the learned rows of its group.

    Args:
        data: failed problems of a population.
        rows: rows to learn from.
        by: what is known: "all", "family", "cell" or "model".

    Returns:
        Index of the operator; O stands for stop.
    """
    return fixed_gains(data, rows, by).argmax(axis=1)[data.places(by)[0]]


def fixed_gains(
    data: RoutingData, rows: Bool[np.ndarray, "N"], by: str
) -> Float[np.ndarray, "G O1"]:
    """Average the gain of each operator over the learned rows of each place's group.

    A model that is not in `rows` is looked up by its cell, a cell by its family, and
    one whose family is not there by everything.

    Args:
        data: failed problems of a population.
        rows: rows to learn from.
        by: what is known; places are the cells, or each model in each cell.

    Returns:
        Rescue rates less prices, −inf where an operator is absent, and 0 for stop.
    """
    firsts = data.places(by)[1]
    gains = np.zeros((len(firsts), len(data.operators) + 1))
    for g, i in enumerate(firsts):
        groups = (group & rows for group in groups_of(data, i, by))
        learned = next((group for group in groups if data.mass[group].any()), rows)
        mass = (data.mass[:, None] * data.available)[learned].sum(axis=0)
        values = data.values[learned].sum(axis=0)
        gains[g] = _gains(values, mass, data.available[i], data.prices)
    return gains


def groups_of(data: RoutingData, row: int, by: str) -> list[Bool[np.ndarray, "N"]]:
    """List the groups of a row, from the finest that a look-up knows to everything.

    Args:
        data: failed problems.
        row: its index.
        by: what is known.

    Returns:
        Masks of the rows in the same group.
    """
    kinds = (data.model, data.cell, data.family, np.zeros(len(data), int))
    return [kind == kind[row] for kind in kinds[len(_KINDS) - 1 - _KINDS.index(by) :]]


def resampled_look_up(
    data: RoutingData,
    folds: Sequence[Fold],
    weights: Float[np.ndarray, "R N"],
    by: str,
) -> Float[np.ndarray, "C R"]:
    """Sum the rescues of each cell under a look-up chosen again in every resample.

    A look-up that is held fixed is too sure of itself: where operators are alike, the
    chosen one depends on the same problems that its value is read from in the other
    folds, and intervals of a difference covered 0 in 88 to 89 % of 10,000 tables;
    chosen again, in over 99 %. Every fold learns from all others.

    Args:
        data: failed problems of a population.
        folds: the folds.
        weights: how often each resample holds each row.
        by: what is known.

    Returns:
        Sums of each cell in each resample.
    """
    index, firsts = data.places(by)
    shape = len(firsts), len(folds), len(weights), len(data.operators)
    values, mass = np.zeros(shape), np.zeros(shape)
    for g, i in enumerate(firsts):
        for f, fold in enumerate(folds):
            here = np.flatnonzero((index == g) & fold.test)
            values[g, f] = weights[:, here] @ data.values[here]
            total = (weights[:, here] @ data.mass[here])[:, None]
            mass[g, f] = total * data.available[i]
    found, prices = np.zeros((len(data.cells), len(weights))), data.prices
    for g, i in enumerate(firsts):
        groups = [group[firsts] for group in groups_of(data, i, by)]
        for f in range(len(folds)):
            rest = np.arange(len(folds)) != f
            learned = (
                (values[group][:, rest].sum((0, 1)), mass[group][:, rest].sum((0, 1)))
                for group in groups
            )
            every = values[:, rest].sum((0, 1)), mass[:, rest].sum((0, 1))
            known = next((pair for pair in learned if pair[1][0].any()), every)
            choice = _gains(*known, data.available[i], prices).argmax(axis=-1)
            scored = np.pad(values[g, f], ((0, 0), (0, 1)))  # stop scores 0
            taken = np.take_along_axis(scored, choice[:, None], axis=1)
            found[data.cell[i]] += taken[:, 0]
    return found


def values_of(
    values: Float[np.ndarray, "N O"], choice: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """Take the values of the chosen operators.

    Args:
        values: of each operator.
        choice: index of the operator; O stands for stop, −1 for no answer.

    Returns:
        The values; 0 for stop, NaN without an answer.
    """
    padded = np.pad(values, ((0, 0), (0, 1)))
    taken = np.take_along_axis(padded, np.maximum(choice, 0)[:, None], axis=1)[:, 0]
    return np.where(choice < 0, np.nan, taken)


def random_operator(data: RoutingData) -> Float[np.ndarray, "N"]:
    """Average the values over a cell's operators, retry and the controls left out.

    Args:
        data: failed problems of a population.

    Returns:
        The mean of each row.
    """
    arms = np.isin(np.arange(len(data.operators)), counted(data.operators))
    arms = arms & data.available
    return (data.values * arms).sum(axis=1) / arms.sum(axis=1)


def shuffled(
    data: RoutingData, choice: Int[np.ndarray, "N"], folds: Sequence[Fold]
) -> Float[np.ndarray, "N"]:
    """Compute the exact expectation of a policy with shuffled features.

    Features are shuffled over problems of one cell and fold: over folds, a fixed choice
    would be exchanged too, and it errs against the problems that it left out. Problems
    are exchanged by their mass.

    Args:
        data: failed problems of a population.
        choice: of the policy.
        folds: that the problems were judged in.

    Returns:
        Expected value of each row.
    """
    values = np.full(len(data), np.nan)
    padded = np.pad(data.values, ((0, 0), (0, 1)))
    for fold in folds:
        for c in range(len(data.cells)):
            here = np.flatnonzero((data.cell == c) & fold.test & (choice >= 0))
            mass = data.mass[here]
            values[here] = 0.0
            if mass.sum() > 0:
                share = np.bincount(choice[here], mass, minlength=padded.shape[1])
                values[here] = padded[here] @ (share / mass.sum())
    return values


def _gains(
    values, mass, offered: Bool[np.ndarray, "O"], prices
) -> Float[np.ndarray, "*R O1"]:
    """Mean values less prices of the operators, [..., O], and 0 for stop."""
    # Rounded, so that two operators that are even stay so in any order of their sums.
    gains = np.round(values / np.where(mass > 0, mass, 1) - prices, 9)
    # Operators come before stop: without a price, what never rescues is still tried.
    gains = np.where(offered & (mass > 0), gains, -np.inf)
    return np.concatenate([gains, np.zeros((*gains.shape[:-1], 1))], axis=-1)
