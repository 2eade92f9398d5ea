"""Do failures tell what is wrong with their model? Causes that were planted, told by a classifier from columns."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression


def tell_causes(
    columns: Float[np.ndarray, "N F"],
    cause: Int[np.ndarray, "N"],
    run: Int[np.ndarray, "N"],
    fold: Int[np.ndarray, "N"],
) -> Int[np.ndarray, "N"]:
    """The cause of every failure by logistic regression on failures of other runs at other problems.

    `run` is what is left out together, a seed of all causes; `fold` that of a problem. Causes weigh the same
    however often they fail. NaN says nothing: it is the mean of what has been learned from. A cause that only the
    left-out run has cannot be told.
    """
    told = np.full(len(cause), -1)
    for r, k in sorted(set(zip(run.tolist(), fold.tolist()))):
        train, test = (run != r) & (fold != k), (run == r) & (fold == k)
        if len(set(cause[train])) < 2:
            continue
        z = _standard(columns, train)
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        told[test] = model.fit(z[train], cause[train]).predict(z[test])
    return told


def confusion(
    told: Int[np.ndarray, "N"],
    cause: Int[np.ndarray, "N"],
    causes: int,
    weights: Float[np.ndarray, "R N"],
) -> Float[np.ndarray, "R K K"]:
    """Share of each true cause's failures (rows) that is told to have each cause, under several weightings of them.

    The mean of the diagonal is the balanced accuracy, 1 / K by chance; rows without a failure are NaN.
    """
    is_told, is_true = (np.eye(causes)[labels] for labels in (told, cause))
    is_told[told < 0] = 0.0
    counts = np.einsum("rn,nt,np->rtp", weights, is_true, is_told, optimize=True)
    with np.errstate(invalid="ignore"):
        return counts / (weights @ is_true)[:, :, None]


def _standard(
    columns: Float[np.ndarray, "N F"], train: np.ndarray
) -> Float[np.ndarray, "N F"]:
    known = ~np.isnan(columns)
    counted = np.maximum((known & train[:, None]).sum(axis=0), 1)
    mean = np.where(known & train[:, None], columns, 0.0).sum(axis=0) / counted
    off = np.where(known, columns - mean, 0.0)
    sd = np.sqrt((off[train] ** 2).sum(axis=0) / counted)
    return off / np.where(sd > 0, sd, 1.0)
