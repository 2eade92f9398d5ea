"""Simulated tables of failed problems with a planted best policy."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from fr.profiles import FEATURES, OPERATORS, Profiles
from fr.routing.rule import RULE

_ROLLOUTS = 16  # of a problem; the share that failed follows from retry's true rate


@dataclasses.dataclass(frozen=True)
class Landscape:
    """Settings of a simulated table; effects are in logits of the rescue rate.

    The planted policy takes the operator that RULE names for the largest feature. This
    operator alone is better by `effect` on the problem.
    """

    problems: int = 200  # N
    attempts: int = 10  # per problem and operator
    effect: float = 0.0
    blur: float = 0.0  # sd of the noise added to a feature before it is seen
    operators: tuple[float, ...] = (-1.0,) * len(
        OPERATORS
    )  # mean logit of each of OPERATORS
    problem_sd: float = 1.5  # of a problem's difficulty
    pair_sd: float = 0.0  # of problem x operator: differences that no feature tells


@dataclasses.dataclass(frozen=True)
class _Simulated:
    """A simulated table, and the truth that a router cannot read."""

    profiles: Profiles
    rates: Float[np.ndarray, "N O"]  # true
    best: Int[np.ndarray, "N"]  # the planted policy's choice

    def lift(self, choice: Int[np.ndarray, "N"]) -> float:
        """Compute the true lift of choices over the best fixed operator.

        Args:
            choice: index of the chosen operator of each problem, [N].

        Returns:
            Difference of mean true rescue rates, a share.
        """
        taken = np.take_along_axis(self.rates, choice[:, None], axis=1)
        return float(taken.mean() - self.rates.mean(axis=0).max())


def simulate(
    landscape: Landscape, rng: np.random.Generator, cell: str = "model|task"
) -> _Simulated:
    """Draw problems, their true rates and their attempts.

    Args:
        landscape: the settings.
        rng: random stream.
        cell: name of the cell, `model|task`.

    Returns:
        The table and its truth; every problem has failed at least once.
    """
    shape = landscape.problems, len(OPERATORS)
    clear = rng.normal(size=(landscape.problems, len(FEATURES)))
    targets = np.array([OPERATORS.index(RULE[name]) for name in FEATURES])
    best = targets[clear.argmax(axis=1)]
    problem = landscape.problem_sd * rng.normal(size=(landscape.problems, 1))
    logits = (
        np.array(landscape.operators)
        + problem
        + landscape.pair_sd * rng.normal(size=shape)
    )
    logits[np.arange(landscape.problems), best] += landscape.effect
    rates = 1 / (1 + np.exp(-logits))
    correct = rng.binomial(landscape.attempts, rates)
    failed = np.maximum(
        1, rng.binomial(_ROLLOUTS, 1 - rates[:, OPERATORS.index("retry")])
    )
    profiles = Profiles(
        cell,
        tuple(f"{cell} {i}" for i in range(landscape.problems)),
        failed,
        clear + landscape.blur * rng.normal(size=clear.shape),
        OPERATORS,
        correct / landscape.attempts,
        np.full(shape, landscape.attempts),
        {"failed_share": tuple(repr(float(n / _ROLLOUTS)) for n in failed)},
    )
    return _Simulated(profiles, rates, best)


def reader(found: _Simulated) -> Int[np.ndarray, "N"]:
    """Choose by the planted rule from the features as they are seen.

    No router can do better.

    Args:
        found: the simulated table.

    Returns:
        Index of the chosen operator of each problem, [N].
    """
    targets = np.array([OPERATORS.index(RULE[name]) for name in FEATURES])
    return targets[found.profiles.features.argmax(axis=1)]
