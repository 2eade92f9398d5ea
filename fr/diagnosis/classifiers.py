"""Classifiers of failures by the training of their model, scored out of sample.

N failures, F features, R training runs, K folds or causes.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

CLASSIFIERS = ("logistic", "trees")
# The last bits of a sum depend on the number of threads, and these fits are small.
_ONE_THREAD = threadpool_limits.wrap(limits=1)


@dataclasses.dataclass(frozen=True)
class RunsLeftOut:
    """Accuracy on each training run of a classifier that learned from other runs."""

    accuracy: Float[np.ndarray, "R"]  # share of the run's failures, in [0, 1]
    null: float  # mean accuracy where methods are dealt to the runs at random
    low: float  # 95 % of the random deals are between `low` and `high`
    high: float  # upper end
    p: float  # one-sided, of the mean accuracy
    labellings: int  # ways to deal the methods: p cannot fall far below 1 / labellings


@_ONE_THREAD
def fold_accuracy(
    features: Float[np.ndarray, "N F"],
    target: Shaped[np.ndarray, "N"],
    fold: Int[np.ndarray, "N"],
    classifier: str,
) -> Float[np.ndarray, "K"]:
    """Accuracy on every fold of a classifier that learned from the other folds.

    High accuracy means that failures of these models can be told apart. Where a method
    has one training run it does not mean that the method makes the difference.

    Args:
        features: Features of the failures, [N, F].
        target: Class of each failure, [N].
        fold: Fold of each failure, [N]; rows of one problem belong to one fold.
        classifier: One of CLASSIFIERS.

    Returns:
        Share of each fold's failures that is classified right, [K].
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
    """Predict each failure's method from other runs' failures on other problems.

    The classifier is logistic regression; methods weigh the same in learning, and so do
    the runs of a method. With few runs, chance is below one over the number of methods:
    the method of the run that is held out is rarer among the others. Hence the null, in
    which the methods are dealt to the runs at random.

    Args:
        features: Features of the failures, [N, F].
        run: Training run of each failure, [N], in [0, R).
        methods: Training method of each run, [R].
        fold: Fold of each failure's problem, [N].
        draws: Random deals of the null.
        rng: Source of the deals.

    Returns:
        Accuracy by run, and the null.

    Raises:
        ValueError: A method has a single run, or there is a single method.
    """
    count = Counter(methods)
    if min(count.values()) < 2 or len(count) < 2:
        raise ValueError(
            "leaving a run out needs two or more methods of two or more runs each"
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
    features: Float[np.ndarray, "N F"],
    run: Int[np.ndarray, "N"],
    methods: Shaped[np.ndarray, "R"],
    fold: Int[np.ndarray, "N"],
) -> Float[np.ndarray, "R"]:
    """Share of each run's failures whose method is predicted right."""
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


def _weights(
    run: Int[np.ndarray, "N"], methods: Shaped[np.ndarray, "R"]
) -> Float[np.ndarray, "N"]:
    """Weights of mean 1: equal sums per method, and per run within a method."""
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
    """Predict the cause of each failure from other runs' failures on other problems.

    The classifier is logistic regression with causes of equal weight. A cause that only
    the held-out run has cannot be predicted.

    Args:
        columns: Signals of the failures, [N, F]; NaN becomes the training mean.
        cause: Cause of each failure, [N], in [0, K).
        run: Unit that is held out together, such as one seed of all causes, [N].
        fold: Fold of each failure's problem, [N].

    Returns:
        Predicted cause, [N]; -1 where fewer than two causes could be learned.
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
    weights: Shaped[np.ndarray, "R N"],
) -> Float[np.ndarray, "R K K"]:
    """Confusion matrix of causes under several weightings of the failures.

    The mean of the diagonal is the balanced accuracy, 1 / K by chance.

    Args:
        told: Predicted cause, [N]; -1 for no prediction.
        cause: True cause, [N].
        causes: Number of causes, K.
        weights: Weight of each failure under each resample, [R, N].

    Returns:
        Share of each true cause (rows) that is predicted as each cause (columns),
        [R, K, K]; NaN in rows without a failure.
    """
    is_told, is_true = (np.eye(causes)[labels] for labels in (told, cause))
    is_told[told < 0] = 0.0
    counts = np.einsum("rn,nt,np->rtp", weights, is_true, is_told, optimize=True)
    with np.errstate(invalid="ignore"):
        return counts / (weights @ is_true)[:, :, None]


def _standard(
    columns: Float[np.ndarray, "N F"], train: Bool[np.ndarray, "N"]
) -> Float[np.ndarray, "N F"]:
    """Standard scores by the training rows; NaN becomes 0."""
    known = ~np.isnan(columns)
    counted = np.maximum((known & train[:, None]).sum(axis=0), 1)
    mean = np.where(known & train[:, None], columns, 0.0).sum(axis=0) / counted
    off = np.where(known, columns - mean, 0.0)
    sd = np.sqrt((off[train] ** 2).sum(axis=0) / counted)
    return off / np.where(sd > 0, sd, 1.0)
