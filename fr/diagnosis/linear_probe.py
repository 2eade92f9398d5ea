"""A linear probe for correctness on hidden states, scored out of fold.

It learns from graded rollouts of other problems, as a learned router learns from other
problems' attempts: no rollout of a problem decides the numbers of that problem.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

Along = Callable[[int, np.ndarray], np.ndarray]
_PENALTY = 0.01  # inverse strength of the L2 penalty on standardised states


@threadpool_limits.wrap(limits=1)
def probe_out_of_fold(
    states: Float[np.ndarray, "N D"],
    right: Bool[np.ndarray, "N"],
    problems: Sequence[str],
    folds: int,
    seed: int,
) -> tuple[Float[np.ndarray, "N"], Along]:
    """P(right | state), sigma(w h + b), by a logistic regression of the other folds.

    Args:
        states: A state of each of N rollouts.
        right: Whether each rollout is right.
        problems: Problem of each rollout; a problem is in one fold.
        folds: Number of folds of the problems.
        seed: Seed of the folds.

    Returns:
        Probabilities, and a function (index of a rollout, states [T, D]) ->
        probabilities [T] by the regression of its folds. NaN where all rollouts of the
        other folds are right, or none is.
    """
    names = sorted(set(problems))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: i % folds for i, place in enumerate(order)}
    fold = np.array([fold_of[problem] for problem in problems])
    found = np.full(len(right), np.nan)
    models: dict[int, Pipeline] = {}
    for k in range(folds):
        here, others = fold == k, fold != k
        if here.any() and len(set(right[others])) == 2:
            models[k] = make_pipeline(
                StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=500)
            )
            models[k].fit(states[others], right[others])
            found[here] = models[k].predict_proba(states[here])[:, 1]

    def along(i: int, further: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T"]:
        if fold[i] not in models or not len(further):
            return np.full(len(further), np.nan)
        return models[fold[i]].predict_proba(further)[:, 1]

    return found, along
