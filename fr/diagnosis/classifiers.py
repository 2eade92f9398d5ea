"""Does a failure tell how its model was trained? Classifiers of failures, judged on what they have not seen."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

CLASSIFIERS = ("logistic", "trees")
# Fits are small, and the last bits of what several threads sum depend on their number.
_ONE_THREAD = threadpool_limits.wrap(limits=1)


@dataclasses.dataclass(frozen=True)
class RunsLeftOut:
    """Accuracy on each training run of what has learned from the other runs, and what labels by chance give.

    `null`, `low`, `high` are mean and 95 % over methods dealt to the runs anew, p is one-sided; there are
    `labellings` ways to deal them, so that p cannot fall far below one over their number.
    """

    accuracy: Float[np.ndarray, "R"]
    null: float
    low: float
    high: float
    p: float
    labellings: int


@_ONE_THREAD
def fold_accuracy(
    features: Float[np.ndarray, "N F"],
    target: Shaped[np.ndarray, "N"],
    fold: Int[np.ndarray, "N"],
    classifier: str,
) -> Float[np.ndarray, "K"]:
    """Accuracy on every fold of a classifier (of CLASSIFIERS) that has learned from the others.

    Rows of one problem belong into one fold. High accuracy says that failures of these models can be told
    apart; where a method is one training run it cannot say that the method is what tells them.
    """
    accuracy = []
    for k in np.unique(fold):
        model = _classifier(classifier).fit(features[fold != k], target[fold != k])
        accuracy.append(model.score(features[fold == k], target[fold == k]))
    return np.array(accuracy)


@_ONE_THREAD
def leave_run_out(
    features: Float[np.ndarray, "N F"],
    run: Int[np.ndarray, "N"],
    methods: Sequence[str],
    fold: Int[np.ndarray, "N"],
    draws: int,
    rng: np.random.Generator,
) -> RunsLeftOut:
    """Predict the method of every failure by logistic regression from other runs' failures on other problems.

    `methods[r]` is how run r was trained. Runs of a method weigh the same in learning, and so do methods. With
    few runs chance is below one over the number of methods: the method of the run that is held out is the
    rarer among the others. Hence the null: `draws` times methods are dealt to the runs by chance. Raises
    ValueError if a method has a single run.
    """
    count = Counter(methods)
    if min(count.values()) < 2 or len(count) < 2:
        raise ValueError(
            "two methods or more, each of two runs or more, are needed to leave one out"
        )
    found: dict[tuple[str, ...], np.ndarray] = {}

    def judge(dealt: tuple[str, ...]) -> np.ndarray:
        if dealt not in found:
            found[dealt] = _run_accuracy(features, run, np.array(dealt), fold)
        return found[dealt]

    seen = judge(tuple(methods))
    null = np.array(
        [judge(tuple(rng.permutation(methods).tolist())).mean() for _ in range(draws)]
    )
    low, high = np.quantile(null, (0.025, 0.975))
    p = (1 + int((null >= seen.mean()).sum())) / (1 + draws)
    ways = math.factorial(len(methods)) // math.prod(
        map(math.factorial, count.values())
    )
    return RunsLeftOut(seen, float(null.mean()), float(low), float(high), p, ways)


def _run_accuracy(
    features: np.ndarray, run: np.ndarray, methods: np.ndarray, fold: np.ndarray
) -> Float[np.ndarray, "R"]:
    """Of each run, the share of its failures whose method is told right."""
    target, right = methods[run], np.zeros(len(run))
    for r in range(len(methods)):
        for k in np.unique(fold[run == r]):
            train, test = (run != r) & (fold != k), (run == r) & (fold == k)
            model = _classifier("logistic")
            weight = _weights(run[train], methods)
            model.fit(
                features[train], target[train], logisticregression__sample_weight=weight
            )
            right[test] = model.predict(features[test]) == target[test]
    return np.array([right[run == r].mean() for r in range(len(methods))])


def _weights(run: np.ndarray, methods: np.ndarray) -> Float[np.ndarray, "N"]:
    """Mean 1; the same sum for every method, and within it for every run."""
    rows = np.bincount(run, minlength=len(methods))
    runs = {method: int((rows[methods == method] > 0).sum()) for method in set(methods)}
    weight = 1 / (rows[run] * np.array([runs[method] for method in methods])[run])
    return weight / weight.mean()


def _classifier(name: str):
    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression())
    return GradientBoostingClassifier(n_estimators=50, max_depth=2, random_state=0)


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
