"""A linear probe for correctness on hidden states, scored out of fold.

It learns from graded rollouts of other problems, as a learned router learns from other
problems' attempts: no rollout of a problem decides the numbers of that problem.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

_PENALTY = 0.01  # inverse strength of the L2 penalty on standardised states


@threadpool_limits.wrap(limits=1)
def probe_out_of_fold(
    states: Float[np.ndarray, "N D"],
    right: Bool[np.ndarray, "N"],
    problems: Sequence[str],
    folds: int,
    seed: int,
    along: Mapping[int, Float[np.ndarray, "_ D"]] = MappingProxyType({}),
) -> tuple[Float[np.ndarray, "N"], dict[int, Float[np.ndarray, "_"]]]:
    """P(right | state), sigma(w h + b), by a logistic regression of the other folds.

    Args:
        states: A state of each of N rollouts.
        right: Whether each rollout is right.
        problems: Problem of each rollout; a problem is in one fold.
        folds: Number of folds of the problems.
        seed: Seed of the folds.
        along: Further states of some rollouts, by index: one per token.

    Returns:
        Probabilities, and the probabilities along some rollouts; NaN where all rollouts
        of the other folds are right, or none is.
    """
    names = sorted(set(problems))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: i % folds for i, place in enumerate(order)}
    fold = np.array([fold_of[problem] for problem in problems])
    found = np.full(len(right), np.nan)
    further = {i: np.full(len(own), np.nan) for i, own in along.items()}
    for k in range(folds):
        here, others = fold == k, fold != k
        if here.any() and len(set(right[others])) == 2:
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=500)
            )
            model.fit(states[others], right[others])
            found[here] = model.predict_proba(states[here])[:, 1]
            for i in further:
                if here[i] and len(along[i]):
                    further[i] = model.predict_proba(along[i])[:, 1]
    return found, further
