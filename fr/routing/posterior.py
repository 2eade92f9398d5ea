"""A calibrated router in closed form: posterior mean rescue rates of a binomial model, shrunk by empirical Bayes."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.routing.attempts import deterministic
from fr.routing.fixed import attempt_prices, fixed_gains, groups_of, places_of
from fr.routing.learn import standard_columns
from fr.routing.pool import Pool, Population

# What each router reads, kinds of columns; all know the model and its task.
POSTERIORS = {
    "posterior": ("signal", "nuisance"),
    "posterior_nuisances": ("nuisance",),
    "posterior_permuted": (
        "signal",
        "nuisance",
    ),  # columns permuted over the problems of each cell
}
_STEPS = 30  # of the mode and of the variances together
_SMALLEST = 1e-6  # variance below which a term is not there
_BOUND = 8.0  # of a logit


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Weights of the columns by operator, and the variances by which they were shrunk.

    `apart` [F] is what reading a column is worth: the variance of its weights between the operators; 0: the column
    changes no choice. `together` moves all operators alike. `problem` and `pair` are the variances of what is not
    read: of the problem, and of operator × problem. In logits, squared.
    """

    weights: Float[np.ndarray, "F O"]
    apart: Float[np.ndarray, "F"]
    together: Float[np.ndarray, "F"]
    problem: float
    pair: float

    def rates(
        self, level: Float[np.ndarray, "N O"], columns: Float[np.ndarray, "N F"]
    ) -> np.ndarray:
        """Rescue rates [N, O] at the logits `level` of an average failure: over problems, of which only the
        columns are known, E σ(η + ε) ≈ σ(η / √(1 + π/8 Var ε)).
        """
        spread = np.sqrt(1 + np.pi / 8 * (self.problem + self.pair))
        return 1 / (
            1 + np.exp(-np.clip((level + columns @ self.weights) / spread, -30, 30))
        )

    def level(
        self,
        columns: Float[np.ndarray, "M F"],
        means: Float[np.ndarray, "O"],
        mass: Float[np.ndarray, "M"],
    ) -> Float[np.ndarray, "O"]:
        """Logits at which these failures have these mean rates: calibration in the large."""
        low, high = np.full((2, len(means)), [[-30.0], [30.0]])
        for _ in range(40):
            middle = (low + high) / 2
            below = mass @ self.rates(middle, columns) / mass.sum() < means
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


def fit_posterior(
    columns: Float[np.ndarray, "N F"],
    place: Int[np.ndarray, "N"],
    rates: Float[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    mass: Float[np.ndarray, "N"],
) -> Posterior:
    """logit p[n, o] = place and operator + columns[n] · weights[:, o] + problem n + problem n × operator o.

    The last two are normal with variances of their own, so that ten attempts at a problem do not count as ten
    problems. Weights are normal with mean 0; their two variances a column, common to the operators and between
    them, are chosen by marginal likelihood (MacKay's fixed point, doi 10.1162/neco.1992.4.3.415) together with the
    mode (penalised quasi-likelihood, doi 10.1080/01621459.1993.10594284). No seed and no early stop.

    Args:
        columns: standard scores; 0 where unknown.
        place: index of each row's cell.
        rates: shares of right attempts; attempts of 0 mark an operator that a cell lacks.
        mass: how much each row counts; rows of 0 are not read.
    """
    return _fit(columns, place, rates, attempts, mass)[0]


def told_scores(
    pool: Pool, population: Population, reads: tuple[str, ...]
) -> Float[np.ndarray, "M F O"] | None:
    """What every row that counts adds to the score of the columns' weights between operators, at weights of 0.

    u[n] = x[n] ⊗ (r[n] − mean over operators of r[n]): r is the inverse covariance of a row's logits times their
    residuals under place + operator + problem + problem × operator, times the row's mass, and x the standard
    columns, centred within each place. ‖Σ_n u[n]‖² is the score of the variances `apart` at 0. Operators that a
    place lacks have r = 0. None where there is no column to read.
    """
    columns, attempts, place = _inputs(pool, population.mass > 0, reads)
    kept = population.mass > 0
    mass, columns, place = population.mass[kept], columns[kept], place[kept]
    if not columns.any():
        return None
    _, pull = _fit(columns[:, :0], place, population.rates[kept], attempts[kept], mass)
    here = np.eye(place.max() + 1)[place]
    means = (here.T @ (mass[:, None] * columns)) / np.maximum(mass @ here, 1e-12)[
        :, None
    ]
    residual = mass[:, None] * (pull - pull.mean(axis=1, keepdims=True))
    return (columns - here @ means)[:, :, None] * residual[:, None, :]


def _inputs(pool: Pool, train: Bool[np.ndarray, "N"], reads: tuple[str, ...]):
    """(columns [N, F], attempts [N, O], place [N]) of all rows; columns are standardised by the rows `train`."""
    columns, _ = standard_columns(pool, train, reads)
    columns = np.column_stack(
        [np.zeros(len(pool)), *(c for c in columns.values() if c[train].any())]
    )
    # Attempts of a deterministic operator are one.
    attempts = np.where(pool.available, pool.attempts, 0)
    for c, profiles in enumerate(pool.cells):
        once = np.isin(
            pool.operators, np.array(profiles.operators)[deterministic(profiles)]
        )
        at = np.ix_(pool.cell == c, once)
        attempts[at] = np.minimum(attempts[at], 1)
    return columns, attempts, places_of(pool, "model")[0]


def _fit(
    columns, place, rates, attempts, mass
) -> tuple[Posterior, Float[np.ndarray, "M O"]]:
    """The posterior, and the residuals of the rows of mass above 0 times their inverse covariance."""
    kept = mass > 0
    columns, place, rates, attempts, mass = (
        a[kept] for a in (columns, place, rates, attempts, mass)
    )
    places, place = np.unique(place, return_inverse=True)
    design = np.column_stack([np.eye(len(places))[place], columns])
    count, width = rates.shape[1], columns.shape[1]
    there = attempts > 0
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1).T
    even = np.full((count, count), 1 / count)
    between = np.eye(count) - even
    apart, together = np.full(width, 0.1), np.full(width, 0.1)
    problem, pair = 1.0, 0.05
    eta = np.log((rates * attempts + 0.5) / ((1 - rates) * attempts + 0.5))
    eta = np.where(there, eta, 0.0)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(eta, -_BOUND, _BOUND)))
        information = attempts * p * (1 - p)
        target = eta + np.where(there, (rates - p) / np.maximum(p * (1 - p), 1e-9), 0.0)
        share = np.where(there, 1 / (1 / np.maximum(information, 1e-9) + pair), 0.0)
        # Inverse covariance of a row's logits over problem and pair: diag(s) − s sᵀ / (Σ s + 1 / problem).
        inner = (
            -share[:, :, None]
            * share[:, None, :]
            / (share.sum(axis=1) + 1 / problem)[:, None, None]
        )
        inner[:, np.arange(count), np.arange(count)] += share
        weighted = inner * mass[:, None, None]
        precision = (outer @ weighted.reshape(len(design), -1)).reshape(
            *design.shape[1:] * 2, count, count
        )
        precision = precision.transpose(0, 2, 1, 3)
        for f in range(len(places)):
            precision[f, :, f, :] += 0.01 * np.eye(count)
        for f in range(width):
            precision[len(places) + f, :, len(places) + f, :] += (
                even / together[f] + between / apart[f]
            )
        moved = design.T @ np.einsum("nop,np->no", weighted, target)
        covariance = np.linalg.inv(precision.reshape(moved.size, moved.size))
        found = (covariance @ moved.ravel()).reshape(moved.shape)
        covariance = covariance.reshape(*moved.shape, *moved.shape)
        mean = design @ found
        pull = np.einsum("nop,np->no", inner, target - mean)
        eta = np.clip(
            mean + problem * pull.sum(axis=1, keepdims=True) + pair * pull,
            -_BOUND,
            _BOUND,
        )
        weights = found[len(places) :]
        at = np.arange(len(places), len(found))
        own = covariance[at, :, at, :]
        apart = _variance(
            apart, weights @ between, np.einsum("fop,op->f", own, between), count - 1
        )
        together = _variance(
            together, weights @ even, np.einsum("fop,op->f", own, even), 1
        )
        whole = inner.sum(axis=(1, 2))
        problem *= float(
            (mass * pull.sum(axis=1) ** 2).sum() / max((mass * whole).sum(), 1e-12)
        )
        diagonal = np.einsum("noo->no", inner)
        pair *= float((mass @ pull**2).sum() / max((mass @ diagonal).sum(), 1e-12))
        problem, pair = max(problem, _SMALLEST), max(pair, _SMALLEST)
    weights = np.where((apart > 10 * _SMALLEST)[:, None], weights, weights @ even)
    apart = np.where(apart > 10 * _SMALLEST, apart, 0.0)
    return Posterior(weights, apart, together, problem, pair), pull


def posterior_choice(
    pool: Pool,
    population: Population,
    train: Bool[np.ndarray, "N"],
    reads: tuple[str, ...],
    routing: RoutingConfig,
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N O"]]:
    """The operator of the largest posterior mean gain for every row, and the rescue rates; learned from `train`.

    Mean rates are the look-up's (of the model on its family, else of the cell, of the family, of all), so that the
    choice departs from the best fixed operator of the model only by what the columns tell. The number of operators
    stands for stop, which gains 0.
    """
    columns, attempts, _ = _inputs(pool, train, reads)
    mass, values = population.mass * train, population.rates
    prices = attempt_prices(pool, routing.price)
    gains, rates = (
        fixed_gains(pool, population, train, prices, "model"),
        np.zeros(values.shape),
    )
    place, firsts = places_of(pool, "model")
    if mass.any():
        model = fit_posterior(columns, place, values, attempts, mass)
        for g, row in enumerate(firsts):
            groups = (group & train for group in groups_of(pool, row, "model"))
            learned = next(group for group in groups if mass[group].any())
            known = np.where(np.isfinite(gains[g, :-1]), gains[g, :-1] + prices, 0.0)
            level = model.level(columns[learned], known, mass[learned])
            rates[place == g] = model.rates(level, columns[place == g])
    # Rounded as the look-up's gains are: without weights the two agree, ties included.
    offered = np.where(
        np.isfinite(gains[place]),
        np.pad(np.round(rates - prices, 9), ((0, 0), (0, 1))),
        -np.inf,
    )
    return offered.argmax(axis=1), rates


def _variance(
    variance,
    weights: Float[np.ndarray, "F O"],
    left: Float[np.ndarray, "F"],
    degrees: int,
):
    """MacKay's update: squared weights by the degrees of freedom that the data determine."""
    determined = np.maximum(degrees - left / variance, 1e-9)
    return np.clip((weights**2).sum(axis=1) / determined, _SMALLEST, 25.0)
