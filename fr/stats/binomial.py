"""True rates of operators: a hierarchical binomial model of attempts at problems."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import betaln, ndtri

_PROBLEM = np.linspace(-4, 4, 33)  # nodes of a standard normal, for the problem
_PAIR = np.linspace(-3, 3, 13)  # and for problem × operator
# In logits: a problem that is always or never solved has no finite one.
_LARGEST_SD = 5.0
_LIFTS = (0.02, 0.05, 0.10)  # whose number of problems is computed
_ATTEMPTS = (10, 30, 100)  # at these attempts per operator


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """logit p[n, o] = operator[o] + problem[n] + pair[n, o], the last two normal.

    Attributes:
        operators: [O] mean logit of each operator.
        problem_sd: sd of the problems, in logits.
        pair_sd: sd of problem × operator, in logits.
    """

    operators: Float[np.ndarray, "O"]
    problem_sd: float
    pair_sd: float


@dataclasses.dataclass(frozen=True)
class BetaBinomial:
    """Beta distribution of one operator's true rates over problems.

    Attributes:
        mean: mean rate, a share.
        sd: standard deviation over problems.
        a: first parameter.
        b: second parameter.
    """

    mean: float
    sd: float
    a: float
    b: float


def fit_beta_binomial(
    correct: Int[np.ndarray, "N"], attempts: Int[np.ndarray, "N"]
) -> BetaBinomial:
    """Fit a Beta distribution of rates under binomial attempts by maximum likelihood.

    Args:
        correct: right attempts at each problem.
        attempts: all attempts at each problem.

    Returns:
        The distribution.
    """

    def loss(logs: Float[np.ndarray, "2"]) -> float:
        a, b = np.exp(logs)
        return -float(
            (betaln(a + correct, b + attempts - correct) - betaln(a, b)).sum()
        )

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-6, 8)] * 2)
    a, b = (float(value) for value in np.exp(found.x))
    mean = a / (a + b)
    return BetaBinomial(mean, float(np.sqrt(mean * (1 - mean) / (a + b + 1))), a, b)


def fit_hierarchy(
    correct: Int[np.ndarray, "N O"], attempts: Int[np.ndarray, "N O"]
) -> Hierarchy:
    """Fit the hierarchical model by maximum marginal likelihood on a grid.

    Args:
        correct: right attempts of each problem and operator.
        attempts: all attempts of each problem and operator.

    Returns:
        The model.
    """
    # Problems with the same counts are computed once.
    counts, repeated = np.unique(
        np.stack([correct, attempts], -1), axis=0, return_counts=True
    )
    correct, attempts = counts[..., 0], counts[..., 1]
    cells = _distinct(correct, attempts)
    share = (correct.sum(0) + 0.5) / (attempts.sum(0) + 1)

    def model(values: np.ndarray) -> Hierarchy:
        return Hierarchy(values[:-2], *np.exp(values[-2:]))

    def loss(values: np.ndarray) -> float:
        joint = _given_problem(model(values), cells).sum(axis=1)  # [N, Q]
        return -float(repeated @ _log_mean(joint, _weights(_PROBLEM)))

    start = np.concatenate(
        [1.5 * np.log(share / (1 - share)), [np.log(1.5), np.log(0.5)]]
    )
    bounds = [(-12, 12)] * len(share) + [(np.log(0.02), np.log(_LARGEST_SD))] * 2
    options = {"maxiter": 40}
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options=options)
    return model(found.x)


def draw_rates(
    model: Hierarchy,
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "D N O"]:
    """Draw true rates from their posterior, given the attempts.

    Args:
        model: the fitted hierarchy.
        correct: right attempts of each problem and operator.
        attempts: all attempts of each problem and operator.
        draws: number of draws, D.
        rng: random stream.

    Returns:
        Rates, as shares.
    """
    table = _given_problem(model, _distinct(correct, attempts))  # [N, O, Q]
    problem = table.sum(axis=1) + np.log(_weights(_PROBLEM))
    u = _sample(problem, draws, rng)  # [D, N]
    logits = _grid(model)  # [O, Q, K]
    pair = _log_likelihood(logits, correct, attempts) + np.log(_weights(_PAIR))
    n, o = np.ogrid[: correct.shape[0], : correct.shape[1]]
    chosen = pair[n, o, u[..., None]]  # [D, N, O, K]
    k = _sample(chosen, 1, rng)[0]
    return 1 / (1 + np.exp(-logits[o, u[..., None], k]))


def power(rates: Float[np.ndarray, "D N O"], tried: int) -> dict:
    """Compute the lift over the best fixed operator that a number of problems shows.

    For a router that departs on every problem; one that departs on a share s of them
    needs about s times as many problems. The variance of a difference of two operators
    has two parts: true rates over problems, and attempts.

    Args:
        rates: draws of true rates.
        tried: attempts per operator at hand.

    Returns:
        {"problems", "attempts", "detectable", "needed"}: shares; `detectable` is the
        lift that these problems show with 80 % power at 5 %, `needed` the problems for
        each lift by attempts per operator.
    """
    fixed = int(rates.mean(axis=(0, 1)).argmax())
    others = [o for o in range(rates.shape[-1]) if o != fixed]
    gap = rates[..., others] - rates[..., [fixed]]
    true = float(gap.var(axis=1).mean())
    each = rates * (1 - rates)
    noise = float((each[..., others] + each[..., [fixed]]).mean())
    reach = ndtri(0.975) + ndtri(0.8)

    def needed(lift: float, attempts: int) -> int:
        return math.ceil((reach / lift) ** 2 * (true + noise / attempts))

    problems = rates.shape[1]
    return {
        "problems": problems,
        "attempts": tried,
        "detectable": reach * math.sqrt((true + noise / tried) / problems),
        "needed": [
            {"lift": lift, **{str(n): needed(lift, n) for n in _ATTEMPTS}}
            for lift in _LIFTS
        ],
    }


def _weights(nodes: Float[np.ndarray, "Q"]) -> Float[np.ndarray, "Q"]:
    mass = np.exp(-0.5 * nodes**2)
    return mass / mass.sum()


def _grid(model: Hierarchy) -> Float[np.ndarray, "O Q K"]:
    spread = model.problem_sd * _PROBLEM[:, None] + model.pair_sd * _PAIR
    return model.operators[:, None, None] + spread


def _log_likelihood(
    logits: np.ndarray, correct: np.ndarray, attempts: np.ndarray
) -> np.ndarray:
    counts = correct[..., None, None], attempts[..., None, None]
    return counts[0] * logits - counts[1] * np.logaddexp(0, logits)


def _distinct(
    correct: Int[np.ndarray, "N O"], attempts: Int[np.ndarray, "N O"]
) -> tuple[Int[np.ndarray, "U 3"], Int[np.ndarray, "N O"]]:
    """Distinct (operator, right, attempts), and where each pair of the table is."""
    which = np.broadcast_to(np.arange(correct.shape[1]), correct.shape)
    triples = np.stack([which, correct, attempts], axis=-1).reshape(-1, 3)
    found, index = np.unique(triples, axis=0, return_inverse=True)
    return found, index.reshape(correct.shape)


def _given_problem(model: Hierarchy, cells) -> Float[np.ndarray, "N O Q"]:
    (which, correct, attempts), index = cells[0].T, cells[1]
    logs = _log_likelihood(_grid(model)[which], correct, attempts)
    return _log_mean(logs, _weights(_PAIR))[index]


def _log_mean(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    top = logs.max(axis=-1, keepdims=True)
    return np.log(np.exp(logs - top) @ weights) + top[..., 0]


def _sample(logs: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Indices [draws, ...] with chances proportional to exp(logs)."""
    chances = np.exp(logs - logs.max(axis=-1, keepdims=True)).cumsum(axis=-1)
    at = rng.random((draws, *chances.shape[:-1], 1)) * chances[..., -1:]
    return (at > chances).sum(axis=-1)
