"""The router in closed form: posterior mean rescue rates of a mixed logistic model."""

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.routing.baselines import fixed_gains, groups_of
from fr.routing.dataset import RoutingData
from fr.stats.mixed_logistic import fit_mixed

Statistics = dict[str, tuple[float | None, float | None]]  # mean and sd by column
ANYWHERE = ""  # stands for a new cell: all training rows together


def standard_columns(
    data: RoutingData, train: Bool[np.ndarray, "N"]
) -> tuple[dict[str, Float[np.ndarray, "N"]], dict[str, Statistics]]:
    """Standardise the columns of each cell by its training rows, or else by its own.

    Args:
        data: failed problems; hidden columns become 0, so that shapes agree.
        train: rows to learn from.

    Returns:
        Standard scores of all rows by column, and the statistics by cell and ANYWHERE.
    """
    scores = {}
    statistics: dict[str, Statistics] = {p.cell: {} for p in data.cells}
    statistics[ANYWHERE] = {}
    for name, values in data.columns.items():
        statistics[ANYWHERE][name] = mean_and_sd(values[train])
        scores[name] = np.zeros(len(data))
        for c, profiles in enumerate(data.cells):
            here = data.cell == c
            rows = here & train if (here & train).any() else here
            known = mean_and_sd(values[rows])
            statistics[profiles.cell][name] = known
            scores[name][here] = standardise(values[here], *known)
    return scores, statistics


def mean_and_sd(values: Float[np.ndarray, "M"]) -> tuple[float | None, float | None]:
    """Compute the mean and the population sd of the known values.

    Args:
        values: NaN where unknown.

    Returns:
        (mean, sd); (None, None) without a known value.
    """
    known = values[~np.isnan(values)]
    with np.errstate(over="ignore"):  # infinite: the column's scores are 0
        return (float(known.mean()), float(known.std())) if len(known) else (None, None)


def standardise(
    values: Float[np.ndarray, "N"], mean: float | None, sd: float | None
) -> Float[np.ndarray, "N"]:
    """Compute standard scores.

    Args:
        values: NaN where unknown.
        mean: None: unknown.
        sd: None: unknown.

    Returns:
        Scores; 0 where a value or the statistics are unknown, or nothing varies.
    """
    if mean is None or not sd:
        return np.zeros(len(values))
    return np.nan_to_num((values - mean) / sd)


def choose_by_posterior(
    data: RoutingData, train: Bool[np.ndarray, "N"]
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N O"]]:
    """Choose the operator with the largest posterior mean gain.

    Mean rates are the look-up's by model, so that the choice departs from the best
    fixed operator of the model only by what the columns tell.

    Args:
        data: failed problems of a population.
        train: rows to learn from.

    Returns:
        Index of each row's operator (O for stop), and the posterior mean rescue rates.
    """
    columns, attempts, _ = _inputs(data, train)
    mass, values = data.mass * train, data.population_rates
    prices = data.prices
    gains, rates = fixed_gains(data, train, "model"), np.zeros(values.shape)
    place, firsts = data.places("model")
    if mass.any():
        model, _ = fit_mixed(columns, place, values, attempts, mass)
        for g, row in enumerate(firsts):
            groups = (group & train for group in groups_of(data, row, "model"))
            learned = next(group for group in groups if mass[group].any())
            known = np.where(np.isfinite(gains[g, :-1]), gains[g, :-1] + prices, 0.0)
            level = model.level(columns[learned], known, mass[learned])
            rates[place == g] = model.rates(level, columns[place == g])
    # Rounded as the look-up's gains are: without weights the two agree, ties included.
    offered = np.pad(np.round(rates - prices, 9), ((0, 0), (0, 1)))
    offered = np.where(np.isfinite(gains[place]), offered, -np.inf)
    return offered.argmax(axis=1), rates


def column_scores(data: RoutingData) -> Float[np.ndarray, "M F O"] | None:
    """Score of the columns' weights between operators, per row, at weights of 0.

    u[n] = x[n] ⊗ (r[n] − mean over operators of r[n]): r is the inverse covariance of a
    row's logits times their residuals under place + operator + problem + pair, times
    its mass; x its standard columns, centred within each place. ‖Σ_n u[n]‖² is the
    score of the variances `MixedLogistic.apart` at 0.

    Args:
        data: failed problems of a population; M of them have mass.

    Returns:
        The scores, r = 0 for operators that a place lacks; None without a column.
    """
    kept = data.mass > 0
    columns, attempts, place = _inputs(data, kept)
    mass, columns, place = data.mass[kept], columns[kept], place[kept]
    if not columns.any():
        return None
    rates = data.population_rates[kept]
    _, pull = fit_mixed(columns[:, :0], place, rates, attempts[kept], mass)
    here = np.eye(place.max() + 1)[place]
    means = here.T @ (mass[:, None] * columns)
    means /= np.maximum(mass @ here, 1e-12)[:, None]
    residual = mass[:, None] * (pull - pull.mean(axis=1, keepdims=True))
    return (columns - here @ means)[:, :, None] * residual[:, None, :]


def _inputs(
    data: RoutingData, train: Bool[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "N F"], Int[np.ndarray, "N O"], Int[np.ndarray, "N"]]:
    """Columns, attempts (one, of a deterministic operator) and places of all rows."""
    scores, _ = standard_columns(data, train)
    told = [values for values in scores.values() if values[train].any()]
    columns = np.column_stack([np.zeros(len(data)), *told])
    attempts = np.where(data.available, data.attempts, 0)
    for c, profiles in enumerate(data.cells):
        same = np.array(profiles.operators)[profiles.repeats_itself]
        at = np.ix_(data.cell == c, np.isin(data.operators, same))
        attempts[at] = np.minimum(attempts[at], 1)
    return columns, attempts, data.places("model")[0]
