"""The rates behind the attempts: a hierarchical binomial model, true oracle, and how sure a label is."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import betaln

from fr.diagnosis.labels import LABELS, STEERABLE, counted, label

_PROBLEM = np.linspace(-4, 4, 33)  # nodes of a standard normal, for the problem
_PAIR = np.linspace(-3, 3, 13)  # and for problem x operator
_LARGEST_SD = 5.0  # in logits; a problem that is always or never solved has no finite one


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """logit p = operator + problem + problem x operator, the last two normal with mean 0 (METHOD 1) [ours]."""

    operators: Float[np.ndarray, "O"]
    problem_sd: float
    pair_sd: float


@dataclasses.dataclass(frozen=True)
class BetaBinomial:
    """An operator's true rates over problems: their mean, their sd, and a, b of their Beta distribution."""

    mean: float
    sd: float
    a: float
    b: float


def fit_beta_binomial(correct: Int[np.ndarray, "N"], attempts: Int[np.ndarray, "N"]) -> BetaBinomial:
    """Maximum likelihood of a Beta distribution of rates under binomial attempts."""

    def loss(logs: Float[np.ndarray, "2"]) -> float:
        a, b = np.exp(logs)
        return -float((betaln(a + correct, b + attempts - correct) - betaln(a, b)).sum())

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-6, 8)] * 2)
    a, b = (float(value) for value in np.exp(found.x))
    mean = a / (a + b)
    return BetaBinomial(mean, float(np.sqrt(mean * (1 - mean) / (a + b + 1))), a, b)


def fit_hierarchy(correct: Int[np.ndarray, "N O"], attempts: Int[np.ndarray, "N O"]) -> Hierarchy:
    """Maximum marginal likelihood on a grid; problems with the same counts are computed once."""
    counts, repeated = np.unique(np.stack([correct, attempts], -1), axis=0, return_counts=True)
    correct, attempts = counts[..., 0], counts[..., 1]
    share = (correct.sum(0) + 0.5) / (attempts.sum(0) + 1)

    def model(values: np.ndarray) -> Hierarchy:
        return Hierarchy(values[:-2], *np.exp(values[-2:]))

    def loss(values: np.ndarray) -> float:
        joint = _given_problem(model(values), correct, attempts).sum(axis=1)  # [N, Q]
        return -float(repeated @ _log_mean(joint, _weights(_PROBLEM)))

    start = np.concatenate([1.5 * np.log(share / (1 - share)), [np.log(1.5), np.log(0.5)]])
    bounds = [(-12, 12)] * len(share) + [(np.log(0.02), np.log(_LARGEST_SD))] * 2
    return model(minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}).x)


def draw_rates(
    model: Hierarchy,
    correct: Int[np.ndarray, "N O"],
    attempts: Int[np.ndarray, "N O"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "D N O"]:
    """True rates of every problem, drawn from what its attempts leave possible under the model."""
    table = _given_problem(model, correct, attempts)  # [N, O, Q]
    problem = table.sum(axis=1) + np.log(_weights(_PROBLEM))
    u = _sample(problem, draws, rng)  # [D, N]
    logits = _grid(model)  # [O, Q, K]
    pair = _log_likelihood(logits, correct, attempts) + np.log(_weights(_PAIR))  # [N, O, Q, K]
    n, o = np.ogrid[: correct.shape[0], : correct.shape[1]]
    chosen = pair[n, o, u[..., None]]  # [D, N, O, K]
    k = _sample(chosen, 1, rng)[0]
    return 1 / (1 + np.exp(-logits[o, u[..., None], k]))


def label_posterior(
    rates: Float[np.ndarray, "D N O"], operators: tuple[str, ...], margin: float, hard: float
) -> Float[np.ndarray, "N 3"]:
    """Probability of each of LABELS for the true rates; best < margin counts as beyond reach, since no true
    rate is 0 [ours].
    """
    best = rates[..., counted(operators)].max(axis=-1, keepdims=True)
    codes = label(np.where(best < margin, 0.0, rates), operators, margin, hard)
    return np.stack([(codes == code).mean(axis=0) for code in range(len(LABELS))], axis=-1)


def label_stability(
    rates: Float[np.ndarray, "D N O"],
    operators: tuple[str, ...],
    margin: float,
    hard: float,
    numbers: tuple[int, ...],
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """For each number of attempts an operator: how often two fresh sets of them give a problem the same label,
    how many of them all it calls steerable, and how many of those it calls so would be by the true rates.
    """
    true = label(rates, operators, margin, hard) == STEERABLE
    found = []
    for n in numbers:
        one, other = (label(rng.binomial(n, rates) / n, operators, margin, hard) for _ in range(2))
        called = one == STEERABLE
        right = float((called & true).sum() / max(1, called.sum()))
        found.append({
            "attempts": n, "same": float((one == other).mean()), "steerable": float(called.mean()), "right": right
        })  # fmt: skip
    return found


def _weights(nodes: Float[np.ndarray, "Q"]) -> Float[np.ndarray, "Q"]:
    mass = np.exp(-0.5 * nodes**2)
    return mass / mass.sum()


def _grid(model: Hierarchy) -> Float[np.ndarray, "O Q K"]:
    spread = model.problem_sd * _PROBLEM[:, None] + model.pair_sd * _PAIR
    return model.operators[:, None, None] + spread


def _log_likelihood(logits: np.ndarray, correct: np.ndarray, attempts: np.ndarray) -> np.ndarray:
    counts = correct[..., None, None], attempts[..., None, None]
    return counts[0] * logits - counts[1] * np.logaddexp(0, logits)


def _given_problem(model: Hierarchy, correct, attempts) -> Float[np.ndarray, "N O Q"]:
    return _log_mean(_log_likelihood(_grid(model), correct, attempts), _weights(_PAIR))


def _log_mean(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    top = logs.max(axis=-1, keepdims=True)
    return np.log(np.exp(logs - top) @ weights) + top[..., 0]


def _sample(logs: Float[np.ndarray, "... K"], draws: int, rng: np.random.Generator) -> np.ndarray:
    """Indices [draws, ...] drawn with chances that are as exp(logs)."""
    chances = np.exp(logs - logs.max(axis=-1, keepdims=True)).cumsum(axis=-1)
    at = rng.random((draws, *chances.shape[:-1], 1)) * chances[..., -1:]
    return (at > chances).sum(axis=-1)
