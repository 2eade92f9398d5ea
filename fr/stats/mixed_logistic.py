"""Mixed logistic regression of rescue rates, shrunk by empirical Bayes.

The model of the closed-form router: no seed and no early stop.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

_STEPS = 30  # of the mode and of the variances together
_SMALLEST = 1e-6  # a term with a smaller variance is not there
_BOUND = 8.0  # of a logit


@dataclasses.dataclass(frozen=True)
class MixedLogistic:
    """Weights of columns by operator, and the variances that shrink them (logits²).

    Attributes:
        weights: [F, O] weights of the columns.
        apart: [F] variance of a column's weights between operators: what reading it is
            worth; 0 if the column changes no choice.
        together: [F] variance of a column's effect on all operators alike.
        problem: variance of unread problem effects.
        pair: variance of unread problem × operator effects.
    """

    weights: Float[np.ndarray, "F O"]
    apart: Float[np.ndarray, "F"]
    together: Float[np.ndarray, "F"]
    problem: float
    pair: float

    def rates(
        self, level: Float[np.ndarray, "*N O"], columns: Float[np.ndarray, "N F"]
    ) -> Float[np.ndarray, "N O"]:
        """Compute mean rates of problems of which only the columns are known.

        E σ(η + ε) ≈ σ(η / √(1 + π/8 Var ε))

        Args:
            level: logits of an average failure.
            columns: standard scores of the failures.

        Returns:
            Rescue rates, as shares.
        """
        spread = np.sqrt(1 + np.pi / 8 * (self.problem + self.pair))
        logits = (level + columns @ self.weights) / spread
        return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))

    def level(
        self,
        columns: Float[np.ndarray, "M F"],
        means: Float[np.ndarray, "O"],
        mass: Float[np.ndarray, "M"],
    ) -> Float[np.ndarray, "O"]:
        """Find the logits at which failures have given mean rates, by bisection.

        Args:
            columns: standard scores of the failures.
            means: the mean rate of each operator.
            mass: weight of each failure.

        Returns:
            The logits: calibration in the large.
        """
        low, high = np.full((2, len(means)), [[-30.0], [30.0]])
        for _ in range(40):
            middle = (low + high) / 2
            below = mass @ self.rates(middle, columns) / mass.sum() < means
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


# Matrices of a few hundred rows: two threads wait for each other.
@threadpool_limits.wrap(limits=1)
def fit_mixed(
    columns: Float[np.ndarray, "N F"],
    place: Int[np.ndarray, "N"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    mass: Float[np.ndarray, "N"],
) -> tuple[MixedLogistic, Float[np.ndarray, "M O"]]:
    """Fit logit p = place × operator + columns · weights[:, o] + problem + pair.

    Problem and pair (problem × operator) are normal with variances of their own, so
    that ten attempts at a problem do not count as ten problems. The weights are normal
    with mean 0; their variances are chosen by marginal likelihood (MacKay's fixed
    point, doi 10.1162/neco.1992.4.3.415) together with the mode (penalised
    quasi-likelihood, doi 10.1080/01621459.1993.10594284).

    Args:
        columns: standard scores; 0 where unknown.
        place: index of each row's cell and model.
        rates: shares of right attempts.
        attempts: number of attempts; 0 marks an operator that a cell lacks.
        mass: weight of each row; rows of 0 are not read.

    Returns:
        The model, and the residuals of the M rows of positive mass times their inverse
        covariance.
    """
    kept = mass > 0
    columns, place, rates, attempts, mass = (
        a[kept] for a in (columns, place, rates, attempts, mass)
    )
    places, place = np.unique(place, return_inverse=True)
    design = np.column_stack([np.eye(len(places))[place], columns])
    count, width = rates.shape[1], columns.shape[1]
    there = attempts > 0
    basis = _contrasts(count)
    pairs = np.tril_indices(count)
    crossed = basis[:, pairs[0]] * basis[:, pairs[1]]
    apart, together = np.full(width, 0.1), np.full(width, 0.1)
    problem, pair = 1.0, 0.05
    eta = np.log((rates * attempts + 0.5) / ((1 - rates) * attempts + 0.5))
    eta = np.where(there, eta, 0.0)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(eta, -_BOUND, _BOUND)))
        information = attempts * p * (1 - p)
        step = np.where(there, (rates - p) / np.maximum(p * (1 - p), 1e-9), 0.0)
        target = eta + step
        share = np.where(there, 1 / (1 / np.maximum(information, 1e-9) + pair), 0.0)
        # Inverse covariance of a row's logits over problem and pair:
        # diag(s) − s sᵀ / (Σ s + 1 / problem).
        whole = (share.sum(axis=1) + 1 / problem)[:, None]
        apply = lambda x: share * (x - (share * x).sum(axis=1, keepdims=True) / whole)
        turned = share @ basis
        inner = share @ crossed - turned[:, pairs[0]] * turned[:, pairs[1]] / whole
        weighted = mass[:, None] * inner
        # Over basis × columns, so that priors are diagonal; the lower triangle.
        precision = np.zeros((count, len(design.T)) * 2)
        spread = (weighted[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        products = (design.T @ spread).reshape(-1, len(pairs[0]), len(design.T))
        precision[pairs[0], :, pairs[1], :] = products.transpose(1, 0, 2)
        prior = np.full(precision.shape[:2], 0.01)
        prior[0, len(places) :], prior[1:, len(places) :] = 1 / together, 1 / apart
        moved = (design.T @ (mass[:, None] * apply(target)) @ basis).T
        found, left = _solve(precision.reshape(moved.size, -1), prior, moved)
        found = found.T @ basis.T
        mean = design @ found
        pull = apply(target - mean)
        random = problem * pull.sum(axis=1, keepdims=True) + pair * pull
        eta = np.clip(mean + random, -_BOUND, _BOUND)
        weights = found[len(places) :]
        level, left = weights.mean(axis=1, keepdims=True), left[:, len(places) :]
        apart = _variance(apart, weights - level, left[1:].sum(axis=0), count - 1)
        together = _variance(together, level * count**0.5, left[0], 1)
        # The sum of the inverse covariance, and its diagonal.
        total = share.sum(axis=1) / (problem * whole[:, 0])
        diagonal = share - share**2 / whole
        squares = (mass * pull.sum(axis=1) ** 2).sum()
        problem *= float(squares / max((mass * total).sum(), 1e-12))
        pair *= float((mass @ pull**2).sum() / max((mass @ diagonal).sum(), 1e-12))
        problem, pair = max(problem, _SMALLEST), max(pair, _SMALLEST)
    tells = apart > 10 * _SMALLEST
    weights = np.where(tells[:, None], weights, weights.mean(axis=1, keepdims=True))
    apart = np.where(tells, apart, 0.0)
    return MixedLogistic(weights, apart, together, problem, pair), pull


def _contrasts(count: int) -> Float[np.ndarray, "O O"]:
    """An orthonormal basis (columns): the mean of operators first, then differences."""
    start = np.eye(count)
    start[:, 0] = 1
    return np.linalg.qr(start)[0]


def _solve(
    precision: Float[np.ndarray, "K K"],
    prior: Float[np.ndarray, "O P"],
    moved: Float[np.ndarray, "O P"],
) -> tuple[Float[np.ndarray, "O P"], Float[np.ndarray, "O P"]]:
    """Mode and variances: (precision + prior)⁻¹ moved, and the inverse's diagonal.

    Only the lower triangle is read. With Cholesky's factor L, the inverse is L⁻ᵀ L⁻¹.
    """
    precision[np.diag_indices(len(precision))] += prior.ravel()
    # LAPACK's upper triangle of the transpose, which needs no copy.
    factor, failed = lapack.dpotrf(precision.T, lower=False, overwrite_a=True)
    inverse, singular = lapack.dtrtri(factor, lower=False, overwrite_c=True)
    if failed or singular:
        raise np.linalg.LinAlgError("the precision is not positive definite")
    inverse = np.triu(inverse)
    found = inverse @ (inverse.T @ moved.ravel())
    variances = (inverse**2).sum(axis=1)
    return found.reshape(moved.shape), variances.reshape(moved.shape)


def _variance(
    variance,
    weights: Float[np.ndarray, "F O"],
    left: Float[np.ndarray, "F"],
    degrees: int,
) -> Float[np.ndarray, "F"]:
    """MacKay's update: squared weights per determined degree of freedom."""
    determined = np.maximum(degrees - left / variance, 1e-9)
    return np.clip((weights**2).sum(axis=1) / determined, _SMALLEST, 25.0)
